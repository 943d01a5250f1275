"""The table without its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.attach import Adapter
from multiadapt.methods._base import Method
from multiadapt.types import Site, Stream

__all__ = ["TabularOnly"]


@dataclass(frozen=True)
class TabularOnly(Method):
    """The tabular encoder, an adapter on its embedding, and a head."""

    tabular: Bottleneck | None = Bottleneck()

    def uses(self, stream: Stream) -> bool:
        return stream.modality == "tabular"

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        return self.tabular.build(sites) if self.tabular else {}
