"""A sum of the streams' pooled vectors, weighted in each row by a gate that sees all of them.

Arevalo et al., "Gated Multimodal Units for Information Fusion", https://arxiv.org/abs/1702.01992,
for any number of modalities: the gates are a softmax.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.errors import SpecError
from multiadapt.fusion._base import Fusion, FusionSpec
from multiadapt.types import Tokens

__all__ = ["Gated"]


@dataclass(frozen=True)
class Gated(FusionSpec):
    """h = sum_i g_i tanh(W_i z_i), g = softmax(V [z_1; z_2; ...])."""

    width: int = 256
    """Width of the fused vector."""

    def check(self) -> None:
        if self.width < 1:
            raise SpecError(f"width must be at least 1, got {self.width}")

    def build(self, widths: Mapping[str, int]) -> Fusion:
        return _Gated(widths, self.width)


class _Gated(Fusion):
    def __init__(self, widths: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.streams, self.width = tuple(widths), width
        self.maps = nn.ModuleList(nn.Linear(w, width) for w in widths.values())
        self.gate = nn.Linear(sum(widths.values()), len(widths))

    def forward(self, tokens: Mapping[str, Tokens]) -> Float[Tensor, "b d"]:
        slots = [tokens[s].pooled for s in self.streams]
        gates = self.gate(torch.cat(slots, dim=1)).softmax(1)
        seen = torch.stack([m(z).tanh() for m, z in zip(self.maps, slots, strict=True)], dim=1)
        return (gates[..., None] * seen).sum(1)
