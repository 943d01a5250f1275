"""Plain LoRA: low-rank adaptation inside every pretrained encoder, trained jointly with one head.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.lora import LoRA
from multiadapt.attach import Adapter
from multiadapt.methods._base import Method
from multiadapt.methods._pretrained import each_pretrained, of_tables
from multiadapt.types import Site

__all__ = ["PlainLoRA"]


@dataclass(frozen=True)
class PlainLoRA(Method):
    """Low-rank corrections in every pretrained network, a bottleneck on the tabular embedding."""

    lora: LoRA | Mapping[str, LoRA] = LoRA()
    """In all pretrained networks. Or one for each column or modality by its name, with "default" for all
    others, which else stay frozen."""
    tabular: Bottleneck | None = Bottleneck()
    """The adapter on the tabular embedding, into which LoRA does not reach."""

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        table = self.tabular.build(of_tables(sites)) if self.tabular else {}
        return {**table, **each_pretrained(self.lora, sites)}
