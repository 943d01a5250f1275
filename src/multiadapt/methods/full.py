"""Full fine-tuning of every pretrained network but the table's: what adapters are measured against."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.attach import Adapter
from multiadapt.encoders._base import Owner
from multiadapt.methods._base import Method, Training
from multiadapt.types import Site

__all__ = ["Full"]


@dataclass(frozen=True)
class Full(Method):
    """Every weight of the pretrained networks and the head; an in-context tabular encoder stays frozen.

    BatchNorm trains its weight and bias but keeps the checkpoint's running statistics. The recipe
    has a tenth of TI-Adapter's learning rate: 1e-3 undoes pretrained weights.
    """

    training: ClassVar[Training] = Training(learning_rate=1e-4)

    tabular: Bottleneck | None = None
    """An adapter on the tabular embedding too; the paper's Full has none."""

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        return (
            self.tabular.build([s for s in sites if s.modality == "tabular"])
            if self.tabular
            else {}
        )

    def native(self, encoder: Owner) -> Collection[str]:
        if encoder.stream.modality == "tabular":
            return ()
        return [name for name, _ in encoder.named_parameters()]
