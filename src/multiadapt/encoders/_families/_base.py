"""What is known about one kind of network: its cut, its pooled vector, its sites, its guests."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt.encoders import _families
from multiadapt.errors import EncoderError
from multiadapt.types import Convolution, Role, Site

__all__ = [
    "TOWER_LAYERS",
    "Family",
    "Sight",
    "families",
    "family_of",
    "fused",
    "layer_sites",
    "map_sites",
    "transformer_sites",
]

TOWER_LAYERS: Mapping[Role, str] = {
    "query": "encoder.layers.{}.self_attn.q_proj",
    "key": "encoder.layers.{}.self_attn.k_proj",
    "value": "encoder.layers.{}.self_attn.v_proj",
    "out": "encoder.layers.{}.self_attn.out_proj",
    "ffn_in": "encoder.layers.{}.mlp.fc1",
    "ffn_out": "encoder.layers.{}.mlp.fc2",
    "ffn": "encoder.layers.{}.mlp",
    "residual": "encoder.layers.{}.layer_norm2",
    "block": "encoder.layers.{}",
}
"""Where each role lies in the library's vision towers."""


@dataclass(frozen=True)
class Sight:
    """Who looks at whom inside the blocks."""

    mask: Bool[Tensor, "f n"] | None = None
    """False where a token is padding; None: there is none. Guests are not counted here."""
    guests: int = 0
    """So many of the last tokens are guests: they look at the real tokens, by default nobody at them."""
    visibility: Literal["read-only", "full"] = "read-only"

    def pairs(self, state: Float[Tensor, "f n d"]) -> Bool[Tensor, "#f 1 #q k"] | None:
        """True where token q of the state, guests included, looks at k; None: everybody at everybody."""
        if self.guests == 0:
            return None if self.mask is None else self.mask[:, None, None, :]
        tokens, real = state.shape[1], self.mask
        if real is None:
            real = state.new_ones(1, tokens - self.guests, dtype=torch.bool)
        seen = torch.nn.functional.pad(real, (0, self.guests), value=self.visibility == "full")
        return seen[:, None, None, :].expand(-1, 1, tokens, tokens)


class Family(ABC):
    """One opened network, run block by block. Leaves set all fields below in `__init__`."""

    modality: ClassVar[str] = "image"
    classes: ClassVar[Mapping[str, str]]
    """A config's `model_type` to the transformers class that reads it; `timm:Class` for timm's."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Arguments of that class beside the config."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Values of the config that are set before the network is built."""
    known: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Architectures by name, as config values with their `model_type`."""
    hosts: ClassVar[bool] = False
    """Whether guests may walk through its blocks beside the tokens, seeing and not being seen."""
    window: ClassVar[bool] = False
    """Whether the blocks look at padding too, of which then none may be cut off."""

    network: Any
    width: int
    """Width of the pooled vector."""
    blocks: int
    least: int
    """Smallest side of a picture that the network can read, in pixels; 0 for other modalities."""

    @abstractmethod
    def __init__(self, network: Any) -> None: ...

    @abstractmethod
    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        """Stem or embeddings: the state that enters block 0, and which of its tokens are real."""

    @abstractmethod
    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        """The state after block `index`."""

    @abstractmethod
    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        """The last state, without guests, to tokens and the pooled vector."""

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        """The guests' last state, after what a class token passes last. Default: as it is."""
        return guests

    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """Every site, with paths relative to the network and no stream yet."""


def families(modality: str) -> tuple[type[Family], ...]:
    """The families of this folder that read a modality, in the order of their files' names."""
    stems = sorted(m.name for m in pkgutil.iter_modules(_families.__path__))
    modules = (importlib.import_module(f"{_families.__name__}.{s}") for s in stems if s[0] != "_")
    every = (getattr(module, name) for module in modules for name in module.__all__)
    return tuple(family for family in every if family.modality == modality)


