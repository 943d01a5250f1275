"""IA3: learned rescaling inside every pretrained encoder.

Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
Learning", https://arxiv.org/abs/2205.05638
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.ia3 import IA3
from multiadapt.attach import Adapter
from multiadapt.methods._base import Method
from multiadapt.methods._pretrained import of_pretrained, of_tables
from multiadapt.types import Site

__all__ = ["PlainIA3"]


@dataclass(frozen=True)
class PlainIA3(Method):
    """Rescaled activations in every pretrained network, a bottleneck on the tabular embedding."""

    ia3: IA3 = IA3()
    tabular: Bottleneck | None = Bottleneck()
    """The adapter on the tabular embedding, into which IA3 does not reach."""

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        table = self.tabular.build(of_tables(sites)) if self.tabular else {}
        return {**table, **self.ia3.build(of_pretrained(sites))}
