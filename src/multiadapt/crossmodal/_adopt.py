"""What was trained for one task, taken over by the network of another task on the same base weights."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from multiadapt.adapted import Adapted, unique
from multiadapt.errors import ArtifactError, SpecError
from multiadapt.types import Site

__all__ = ["Donor", "adopt", "served"]

_log = logging.getLogger("multiadapt")


@dataclass(frozen=True)
class Donor:
    """A saved adapter of a vision-language network."""

    place: str
    method: Mapping[str, Any]
    base: str
    """SHA-256 of the tower that networks of all tasks have."""
    kinds: Mapping[str, str]
    """What the parts of its network read, by name."""
    served: Mapping[str, Sequence[str]]
    """By each adapter's key, the places that it corrects."""
    tensors: Mapping[str, Tensor]


@runtime_checkable
class _Based(Protocol):
    base: str


def served(model: Adapted) -> dict[str, list[str]]:
    """By each adapter's key, the places that it corrects, whatever their columns are called."""
    kinds = model.kinds()
    return {
        key: sorted({_place(s, kinds) for s, a in model.placed.items() if a is adapter})
        for key, adapter in unique(model.placed).items()
    }


def adopt(model: Adapted, donor: Donor, method: Mapping[str, Any], base: str) -> int:
    """Copy into `model` what the donor learned at the same places; how many tensors that are.

    What only one of both tasks has, such as heads or a decoder's own parameters, stays as it was.

    Raises:
        ArtifactError: the methods or the base weights differ (unless base is "other"), or nothing fits.
    """
    if base not in ("same", "other"):
        raise SpecError(f'base must be "same" or "other", got {base!r}')
    if donor.method != method:
        raise ArtifactError(
            f"{donor.place} was trained by {donor.method}, and this fit by {dict(method)}: give the same "
            "method"
        )
    own = model.base if isinstance(model, _Based) else ""
    if donor.base != own and base == "same":
        raise ArtifactError(
            f"{donor.place} was trained on other base weights: the vision tower had hash "
            f"{donor.base[:12] or 'none'}, this one has {own[:12] or 'none'}; name the network that it was "
            'trained on as backbone, or take it over all the same with base="other"'
        )
    found = _matching(model, donor)
    if not found:
        raise ArtifactError(f"{donor.place} has nothing that this network could take over")
    with torch.no_grad():
        for name, (tensor, given) in found.items():
            if tensor.shape != given.shape:
                raise ArtifactError(
                    f"tensor {name!r} of {donor.place} must have shape {tuple(tensor.shape)}, got "
                    f"{tuple(given.shape)}"
                )
            tensor.copy_(given)
    total = len(model.trained_state())
    _log.info("%d of %d trained tensors begin as those of %s", len(found), total, donor.place)
    return len(found)


def _matching(model: Adapted, donor: Donor) -> dict[str, tuple[Tensor, Tensor]]:
    """The model's tensors by name, and what the donor has for them."""
    state, mine = model.trained_state(), served(model)
    home = {_seen_at(place): key for key, places in donor.served.items() for place in places}
    given = {_of_kind(name, donor.kinds): t for name, t in donor.tensors.items()}
    kinds, found = model.kinds(), {}
    for name, tensor in state.items():
        if name.startswith("adapter:"):
            key, _, rest = name.removeprefix("adapter:").rpartition(":")
            theirs = next((home[p] for p in map(_seen_at, mine[key]) if p in home), None)
            other = donor.tensors.get(f"adapter:{theirs}:{rest}")
        else:
            other = given.get(_of_kind(name, kinds)) if ":pooled." not in name else None
        if other is not None:
            found[name] = (tensor, other)
    return found


def _of_kind(name: str, kinds: Mapping[str, str]) -> str:
    """The name of an own parameter with its stream's kind in place of its stream."""
    part, _, rest = name.partition(":")
    stream, _, inner = rest.rpartition(":")
    return f"{part}:{_seen(kinds.get(stream, stream))}:{inner}"


def _seen(kind: str) -> str:
    """One word for pictures and clips: one tower sees both, frame by frame."""
    return "image" if kind == "video" else kind


def _seen_at(place: str) -> str:
    kind, _, rest = place.partition("/")
    return f"{_seen(kind)}/{rest}"


def _place(site: Site, kinds: Mapping[str, str]) -> str:
    return f"{kinds.get(site.stream, site.stream)}/{site.key.removeprefix(site.stream + '/')}"
