"""Learned rescaling of keys, values and the activation inside the feed-forward layers.

Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
Learning", https://arxiv.org/abs/2205.05638
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from multiadapt.adapters._base import AdapterSpec, shared
from multiadapt.adapters._choice import check_blocks, check_roles, inside
from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.types import Role, Site

__all__ = ["IA3", "InputScale", "OutputScale"]

_ROLES: tuple[Role, ...] = (
    "query", "key", "value", "out", "ffn_in", "ffn_mid", "ffn_out", "cross", "conv",
)  # fmt: skip


@dataclass(frozen=True)
class IA3(AdapterSpec):
    """Multiply every chosen activation by one learned vector, which starts at ones."""

    roles: tuple[Role, ...] = ("key", "value", "ffn_mid")
    """Which places of a transformer; ffn_mid: what the last feed-forward layer reads, as in PEFT."""
    map_roles: tuple[Role, ...] = ("conv", "ffn_mid")
    """Which places of a network of feature maps (CNN)."""
    blocks: str | None = None
    """Such as "last 4": only these blocks, so that those before are computed once. None: all."""
    share: bool = True
    """Streams that use one network share one adapter at each place of it."""

    def check(self) -> None:
        check_roles((*self.roles, *self.map_roles), _ROLES, "IA3")
        for roles in (self.roles, self.map_roles):
            if {"ffn_mid", "ffn_out"} <= set(roles):
                raise SpecError(
                    "ffn_mid and ffn_out are one layer's input and output; choose one of them, "
                    f"got {', '.join(roles)}"
                )
        check_blocks(self.blocks)

    def build(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        built: dict[Site, Adapter] = {}
        chosen = inside(sites, _places(self.roles), _places(self.map_roles), self.blocks)
        mapped = {s.stream for s in sites if s.layout == "map"}
        for group in shared(chosen, share=self.share):
            site = group[0]
            roles = self.map_roles if site.stream in mapped else self.roles
            read = site.role == "ffn_out" and "ffn_mid" in roles
            built |= dict.fromkeys(group, InputScale(site) if read else OutputScale(site))
        return built


def _places(roles: Sequence[Role]) -> tuple[Role, ...]:
    """The roles' sites: what is inside the feed-forward layers is its last layer's input."""
    return tuple("ffn_out" if role == "ffn_mid" else role for role in roles)


class OutputScale(Adapter):
    """Rescales what a layer says."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(site.out_width))  # ones: starts as identity
        self.ahead = (-1, *[1] * len(site.convolution.kernel)) if site.convolution else (-1,)

    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y * self.scale.view(self.ahead)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        rows = self.scale.view(-1, *[1] * (weight.ndim - 1))
        return weight * rows, None if bias is None else bias * self.scale


class InputScale(Adapter):
    """Rescales what a linear layer reads."""

    corrects: ClassVar = "input"

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(site.in_width))

    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y * self.scale

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return weight * self.scale, bias
