"""Answers: a question is read while it looks at a picture, and the decoder looks at what was read.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiadapt.crossmodal._blip import Parts
from multiadapt.crossmodal._cross import CrossPass, Seen, words_of
from multiadapt.crossmodal._writing import DECODER, WritingModel
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.methods._base import Method
from multiadapt.types import Inputs, Stream

__all__ = ["AnsweringModel"]


class AnsweringModel(WritingModel):
    """The loss of an answer is the sum over its tokens; a row's answers count by their shares.

    The question is never read without the picture, so that its layers have sites of role "cross" alone.
    """

    def __init__(
        self,
        parts: Parts,
        streams: Sequence[Stream],
        opening: int | None,
        method: Method,
        smoothing: float,
    ) -> None:
        """`streams`: the picture's and the question's."""
        image, question = streams
        super().__init__(parts, image, "", smoothing)
        self.opening = opening
        self.question = question.name
        self.reader = PretrainedEncoder(question, parts.text, "text")
        self.cross = CrossPass(parts.cross.network, modality="text")
        owners = {self.question: self.reader, DECODER: self.writer}
        self._adapt(method, [self.cross, self.writer], owners)
        self._settle()

    @property
    def reads(self) -> Mapping[str, Encoder]:
        return {**{s: self.encoder(s) for s in self.streams}, self.question: self.reader}

    def cuts(self) -> dict[str, int]:
        return {**super().cuts(), self.question: 0}

    def sight(self, batch: Mapping[str, Inputs]) -> Seen:
        photo = self.encoder(self.streams[0])(batch[self.streams[0]])
        ids, mask = words_of(batch[self.question], self.opening)
        looked = Seen(photo.x, None if bool(photo.mask.all()) else photo.mask)
        return Seen(self.cross(ids, mask, looked), mask)

    def joined(
        self, losses: Float[Tensor, " f"], tokens: Int[Tensor, " f"], texts: Inputs
    ) -> Float[Tensor, " b"]:
        rows = torch.arange(len(texts), device=losses.device).repeat_interleave(texts.count)
        weighted = losses * texts.tensors["share"]
        return losses.new_zeros(len(texts)).index_add(0, rows, weighted)
