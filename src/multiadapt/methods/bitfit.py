"""BitFit: only the biases of the pretrained encoders are trained.

Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
Language-models", https://arxiv.org/abs/2106.10199
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.attach import Adapter
from multiadapt.encoders._base import Owner
from multiadapt.errors import EncoderError
from multiadapt.methods._base import Method
from multiadapt.methods._pretrained import is_pretrained, of_tables
from multiadapt.types import Site

__all__ = ["BitFit"]


@dataclass(frozen=True)
class BitFit(Method):
    """Every bias of the pretrained networks, those of their norms included, and the head.

    In a CNN without biases in its convolutions these are BatchNorm's; its running statistics stay the
    checkpoint's. An in-context tabular encoder stays frozen.
    """

    tabular: Bottleneck | None = None
    """An adapter on the tabular embedding too; the paper has none."""

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        return self.tabular.build(of_tables(sites)) if self.tabular else {}

    def native(self, encoder: Owner) -> Collection[str]:
        if encoder.trained or not is_pretrained(encoder.stream.modality):
            return ()
        names = [name for name, _ in encoder.named_parameters()]
        biases = [name for name in names if name.rpartition(".")[2].endswith("bias")]
        if names and not biases:
            raise EncoderError(
                f"the network of {encoder.stream.name!r} has no biases to train among its {len(names)} "
                "tensors; choose another method"
            )
        return biases
