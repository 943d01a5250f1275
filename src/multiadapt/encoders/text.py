"""Texts, through frozen networks that transformers keeps."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

from torch import nn

from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.encoders._families._open import open_network
from multiadapt.encoders._families._text_family import TextFamily
from multiadapt.encoders._families._tokens import TokenPreparation
from multiadapt.encoders._pretrained import Backbone, PretrainedEncoder
from multiadapt.errors import EncoderError, SpecError
from multiadapt.types import Stream

__all__ = ["TextEncoder"]


@dataclass(frozen=True)
class TextEncoder(EncoderSpec):
    """A pretrained network of texts, frozen."""

    modality: ClassVar[str] = "text"

    source: str = "starter"
    """A folder, a hub name, "random:minilm", or "starter": the small encoder inside the package, which
    reads English and 128 tokens."""
    max_length: int | None = None
    """Tokens after which a text is cut, opening and closing ones included. None: the checkpoint's own."""
    prompt: str = ""
    """Put before every text, such as "passage: " for E5, which was trained so."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""

    def check(self) -> None:
        if not self.source:
            raise SpecError("source must name a text network, got an empty text")
        if self.max_length is not None and self.max_length < 1:
            raise SpecError(f"max_length must be at least 1 token, got {self.max_length}")

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module:
        opened = open_network(self.source, "text", TokenPreparation.read, self.revision)
        # Only now are both known: the network, and what lies beside it in the checkpoint.
        family, preparation = cast(TextFamily, opened.family), opened.preparation
        family = type(family)(family.network, preparation.pooling)
        preparation = replace(
            preparation,
            limit=self._limit(family, preparation),
            fill=family.longest if family.fills else 0,
            prompt=self.prompt,
        )
        return Backbone(replace(opened, family=family, preparation=preparation))

    def _limit(self, family: TextFamily, preparation: TokenPreparation) -> int:
        own = len(preparation.before) + len(preparation.after)
        limit = self.max_length or min(family.longest, preparation.limit)
        if not own < limit <= family.longest:
            raise EncoderError(
                f"{self.source} reads texts of {own + 1} to {family.longest} tokens, {own} of which it "
                f"adds itself; got max_length={limit}"
            )
        return limit

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return PretrainedEncoder(stream, cast(Backbone, network), name)
