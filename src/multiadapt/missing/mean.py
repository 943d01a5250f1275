"""The mean vector of the training rows for a missing modality."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt import processes
from multiadapt.missing._base import (
    Fill,
    Filled,
    FillSpec,
    Seat,
    available,
    check_rate,
    drop,
    seated,
)
from multiadapt.types import Tokens

__all__ = ["Mean"]

_MOMENTUM = 0.1


@dataclass(frozen=True)
class Mean(FillSpec):
    """The moving mean of the modality's adapted vectors over the training rows that have it: the last ten
    or so batches count most."""

    words: ClassVar[str] = "the mean of the training rows"

    drop: float | None = 0.0
    """Share of complete rows that lose one modality in each training step; None: M / (M + 1)."""

    def check(self) -> None:
        check_rate(self.drop)

    def build(self, seats: Mapping[str, Seat]) -> Fill:
        return _Mean(self.drop, [seat.width for seat in seats.values()])


class _Mean(Fill):
    def __init__(self, rate: float | None, widths: list[int]) -> None:
        super().__init__()
        self.rate = rate
        self.means = nn.ModuleList(_Running(width) for width in widths)

    def forward(self, tokens: Mapping[str, Tokens]) -> Filled:
        there = available(tokens)
        if self.training:
            for i, (one, mean) in enumerate(zip(tokens.values(), self.means, strict=True)):
                mean(one.pooled, there[:, i])
            there = drop(there, self.rate)
        means = {s: cast(_Running, m).value for s, m in zip(tokens, self.means, strict=True)}
        return Filled(seated(tokens, there, means), there.new_zeros((), dtype=torch.float32))


class _Running(nn.Module):
    """The mean of the rows it has been shown, later ones counting more; zeros before the first."""

    value: Tensor
    shown: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(width))
        self.register_buffer("shown", torch.tensor(0))

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "b d"], present: Bool[Tensor, " b"]) -> None:
        mean = processes.mean_of(x[present])
        if mean is None:
            return
        self.shown += 1
        share = max(_MOMENTUM, 1 / int(self.shown))
        self.value.lerp_(mean.to(self.value.dtype), share)
