"""The pictures without the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiadapt.attach import Adapter
from multiadapt.methods._base import Method
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.types import Site, Stream

__all__ = ["ImageOnly"]


@dataclass(frozen=True)
class ImageOnly(Method):
    """The image networks, TI-Adapter's image side on them, and a head."""

    image: ImageBranch | None = ImageBranch()
    """None: the networks stay as they are."""

    def uses(self, stream: Stream) -> bool:
        return stream.modality == "image"

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        return self.image.build(sites) if self.image else {}
