"""Zeros for a missing modality."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

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

__all__ = ["Zero"]


@dataclass(frozen=True)
class Zero(FillSpec):
    """Zeros, which with `normalize` is the mean of the frozen embedding over the training rows."""

    words: ClassVar[str] = "zeros"

    drop: float | None = 0.0
    """Share of complete rows that lose one modality in each training step; None: M / (M + 1)."""

    def check(self) -> None:
        check_rate(self.drop)

    def build(self, seats: Mapping[str, Seat]) -> Fill:
        return _Zero(self.drop)


class _Zero(Fill):
    def __init__(self, rate: float | None) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, tokens: Mapping[str, Tokens]) -> Filled:
        nothing = torch.zeros((), device=next(iter(tokens.values())).pooled.device)
        if not self.training or self.rate == 0:
            return Filled(dict(tokens), nothing)  # a missing cell's vector is zeros already
        there = drop(available(tokens), self.rate)
        return Filled(seated(tokens, there, dict.fromkeys(tokens, nothing)), nothing)
