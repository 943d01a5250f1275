"""Concatenation and hidden layers: under the linear head, an MLP head."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.errors import SpecError
from multiadapt.fusion._base import Fusion, FusionSpec
from multiadapt.types import Tokens

__all__ = ["MLP"]


@dataclass(frozen=True)
class MLP(FusionSpec):
    """Pooled vectors side by side, then `layers` times a linear map, GELU and dropout. The task's linear
    head reads the last: with it an MLP, while predictions stay linear in the fused vector."""

    width: int = 256
    """Width of every hidden layer, and of the fused vector."""
    layers: int = 1
    dropout: float = 0.0
    """Share of the hidden units that each step of training leaves out; in [0, 1)."""

    def check(self) -> None:
        if self.width < 1:
            raise SpecError(f"width must be at least 1, got {self.width}")
        if self.layers < 1:
            raise SpecError(f"layers must be at least 1, got {self.layers}")
        if not 0 <= self.dropout < 1:
            raise SpecError(f"dropout must be in [0, 1), got {self.dropout}")

    def build(self, widths: Mapping[str, int]) -> Fusion:
        return _MLP(widths, self)


class _MLP(Fusion):
    def __init__(self, widths: Mapping[str, int], spec: MLP) -> None:
        super().__init__()
        self.streams, self.width = tuple(widths), spec.width
        sizes = [sum(widths.values()), *[spec.width] * spec.layers]
        self.hidden = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b), nn.GELU(), nn.Dropout(spec.dropout))
                for a, b in pairwise(sizes)
            )
        )

    def forward(self, tokens: Mapping[str, Tokens]) -> Float[Tensor, "b d"]:
        return self.hidden(torch.cat([tokens[s].pooled for s in self.streams], dim=1))
