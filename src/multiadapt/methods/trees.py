"""Gradient-boosted trees on the table alone: the baseline that embarrasses neural networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from multiadapt.attach import Adapter
from multiadapt.encoders._base import EncoderSpec
from multiadapt.encoders.trees import TreesEncoder
from multiadapt.methods._base import Method
from multiadapt.types import Site, Stream

__all__ = ["Trees"]


@dataclass(frozen=True)
class Trees(Method):
    """scikit-learn's HistGradientBoosting; nothing is trained by gradient."""

    validates: ClassVar[bool] = False

    trees: TreesEncoder = TreesEncoder()

    def uses(self, stream: Stream) -> bool:
        return stream.modality == "tabular"

    def encoder(self, stream: Stream) -> EncoderSpec | None:
        return self.trees

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        return {}

    def linear_head(self) -> bool:
        return False
