"""U2A: every frozen encoder adapted at once by low-rank updates; mask tokens for what is missing.

M. K. Reza et al., "U2A: Unified Unimodal Adaptation for Robust and Efficient Multimodal Learning",
later "Robust Multimodal Learning via Cross-Modal Proxy Tokens", https://arxiv.org/abs/2501.17823
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from multiadapt.adapters._base import AdapterSpec
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.lora import LoRA
from multiadapt.attach import Adapter
from multiadapt.fusion._base import FusionSpec
from multiadapt.fusion.concat import Concat
from multiadapt.methods._base import Method
from multiadapt.methods._pretrained import each_pretrained, of_tables
from multiadapt.missing._base import FillSpec
from multiadapt.missing.token import MaskToken
from multiadapt.types import Site

__all__ = ["U2A"]

_LINEARS = ("query", "key", "value", "out", "ffn_in", "ffn_out")


@dataclass(frozen=True)
class U2A(Method):
    """Joint low-rank adaptation of all pretrained encoders, with one loss; they meet after encoding."""

    adapter: AdapterSpec | Mapping[str, AdapterSpec] = LoRA(r=1, lora_alpha=1, roles=_LINEARS)
    """What adapts the pretrained encoders; the table's own encoder is not among them. Or one for each
    column or modality by its name, with "default" for all others, which else stay frozen."""
    tabular: Bottleneck | None = Bottleneck()
    """An adapter on the tabular embedding."""
    join: FusionSpec = Concat()
    """How the slots of the modalities, each a class token or its stand-in, become one vector."""
    missing: FillSpec = field(default=MaskToken(), kw_only=True)

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        table = self.tabular.build(of_tables(sites)) if self.tabular else {}
        return {**table, **each_pretrained(self.adapter, sites)}

    def fusion(self) -> FusionSpec:
        return self.join
