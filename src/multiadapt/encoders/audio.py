"""Sounds, through frozen networks that transformers keeps."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from torch import nn

from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.encoders._families._open import open_network
from multiadapt.encoders._families._waves import SoundPreparation
from multiadapt.encoders._pretrained import Backbone, PretrainedEncoder
from multiadapt.errors import SpecError
from multiadapt.types import Stream

__all__ = ["AudioEncoder"]


@dataclass(frozen=True)
class AudioEncoder(EncoderSpec):
    """A pretrained network of sounds, frozen."""

    modality: ClassVar[str] = "audio"

    source: str = "starter"
    """A folder, a hub name, "random:wav2vec2-base", or "starter": the small encoder inside the package,
    which hears the first two seconds."""
    seconds: float | None = None
    """Longer sounds are cut at their end. None: the longest that the network reads; 10 where it has
    no limit, as wav2vec 2.0 and HuBERT."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""

    def check(self) -> None:
        if not self.source:
            raise SpecError("source must name an audio network, got an empty text")
        if self.seconds is not None and self.seconds <= 0:
            raise SpecError(f"seconds must be more than 0, got {self.seconds}")

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module:
        return Backbone(open_network(self.source, "audio", self._preparation, self.revision))

    def _preparation(
        self, place: str | None, config: Any, revision: str | None
    ) -> SoundPreparation:
        return SoundPreparation.read(place, config, self.seconds, revision)

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return PretrainedEncoder(stream, cast(Backbone, network), name)
