"""TI-Adapter: a bottleneck adapter on the tabular embedding, adapters in the image network, one linear head.

The paper has a table and pictures. Clips are treated as pictures are: their frames, or the blocks of a
network that reads them whole. Networks of other modalities stay as they are, under the same head.

J. Luo, "Parameter-Efficient Adapter Tuning for Tabular-Image Multimodal Learning",
https://arxiv.org/abs/2606.11682
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.attach import Adapter
from multiadapt.methods._base import Method
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.types import Site

__all__ = ["TIAdapter"]


@dataclass(frozen=True)
class TIAdapter(Method):
    """All encoders stay frozen; only adapters, of the table, pictures and clips, and the head are trained."""

    image: ImageBranch = ImageBranch()
    tabular: Bottleneck = Bottleneck()

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        table = [s for s in sites if s.modality == "tabular"]
        return {**self.tabular.build(table), **self.image.build(sites)}
