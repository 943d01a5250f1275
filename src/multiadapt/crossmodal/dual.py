"""Two encoders of one's own choice, compared through new projections: no cross-modal part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from multiadapt.crossmodal._base import BackboneSpec, Joint
from multiadapt.encoders._base import EncoderSpec
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.errors import SpecError
from multiadapt.types import Stream

__all__ = ["Dual"]


@dataclass(frozen=True)
class Dual(BackboneSpec):
    """Any encoder of pictures, texts, sounds or clips on each side, named by modality or column."""

    encoders: Mapping[str, EncoderSpec]
    width: int = 256
    """Of the vectors that are compared."""
    temperature: float = 0.07
    """What similarities are divided by at first."""

    def check(self) -> None:
        if self.width < 1:
            raise SpecError(f"width must be at least 1, got {self.width}")
        if self.temperature <= 0:
            raise SpecError(f"temperature must be above 0, got {self.temperature}")

    def open(self, streams: Sequence[Stream]) -> Joint:
        opened: dict[EncoderSpec, nn.Module | None] = {}
        encoders = {}
        for stream in streams:
            spec = self._spec(stream)
            if spec not in opened:
                opened[spec] = spec.open("classification")
            name = f"network{list(opened).index(spec)}"
            encoders[stream.name] = spec.build(stream, opened[spec], name)
        plain = [n for n, e in encoders.items() if not isinstance(e, PretrainedEncoder)]
        if plain:
            raise SpecError(f"retrieval compares pretrained encoders; {plain} have none")
        new = {n: nn.Linear(e.width, self.width) for n, e in encoders.items()}
        return Joint(encoders, new, self.temperature, new=True)

    def _spec(self, stream: Stream) -> EncoderSpec:
        spec = self.encoders.get(stream.name, self.encoders.get(stream.modality))
        if spec is None:
            raise SpecError(
                f"column {stream.name!r} holds {stream.modality}, for which no encoder is named; named "
                f"are {sorted(self.encoders)}"
            )
        return spec
