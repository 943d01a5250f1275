"""Captions: the decoder looks at a picture or at all frames of a clip and goes on after a prompt.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from multiadapt.crossmodal._blip import Parts
from multiadapt.crossmodal._cross import Seen
from multiadapt.crossmodal._writing import DECODER, WritingModel
from multiadapt.encoders._base import Encoder
from multiadapt.methods._base import Method
from multiadapt.types import Inputs

__all__ = ["CaptioningModel"]


class CaptioningModel(WritingModel):
    """The loss is the mean over a caption's tokens; those of the prompt do not count."""

    def __init__(
        self, parts: Parts, shown: Encoder, prompt: str, method: Method, smoothing: float
    ) -> None:
        super().__init__(parts, shown, prompt, smoothing)
        self._adapt(method, [self.writer], {DECODER: self.writer})
        self._settle()

    def sight(self, batch: Mapping[str, Inputs]) -> Seen:
        return Seen.of(self.shown(batch))

    def joined(
        self, losses: Float[Tensor, " f"], tokens: Int[Tensor, " f"], texts: Inputs
    ) -> Float[Tensor, " b"]:
        return texts.mean((losses / tokens)[:, None])[:, 0]
