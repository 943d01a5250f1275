"""Frozen encoders and a trained head: what every adapter must beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.attach import Adapter
from multiadapt.methods._base import Method
from multiadapt.types import Site

__all__ = ["Frozen"]


@dataclass(frozen=True)
class Frozen(Method):
    """A linear head on the frozen encoders' vectors."""

    tabular: Bottleneck | None = None
    """An adapter on the tabular embedding: TI-Adapter without its image side."""

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        return (
            self.tabular.build([s for s in sites if s.modality == "tabular"])
            if self.tabular
            else {}
        )
