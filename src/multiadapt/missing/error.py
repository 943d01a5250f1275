"""A missing modality is an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from multiadapt.missing._base import Demand, Fill, Filled, FillSpec, Seat
from multiadapt.types import Tokens

__all__ = ["Refuse"]


@dataclass(frozen=True)
class Refuse(FillSpec):
    """Every row must have every modality, in training and at prediction: CellError names those that don't."""

    demands: ClassVar[Demand] = "all"
    words: ClassVar[str] = "an error"

    def build(self, seats: Mapping[str, Seat]) -> Fill:
        return _Refuse()


class _Refuse(Fill):
    def forward(self, tokens: Mapping[str, Tokens]) -> Filled:
        device = next(iter(tokens.values())).pooled.device
        return Filled(dict(tokens), torch.zeros((), device=device))
