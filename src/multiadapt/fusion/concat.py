"""Concatenation of the streams' pooled vectors: TI-Adapter's and the baselines' fusion."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from multiadapt.fusion._base import Fusion, FusionSpec
from multiadapt.types import Tokens

__all__ = ["Concat"]


@dataclass(frozen=True)
class Concat(FusionSpec):
    """Pooled vectors side by side, in the order of the streams; a missing cell is zeros."""

    def build(self, widths: Mapping[str, int]) -> Fusion:
        return _Concat(widths)


class _Concat(Fusion):
    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.streams = tuple(widths)
        self.width = sum(widths.values())

    def forward(self, tokens: Mapping[str, Tokens]) -> Float[Tensor, "b d"]:
        return torch.cat([tokens[s].pooled for s in self.streams], dim=1)
