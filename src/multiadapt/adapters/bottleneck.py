"""Bottleneck adapter: down, activation, up, added to what it reads.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", https://arxiv.org/abs/1902.00751;
as TI-Adapter uses it on pooled embeddings, https://arxiv.org/abs/2606.11682.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.adapters._base import Activation, AdapterSpec, activation, shared
from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.types import Role, Site

__all__ = ["Bottleneck"]


@dataclass(frozen=True)
class Bottleneck(AdapterSpec):
    """`E~ = E + alpha * (W_up . act(W_down E + b_down) + b_up)`; 2dr + d + r parameters a site."""

    r: int = 16
    """Width of the bottleneck, at least 1."""
    alpha: float = 1.0
    """Scale of the correction."""
    activation: Activation = "relu"
    norm: Literal["layer"] | None = None
    """LayerNorm after the up-projection; 2d more parameters."""
    init: Literal["zero", "normal"] = "zero"
    """zero: step 0 equals the frozen model. normal: N(0, 0.02) in the up-projection."""
    share: bool = True
    """Streams that use one network share one adapter at each place of it."""
    roles: tuple[Role, ...] = ("pooled",)
    """Which places to correct."""

    def check(self) -> None:
        if self.r < 1:
            raise SpecError(f"r must be at least 1, got {self.r}")

    def build(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        chosen = [s for s in sites if s.role in self.roles]
        built: dict[Site, Adapter] = {}
        for group in shared(chosen, share=self.share):
            built |= dict.fromkeys(group, _Bottleneck(group[0].out_width, self))
        return built


class _Bottleneck(Adapter):
    def __init__(self, width: int, spec: Bottleneck) -> None:
        super().__init__()
        self.alpha = spec.alpha
        self.down = nn.Linear(width, spec.r)
        self.act = activation(spec.activation)
        self.up = nn.Linear(spec.r, width)
        self.norm = nn.LayerNorm(width) if spec.norm else nn.Identity()
        gate = (
            self.up if spec.norm is None else self.norm
        )  # a zero `up` under a norm jumps at step 1
        if spec.init == "normal":
            nn.init.normal_(self.up.weight, std=0.02)
            nn.init.zeros_(self.up.bias)
        else:
            nn.init.zeros_(gate.weight)  # type: ignore[arg-type]
            nn.init.zeros_(gate.bias)  # type: ignore[arg-type]

    def forward(self, xs: tuple[Tensor, ...], y: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return torch.add(y, self.norm(self.up(self.act(self.down(y)))), alpha=self.alpha)
