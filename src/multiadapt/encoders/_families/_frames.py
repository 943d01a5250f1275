"""From clips to the pixels of their frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from multiadapt.encoders._families._pixels import PixelPreparation
from multiadapt.encoders._families._preparation import Note, Preparation
from multiadapt.types import Clip

__all__ = ["FramePreparation"]


@dataclass(frozen=True)
class FramePreparation(Preparation):
    """Every frame as a picture network's preparation does it."""

    picture: PixelPreparation
    whole: int = 0
    """Frames of a clip for a network that reads it as a whole, (f, t, 3, h, w); 0: frame by frame."""

    def tensors(self, items: Sequence[Clip], note: Note) -> dict[str, Tensor]:
        pixels = self.picture.pixels([frame for clip in items for frame in clip.frames])
        return {"pixels": pixels.unflatten(0, (-1, self.whole)) if self.whole else pixels}

    def numbers(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self.picture.numbers(tensors)

    @property
    def bytes_by(self) -> str:
        return f"{self.picture.bytes_by} {self.whole}"
