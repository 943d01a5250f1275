"""Two encoders of one's own choice: no cross-modal part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.crossmodal._base import BackboneSpec, Joint
from multiadapt.crossmodal._clip import Own, own_projections
from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.encoders.image import ImageEncoder
from multiadapt.encoders.text import TextEncoder
from multiadapt.encoders.video import VideoEncoder
from multiadapt.errors import SpecError
from multiadapt.types import Stream

__all__ = ["Dual"]

_TOWERS = (ImageEncoder, TextEncoder, VideoEncoder)
_WIDTH, _TEMPERATURE, _DROPOUT = 256, 0.07, 0.5


@dataclass(frozen=True)
class Dual(BackboneSpec):
    """Any encoder of pictures, texts, sounds or clips on each side, named by modality or column.

    Where both sides are towers of one CLIP or SigLIP, they are compared as that network compares them; else
    through new projections.
    """

    encoders: Mapping[str, EncoderSpec]
    width: int | None = None
    """Of the vectors that are compared, through new projections. None: the checkpoint's own projections
    where there are such, else 256."""
    temperature: float | None = None
    """What similarities are divided by at first. None: the checkpoint's own, else 0.07."""
    dropout: float | None = None
    """Share of the numbers hidden at random from new projections in training, at least 0, below 1. None: 0.5,
    for a few thousand pairs are soon learned by heart."""
    frame_aware: bool = True
    """What is compared with a clip weighs its frames by how near they are to it, without parameters, where
    a network of pictures reads them one by one and pools them by their mean."""

    def check(self) -> None:
        if self.width is not None and self.width < 1:
            raise SpecError(f"width must be at least 1, got {self.width}")
        if self.temperature is not None and self.temperature <= 0:
            raise SpecError(f"temperature must be above 0, got {self.temperature}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise SpecError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def open(self, streams: Sequence[Stream]) -> Joint:
        encoders = self._encoders(streams)
        own = self._own(streams)
        if own is None:
            wide, dropout = self.width or _WIDTH, _DROPOUT if self.dropout is None else self.dropout
            projections = {n: _Projection(e.width, wide, dropout) for n, e in encoders.items()}
        elif self.dropout is not None:
            raise SpecError(
                f"dropout={self.dropout} is of new projections, and this network has its own: leave it out, "
                "or give a width"
            )
        else:
            texts = {s.name for s in streams if s.modality == "text"}
            projections = {n: own.text if n in texts else own.vision for n in encoders}
        temperature = self.temperature or (_TEMPERATURE if own is None else own.temperature)
        return Joint(
            encoders, projections, temperature, new=own is None, frame_aware=self.frame_aware
        )

    def _encoders(self, streams: Sequence[Stream]) -> dict[str, Encoder]:
        opened: dict[EncoderSpec, nn.Module | None] = {}
        encoders: dict[str, Encoder] = {}
        for stream in streams:
            spec = self.spec(stream)
            if spec not in opened:
                opened[spec] = spec.open("classification")
            name = f"network{list(opened).index(spec)}"
            encoders[stream.name] = spec.build(stream, opened[spec], name)
        plain = [n for n, e in encoders.items() if not isinstance(e, PretrainedEncoder)]
        if plain:
            raise SpecError(f"retrieval compares pretrained encoders; {plain} have none")
        return encoders

    def _own(self, streams: Sequence[Stream]) -> Own | None:
        """The projections of the one network that both sides are towers of."""
        specs = [self.spec(stream) for stream in streams]
        if self.width is not None or not all(isinstance(s, _TOWERS) for s in specs):
            return None
        found = {(s.source, s.revision) for s in specs if isinstance(s, _TOWERS)}
        return own_projections(*found.pop()) if len(found) == 1 else None

    def spec(self, stream: Stream) -> EncoderSpec:
        """The encoder of a column. SpecError: none is named for it."""
        spec = self.encoders.get(stream.name, self.encoders.get(stream.modality))
        if spec is None:
            raise SpecError(
                f"column {stream.name!r} holds {stream.modality}, for which no encoder is named; named "
                f"are {sorted(self.encoders)}"
            )
        return spec


class _Projection(nn.Linear):
    """A linear map that starts at random."""

    def __init__(self, width: int, wide: int, dropout: float) -> None:
        super().__init__(width, wide)
        self.dropout = dropout

    def forward(self, input: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:  # noqa: A002 - torch's name
        return super().forward(F.dropout(input, self.dropout, self.training))
