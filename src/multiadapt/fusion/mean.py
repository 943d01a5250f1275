"""The mean of the streams' pooled vectors, each mapped to one width."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.errors import SpecError
from multiadapt.fusion._base import Fusion, FusionSpec
from multiadapt.types import Tokens

__all__ = ["Mean"]


@dataclass(frozen=True)
class Mean(FusionSpec):
    """Every slot through a linear map of its own, then their mean; of a missing cell that is zeros only the map's bias is left."""

    width: int = 256
    """Width of the fused vector."""

    def check(self) -> None:
        if self.width < 1:
            raise SpecError(f"width must be at least 1, got {self.width}")

    def build(self, widths: Mapping[str, int]) -> Fusion:
        return _Mean(widths, self.width)


class _Mean(Fusion):
    def __init__(self, widths: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.streams, self.width = tuple(widths), width
        self.maps = nn.ModuleList(nn.Linear(w, width) for w in widths.values())

    def forward(self, tokens: Mapping[str, Tokens]) -> Float[Tensor, "b d"]:
        pairs = zip(self.streams, self.maps, strict=True)
        return torch.stack([m(tokens[s].pooled) for s, m in pairs]).mean(0)
