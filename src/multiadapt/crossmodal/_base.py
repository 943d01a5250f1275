"""What a vision-language network gives: encoders of both sides, and what compares what they say."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from multiadapt.crossmodal._cross import CrossPass
from multiadapt.encoders._base import Encoder
from multiadapt.spec import Spec
from multiadapt.types import Stream

__all__ = ["BackboneSpec", "Joint"]


@dataclass(frozen=True)
class Joint:
    """Two streams' encoders, and what of the network stands on them."""

    encoders: Mapping[str, Encoder]
    """By stream, the query's first."""
    projections: Mapping[str, nn.Module]
    """By stream, to where both are compared."""
    temperature: float
    """What similarities are divided by at first."""
    new: bool = False
    """Whether the projections start at random; pretrained ones want pooled vectors as they are."""
    cross: CrossPass | None = None
    """Reads a text that looks at a picture; None: the network has no such part, or the streams are none."""
    match: nn.Linear | None = None
    """From the cross-modal pass's first token to (no match, match)."""
    opening: int | None = None
    """What takes the place of a text's first token in the cross-modal pass; None: nothing does."""
    base: str = ""
    """SHA-256 of the tower that networks of other tasks have too; "": there is none."""
    frame_aware: bool = True
    """Whether what is compared with a clip weighs its frames."""


class BackboneSpec(Spec, ABC):
    """How to open a vision-language network for two streams."""

    folder = "crossmodal"

    @abstractmethod
    def open(self, streams: Sequence[Stream]) -> Joint:
        """Encoders of the query's and the target's stream. SpecError: it does not read such columns."""
