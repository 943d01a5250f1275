"""BLIP: two towers, and a cross-modal pass that says whether a text fits a picture or clip.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from torch import nn

from multiadapt.crossmodal._base import BackboneSpec, Joint
from multiadapt.crossmodal._blip import Parts, open_blip
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.errors import SpecError
from multiadapt.types import Sampling, Stream

__all__ = ["Blip"]


@dataclass(frozen=True)
class Blip(BackboneSpec):
    """A BLIP network of transformers. It reads texts, pictures and clips, in either order, or two of a kind."""

    source: str = "Salesforce/blip-itm-base-coco"
    """"starter" (inside the package), a folder, a hub name, or "random:blip-base"."""
    size: int | None = None
    """Pixels of the square that the network reads. None: the checkpoint's own."""
    first: Literal["cls", "enc"] = "cls"
    """How a text opens that looks at a picture: as any other, as transformers runs BLIP, or with the token
    that BLIP was pretrained with, where the tokenizer knows it."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""
    frames: int = 8
    """Frames that are read of each clip, where a column holds clips."""
    sampling: Literal["uniform", "random", "stride"] = "uniform"
    """uniform: the middles of as many equal parts of the clip. random: a drawn moment in each part, the
    same in every epoch. stride: the first frame and every `stride`-th after it."""
    stride: int = 4
    """Frames from one read frame to the next with sampling="stride"."""
    frame_aware: bool = True
    """A text that looks at a clip weighs its frames by how near they are to it, without parameters. A question
    can where the checkpoint also holds the projections of retrieval; captions are asked by nobody."""

    def check(self) -> None:
        for name in ("frames", "stride"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} must be at least 1, got {getattr(self, name)}")

    def open(self, streams: Sequence[Stream]) -> Joint:
        for stream in streams:
            if stream.modality not in ("image", "video", "text"):
                raise SpecError(
                    f"BLIP reads texts, pictures and clips; {stream.name!r} holds {stream.modality}: name an "
                    "encoder of each side with backbone={'text': ..., ...}"
                )
        parts = open_blip(self.source, "retrieval", self.size, self.revision)
        both = [s.modality == "text" for s in streams] in ([True, False], [False, True])
        return Joint(
            {s.name: self.encoder(s, parts) for s in streams},
            {s.name: _projection(s, parts) for s in streams},
            0.07,
            cross=parts.cross if both else None,
            match=parts.match if both else None,
            opening=self.opening(parts),
            base=parts.base,
            frame_aware=self.frame_aware,
        )

    def encoder(self, stream: Stream, parts: Parts) -> PretrainedEncoder:
        """Of a column of texts, pictures or clips."""
        if stream.modality == "text":
            return PretrainedEncoder(stream, parts.text, "text")
        if stream.modality == "image":
            small = replace(stream, pixels=parts.vision.preparation.least)
            return PretrainedEncoder(small, parts.vision, "vision")
        sampled = replace(stream, sampling=Sampling(self.frames, self.sampling, self.stride))
        return PretrainedEncoder(sampled, parts.clips(self.frames), "vision")

    def opening(self, parts: Parts) -> int | None:
        """What takes the place of the first token of a text that looks at a picture; None: nothing does."""
        if self.first == "cls":
            return None
        if parts.enc is None:
            raise SpecError(
                f'first="enc" asks for the token [ENC], which the tokenizer of {self.source} does not know'
            )
        return parts.enc


def _projection(stream: Stream, parts: Parts) -> nn.Linear:
    vision, text = cast("tuple[nn.Linear, nn.Linear]", parts.projections)
    return text if stream.modality == "text" else vision
