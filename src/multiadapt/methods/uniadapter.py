"""UniAdapter: one adapter a layer, shared by vision, text and cross-modal branches.

Lu et al., "UniAdapter: Unified Parameter-Efficient Transfer Learning for Cross-modal Modeling",
https://arxiv.org/abs/2302.06605
"""

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.conv_bottleneck import ConvBottleneck
from multiadapt.adapters.unified import Unified
from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.methods._base import Method
from multiadapt.methods._pretrained import of_tables
from multiadapt.types import Site

__all__ = ["UniAdapter"]


@dataclass(frozen=True)
class UniAdapter(Method):
    """Pretrained networks stay frozen; beside the FFN of every layer stands a bottleneck, and layer i of
    all networks shares one."""

    adapter: Unified = Unified()
    conv: ConvBottleneck | None = ConvBottleneck()
    """What stands after each block of a CNN, which has no FFN and which the paper does not treat."""
    tabular: Bottleneck | None = Bottleneck()
    """An adapter on the tabular embedding, where there is a table."""
    r: InitVar[int | None] = field(default=None, kw_only=True)
    """Width of the bottleneck, a short way to say adapter=Unified(r=...)."""

    def __post_init__(self, r: int | None) -> None:
        if r is not None:
            if self.adapter != Unified():
                raise SpecError(
                    f"r={r} stands for adapter=Unified(r={r}), and adapter={self.adapter} was given too: "
                    "leave one of them out"
                )
            object.__setattr__(self, "adapter", Unified(r=r))
        super().__post_init__()

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        table = self.tabular.build(of_tables(sites)) if self.tabular else {}
        inner = [s for s in sites if s.modality != "tabular"]
        maps = self.conv.build([s for s in inner if s.layout == "map"]) if self.conv else {}
        return {**table, **maps, **self.adapter.build(inner)}
