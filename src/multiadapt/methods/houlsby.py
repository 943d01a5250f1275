"""Sequential bottleneck adapters after attention and after the feed-forward layers.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", https://arxiv.org/abs/1902.00751
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiadapt.adapters._choice import inside
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.conv_bottleneck import ConvBottleneck
from multiadapt.attach import Adapter
from multiadapt.methods._base import Method
from multiadapt.methods._pretrained import of_pretrained, of_tables
from multiadapt.types import Site

__all__ = ["Houlsby"]


@dataclass(frozen=True)
class Houlsby(Method):
    """Two bottlenecks a block of every transformer, each before the block adds its input again."""

    inner: Bottleneck = Bottleneck(activation="gelu", roles=("out", "ffn_out"))
    """What stands at each of its roles' places. The layers' norms stay frozen."""
    conv: ConvBottleneck = ConvBottleneck()
    """What stands after each block of a CNN, which the paper does not treat."""
    tabular: Bottleneck | None = Bottleneck()
    """The adapter on the tabular embedding."""

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        table = self.tabular.build(of_tables(sites)) if self.tabular else {}
        chosen = inside(of_pretrained(sites), self.inner.roles, ("block",))
        tokens = [s for s in chosen if s.layout == "tokens"]
        return {**table, **self.inner.build(tokens), **self.conv.build(chosen)}
