"""Images, through frozen networks that transformers or timm keep."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

from torch import nn

from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.encoders._families._open import open_network
from multiadapt.encoders._families._open_timm import open_timm
from multiadapt.encoders._families._pixels import PixelPreparation
from multiadapt.encoders._pretrained import Backbone, PretrainedEncoder
from multiadapt.errors import EncoderError, SpecError
from multiadapt.types import Stream

__all__ = ["ImageEncoder"]


@dataclass(frozen=True)
class ImageEncoder(EncoderSpec):
    """A pretrained image network, frozen."""

    modality: ClassVar[str] = "image"

    source: str = "starter"
    """"starter" (inside the package), a folder, a hub name, "timm:resnet50", "random:resnet-50"."""
    size: int | None = None
    """Pixels of the square that the network reads. None: the checkpoint's own."""
    resize: Literal["squash", "crop"] | None = None
    """squash: the whole picture, distorted. crop: its middle square. None: the checkpoint's way."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""

    def check(self) -> None:
        if not self.source:
            raise SpecError("source must name an image network, got an empty text")
        if self.size is not None and self.size < 1:
            raise SpecError(f"size must be at least 1 pixel, got {self.size}")

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module:
        if self.source.removeprefix("random:").startswith("timm:"):
            opened = open_timm(self.source, self.size)
        else:
            opened = open_network(self.source, "image", self._preparation, self.revision)
        least = opened.family.least
        if self.size is not None and self.size < least:
            raise EncoderError(
                f"{self.source} reads pictures of at least {least} pixels, got size={self.size}"
            )
        if self.resize is not None:
            opened = replace(opened, preparation=opened.preparation.resized(self.resize))
        return Backbone(opened)

    def _preparation(
        self, place: str | None, config: Any, revision: str | None
    ) -> PixelPreparation:
        return PixelPreparation.read(place, config, self.size, revision)

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        backbone = cast(Backbone, network)
        return PretrainedEncoder(replace(stream, pixels=backbone.preparation.least), backbone, name)
