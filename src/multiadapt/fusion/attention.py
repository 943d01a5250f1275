"""One transformer layer over the streams' pooled vectors, read by a learned token."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.errors import SpecError
from multiadapt.fusion._base import Fusion, FusionSpec
from multiadapt.types import Tokens

__all__ = ["Attention"]


@dataclass(frozen=True)
class Attention(FusionSpec):
    """Slots mapped to one width, with a learned vector that says which modality each is; a class token
    looks at them in one pre-norm transformer layer, and is the fused vector."""

    width: int = 128
    """Width of the layer and of the fused vector; a multiple of `heads`."""
    heads: int = 4

    def check(self) -> None:
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise SpecError(f"width must be a multiple of heads, got {self.width} and {self.heads}")

    def build(self, widths: Mapping[str, int]) -> Fusion:
        return _Attention(widths, self)


class _Attention(Fusion):
    def __init__(self, widths: Mapping[str, int], spec: Attention) -> None:
        super().__init__()
        self.streams, self.width = tuple(widths), spec.width
        self.maps = nn.ModuleList(nn.Linear(w, spec.width) for w in widths.values())
        self.places = nn.Parameter(torch.randn(len(widths), spec.width) * 0.02)
        self.token = nn.Parameter(torch.randn(1, 1, spec.width) * 0.02)
        self.layer = nn.TransformerEncoderLayer(
            spec.width, spec.heads, 2 * spec.width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(spec.width)

    def forward(self, tokens: Mapping[str, Tokens]) -> Float[Tensor, "b d"]:
        pairs = zip(self.streams, self.maps, strict=True)
        slots = torch.stack([m(tokens[s].pooled) for s, m in pairs], dim=1) + self.places
        read = torch.cat([self.token.expand(len(slots), -1, -1), slots], dim=1)
        return self.norm(self.layer(read)[:, 0])
