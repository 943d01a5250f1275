"""What stands in for a modality that a row lacks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt import processes
from multiadapt.errors import SpecError
from multiadapt.spec import Spec
from multiadapt.types import Tokens

__all__ = [
    "Demand",
    "Fill",
    "FillSpec",
    "Filled",
    "Seat",
    "available",
    "check_rate",
    "drop",
    "seated",
]

Demand = Literal["nothing", "one", "all"]


@dataclass(frozen=True)
class Seat:
    """What a filling knows of a stream."""

    width: int
    """Width of the stream's pooled vector."""
    hosts: Literal["blocks", "tokens", "vector"]
    """Where a guest may look at it: from inside its blocks, at its last tokens, at its one vector."""


class Filled(NamedTuple):
    """Streams' tokens in which a missing modality's pooled vector has its stand-in."""

    tokens: dict[str, Tokens]
    penalty: Float[Tensor, ""]
    """What the filling adds to the loss in training; of several processes its share, which are added up."""


class Fill(nn.Module, ABC):
    """Gives every stream a pooled vector in every row. What it learns is trained with the head."""

    visibility: Literal["read-only", "full"] = "read-only"
    """Whether the tokens see the guests."""

    def guests(self) -> Mapping[str, Float[Tensor, "g d"]]:
        """By host stream, the vectors that join its tokens. Default: none."""
        return {}

    @abstractmethod
    def forward(self, tokens: Mapping[str, Tokens]) -> Filled: ...


class FillSpec(Spec, ABC):
    """A way to fill a missing modality, and its options."""

    folder = "missing"
    demands: ClassVar[Demand] = "nothing"
    """How many of its modalities a row must have."""
    words: ClassVar[str] = "a stand-in"
    """What stands in for a missing modality, in words."""
    looks: ClassVar[bool] = False
    """Whether it reads the streams' tokens, not only their pooled vectors."""

    @abstractmethod
    def build(self, seats: Mapping[str, Seat]) -> Fill:
        """The filling of streams in this order."""


def available(tokens: Mapping[str, Tokens]) -> Bool[Tensor, "b m"]:
    """Which modalities each row has, in the order of the streams."""
    return torch.stack([t.mask.any(1) for t in tokens.values()], dim=1)


def drop(there: Bool[Tensor, "b m"], rate: float | None) -> Bool[Tensor, "b m"]:
    """The same with one modality taken away from some complete rows, drawn anew in every step.

    `rate` is the share of complete rows that lose one; None draws one of {complete, without the
    first, ...} with equal chances, that is M / (M + 1). A row with a gap keeps what it has.
    """
    rows, modalities = there.shape
    rate = modalities / (modalities + 1) if rate is None else rate
    if modalities < 2 or rate == 0:
        return there
    # On the CPU: the same draws on every device.
    loses = processes.drawn(rows, lambda n, g: torch.rand(n, generator=g)) < rate
    which = processes.drawn(rows, lambda n, g: torch.randint(modalities, (n,), generator=g))
    lost = (loses[:, None] & (torch.arange(modalities) == which[:, None])).to(there.device)
    return there & ~(lost & there.all(1, keepdim=True))


def check_rate(rate: float | None) -> None:
    """SpecError where a rate of dropping is neither None nor in 0..1."""
    if rate is not None and not 0 <= rate <= 1:
        raise SpecError(f"drop must be None or in 0..1, got {rate}")


def seated(
    tokens: Mapping[str, Tokens], there: Bool[Tensor, "b m"], stand_ins: Mapping[str, Tensor]
) -> dict[str, Tokens]:
    """Every stream's own pooled vector where it is there, else its stand-in."""
    return {
        s: replace(t, pooled=torch.where(there[:, i : i + 1], t.pooled, stand_ins[s]))
        for i, (s, t) in enumerate(tokens.items())
    }
