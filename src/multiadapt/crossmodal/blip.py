"""BLIP for retrieval: two towers, and a cross-modal pass that says whether a text fits a picture.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from torch import nn

from multiadapt.crossmodal._base import BackboneSpec, Joint
from multiadapt.crossmodal._blip import Parts, open_blip
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.errors import SpecError
from multiadapt.types import Stream

__all__ = ["Blip"]


@dataclass(frozen=True)
class Blip(BackboneSpec):
    """A BLIP network of transformers. It reads texts and pictures, in either order, or two of a kind."""

    source: str = "Salesforce/blip-itm-base-coco"
    """A folder, a hub name, or "random:blip-base"."""
    size: int | None = None
    """Pixels of the square that the network reads. None: the checkpoint's own."""
    first: Literal["cls", "enc"] = "cls"
    """How a text opens that looks at a picture: as any other, as transformers runs BLIP, or with the token
    that BLIP was pretrained with, where the tokenizer knows it."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""

    def open(self, streams: Sequence[Stream]) -> Joint:
        for stream in streams:
            if stream.modality not in ("image", "text"):
                raise SpecError(
                    f"BLIP reads texts and pictures; {stream.name!r} holds {stream.modality}: name an "
                    "encoder of each side with backbone={'text': ..., ...}"
                )
        parts = open_blip(self.source, "retrieval", self.size, self.revision)
        both = len({s.modality for s in streams}) == 2
        return Joint(
            {s.name: _encoder(s, parts) for s in streams},
            {s.name: _projection(s, parts) for s in streams},
            0.07,
            cross=parts.cross if both else None,
            match=parts.match if both else None,
            opening=self.opening(parts),
            base=parts.base,
        )

    def opening(self, parts: Parts) -> int | None:
        """What takes the place of the first token of a text that looks at a picture; None: nothing does."""
        if self.first == "cls":
            return None
        if parts.enc is None:
            raise SpecError(
                f'first="enc" asks for the token [ENC], which the tokenizer of {self.source} does not know'
            )
        return parts.enc


def _encoder(stream: Stream, parts: Parts) -> Encoder:
    vision = stream.modality == "image"
    backbone = parts.vision if vision else parts.text
    return PretrainedEncoder(stream, backbone, "vision" if vision else "text")


def _projection(stream: Stream, parts: Parts) -> nn.Linear:
    vision, text = cast("tuple[nn.Linear, nn.Linear]", parts.projections)
    return vision if stream.modality == "image" else text
