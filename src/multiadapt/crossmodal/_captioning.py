"""Captions: the decoder looks at a picture and goes on after a prompt.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from multiadapt.crossmodal._blip import Parts
from multiadapt.crossmodal._cross import Seen
from multiadapt.crossmodal._writing import DECODER, WritingModel
from multiadapt.methods._base import Method
from multiadapt.types import Inputs, Stream

__all__ = ["CaptioningModel"]


class CaptioningModel(WritingModel):
    """The loss is the mean over a caption's tokens; those of the prompt do not count."""

    def __init__(
        self, parts: Parts, image: Stream, prompt: str, method: Method, smoothing: float
    ) -> None:
        super().__init__(parts, image, prompt, smoothing)
        self._adapt(method, [self.writer], {DECODER: self.writer})
        self._settle()

    def sight(self, batch: Mapping[str, Inputs]) -> Seen:
        photo = self.encoder(self.streams[0])(batch[self.streams[0]])
        return Seen(photo.x, None if bool(photo.mask.all()) else photo.mask)

    def joined(
        self, losses: Float[Tensor, " f"], tokens: Int[Tensor, " f"], texts: Inputs
    ) -> Float[Tensor, " b"]:
        return texts.mean((losses / tokens)[:, None])[:, 0]
