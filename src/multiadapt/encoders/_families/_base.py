"""What is known about one kind of image network: its cut, its pooled vector, its sites."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.encoders import _families
from multiadapt.errors import EncoderError
from multiadapt.types import Role, Site

__all__ = [
    "TOWER_LAYERS",
    "Family",
    "families",
    "family_of",
    "fused",
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
    "block": "encoder.layers.{}",
}
"""Where each role lies in the library's vision towers."""


class Family(ABC):
    """One opened network, run block by block. Leaves set all fields below in `__init__`."""

    classes: ClassVar[Mapping[str, str]]
    """A config's `model_type` to the transformers class that reads it; `timm:Class` for timm's."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Arguments of that class beside the config."""
    known: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Architectures by name, as config values with their `model_type`."""

    network: Any
    width: int
    """Width of the pooled vector."""
    blocks: int
    least: int
    """Smallest side of a picture that the network can read, in pixels."""

    @abstractmethod
    def __init__(self, network: Any) -> None: ...

    @abstractmethod
    def start(self, pixels: Float[Tensor, "f 3 h w"]) -> Tensor:
        """Stem or embeddings: the state that enters block 0."""

    @abstractmethod
    def block(self, index: int, state: Tensor) -> Tensor:
        """The state after block `index`."""

    @abstractmethod
    def finish(self, state: Tensor) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        """The last state to tokens and the pooled vector."""

    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """Every site, with paths relative to the network and no stream yet."""


def families() -> tuple[type[Family], ...]:
    """All families of this folder, in the order of their files' names."""
    stems = sorted(m.name for m in pkgutil.iter_modules(_families.__path__))
    modules = (importlib.import_module(f"{_families.__name__}.{s}") for s in stems if s[0] != "_")
    return tuple(getattr(module, name) for module in modules for name in module.__all__)


def family_of(kind: str, source: str) -> type[Family]:
    """The family that runs networks of a kind; EncoderError where there is none."""
    found = {k: family for family in families() for k in family.classes}
    if kind not in found:
        raise EncoderError(
            f"{source} is a network of type {kind!r}, which cannot be adapted; "
            f"choose one of type {', '.join(sorted(found))}"
        )
    return found[kind]


def map_sites(
    entry: tuple[str, int],
    stem: int,
    paths: Sequence[str],
    depths: Sequence[int],
    widths: Sequence[int],
) -> tuple[Site, ...]:
    """Sites of a CNN whose stages lie at `paths`.

    `entry` is the path of the module whose output enters block 0 and the channels it reads; it
    gives `stem` channels.
    """
    stages = len(paths)
    found = [Site("", entry[0], "entry", 0, entry[1], stem, 0, stages, layout="map")]
    before = stem
    for stage, (path, depth, width) in enumerate(zip(paths, depths, widths, strict=True)):
        for inner in range(depth):
            place, block = f"{path}.{inner}", len(found) - 1
            found.append(
                Site("", place, "block", block, before, width, stage, stages, layout="map")
            )
            before = width
    return tuple(found)


def transformer_sites(
    network: nn.Module, entry: tuple[str, int], layers: Mapping[Role, str], depth: int, width: int
) -> tuple[Site, ...]:
    """Sites of a plain transformer.

    `entry` is the path of the module whose output enters block 0 and the width it reads; `layers`
    gives each role's path, with {} for the number of the block.
    """
    stages = min(4, depth)
    found = [Site("", entry[0], "entry", 0, entry[1], width, 0, stages)]
    for block in range(depth):
        for role, path in layers.items():
            module = network.get_submodule(path.format(block))
            ends = (width, width)
            if isinstance(module, nn.Linear):
                ends = (module.in_features, module.out_features)
            stage = block * stages // depth
            found.append(Site("", path.format(block), role, block, *ends, stage, stages))
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