def family_of(kind: str, modality: str, source: str) -> type[Family]:
    """The family that runs networks of a kind; EncoderError where there is none."""
    found = {k: family for family in families(modality) for k in family.classes}
    if kind not in found:
        raise EncoderError(
            f"{source} is a network of type {kind!r}, which cannot be adapted as {modality} encoder; "
            f"choose one of type {', '.join(sorted(found))}"
        )
    return found[kind]


def map_sites(
    network: nn.Module,
    entry: tuple[str, int],
    stem: int,
    stages: Sequence[tuple[str, int, int]],
    layers: Mapping[Role, Sequence[str]],
) -> tuple[Site, ...]:
    """Sites of a CNN, `stages` given as path, number of blocks and channels of each.

    `entry` is the path of the module whose output enters block 0 and the channels it reads; it
    gives `stem` channels. `layers` names each role's layers inside a block, which may lack some.
    """
    found = [Site("", entry[0], "entry", 0, entry[1], stem, 0, len(stages), layout="map")]
    before, block = stem, 0
    for stage, (path, depth, width) in enumerate(stages):
        for inner in range(depth):
            place = f"{path}.{inner}"
            of_block = Site(
                "", place, "block", block, before, width, stage, len(stages), layout="map"
            )
            found.append(of_block)
            for role, names in layers.items():
                paths = [f"{place}.{name}" for name in names]
                found += layer_sites(network, replace(of_block, role=role), paths)
            before, block = width, block + 1
    return tuple(found)


def layer_sites(
    network: nn.Module, like: Site, paths: Sequence[str], first: int = 0
) -> tuple[Site, ...]:
    """Sites of the linear layers and plain convolutions that there are at `paths`, else `like`.

    `first` is the index of the first, where one role has several places in a block.
    """
    modules = dict(network.named_modules())
    found: list[Site] = []
    for path in paths:
        layer = modules.get(path)
        here = replace(like, path=path, index=first + len(found))
        if (
            type(layer) is nn.Conv2d and layer.padding_mode == "zeros"
        ):  # not one that alters weights
            shape = Convolution(
                layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups
            )
            ends = {"in_width": layer.in_channels, "out_width": layer.out_channels}
            found.append(replace(here, layout="map", convolution=shape, **ends))
        elif isinstance(layer, nn.Linear):
            ends = {"in_width": layer.in_features, "out_width": layer.out_features}
            found.append(replace(here, layout="tokens", **ends))  # its channels come last
    return tuple(found)


def transformer_sites(
    network: nn.Module, entry: tuple[str, int], layers: Mapping[Role, str], depth: int, width: int
) -> tuple[Site, ...]:
    """Sites of a plain transformer.

    `entry` is the path of the module whose output enters block 0 and the width it reads; `layers`
    gives each role's path, with {} for the number of the block. A "residual" site is the block's own
    output, and its path here is the module that reads what goes around the FFN.
    """
    stages = min(4, depth)
    found = [Site("", entry[0], "entry", 0, entry[1], width, 0, stages)]
    for block in range(depth):
        for role, path in layers.items():
            place, reads = path.format(block), ()
            if role == "residual":
                place, reads = layers["block"].format(block), (place,)
            module = network.get_submodule(place)
            ends = (width, width)
            if isinstance(module, nn.Linear):
                ends = (module.in_features, module.out_features)
            stage = block * stages // depth
            found.append(Site("", place, role, block, *ends, stage, stages, reads=reads))
    return tuple(found)


def fused(sites: tuple[Site, ...], role: Role, parts: tuple[Role, ...]) -> tuple[Site, ...]:
    """The sites, with those of `role` split into equal slices of their output."""
    found: list[Site] = []
    for site in sites:
        if site.role != role:
            found.append(site)
            continue
        span = site.out_width // len(parts)
        for i, part in enumerate(parts):
            found.append(replace(site, role=part, out_width=span, part=(i * span, (i + 1) * span)))
    return tuple(found)
