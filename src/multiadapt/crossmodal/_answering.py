"""Answers: a question is read while it looks at a picture or a clip, and the decoder looks at what was read.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.crossmodal._blip import Parts
from multiadapt.crossmodal._cross import CrossPass, Seen, words_of
from multiadapt.crossmodal._frames import clips_of
from multiadapt.crossmodal._writing import DECODER, WritingModel
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._fingerprint import fingerprint
from multiadapt.methods._base import Method
from multiadapt.types import Inputs

__all__ = ["AnsweringModel"]


class AnsweringModel(WritingModel):
    """The loss of an answer is the sum over its tokens; a row's answers count by their shares.

    The question is read while it looks at what is shown, so that its layers have sites of role "cross" alone.
    Where it weighs the frames of a clip, it has been read before without them and without adapters: by the
    pretrained network, or, where a method trains that one's own parameters, by what they have become.
    """

    def __init__(
        self,
        parts: Parts,
        shown: Encoder,
        question: Encoder,
        opening: int | None,
        method: Method,
        smoothing: float,
    ) -> None:
        """Frames of clips are weighed where `parts` has the projections for it."""
        super().__init__(parts, shown, "", smoothing)
        self.opening = opening
        self.question = question.stream.name
        self.reader = question
        weighs = parts.projections is not None and clips_of({shown.stream.name: shown})
        self.projections = nn.ModuleList(parts.projections or ()) if weighs else None
        self.weighs_by = "" if self.projections is None else fingerprint(self.projections)
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
        looked = Seen.of(self.shown(batch))
        if self.projections is not None:
            vision, text = self.projections
            (stream,) = self.streams
            said = self._said(batch[self.question], text)
            looked = looked.framed(batch[stream], vision).asked(said)
        ids, mask = words_of(batch[self.question], self.opening)
        return Seen(self.cross(ids, mask, looked), mask)

    @torch.no_grad()  # none flows through the weights
    def _said(self, questions: Inputs, project: nn.Module) -> Float[Tensor, "b e"]:
        """What questions weigh frames by."""
        return F.normalize(project(self.reader(questions).pooled), dim=-1)

    def joined(
        self, losses: Float[Tensor, " f"], tokens: Int[Tensor, " f"], texts: Inputs
    ) -> Float[Tensor, " b"]:
        rows = torch.arange(len(texts), device=losses.device).repeat_interleave(texts.count)
        weighted = losses * texts.tensors["share"]
        return losses.new_zeros(len(texts)).index_add(0, rows, weighted)
