"""Vectors computed before, by whatever encoder: they are the embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.attach import running
from multiadapt.encoders._base import (
    Encoder,
    EncoderSpec,
    Learned,
    Origin,
    Standardize,
    pooled_site,
)
from multiadapt.errors import CellError, EncoderError, SchemaError
from multiadapt.types import Cells, Inputs, Labels, Site, Stream, Tokens

__all__ = ["VectorEncoder"]


@dataclass(frozen=True)
class VectorEncoder(EncoderSpec):
    """A column of lists of numbers, or of .npy files, as it is; all of one length."""

    modality: ClassVar[str] = "vector"

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module | None:
        return None

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return _Vectors(stream)


class _Vectors(Encoder):
    """All of it is prefix: cut 1 is the pooled vector. The width is known after `learn`."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream
        self.width, self.blocks, self.trained = 0, 0, False
        self.pooled = Standardize(0)

    def learn(self, cells: Cells, labels: Labels, seed: int) -> Inputs | None:
        lengths = {len(v) for row in cast("Sequence[Sequence[np.ndarray]]", cells) for v in row}
        if len(lengths) != 1:
            held = f"they have {sorted(lengths)}" if lengths else "there are none"
            raise SchemaError(
                f"the vectors of column {self.stream.name!r} must all have as many numbers, {held}"
            )
        self._set_width(lengths.pop())
        return None

    def prepare(self, cells: Cells) -> Inputs:
        rows = cast("Sequence[Sequence[np.ndarray]]", cells)
        items = [vector for row in rows for vector in row]
        if wrong := [len(v) for v in items if len(v) != self.width]:
            raise CellError(
                f"vectors of column {self.stream.name!r} must have {self.width} numbers as in training, "
                f"got {wrong[0]}"
            )
        vectors = torch.from_numpy(np.stack(items)) if items else torch.zeros(0, self.width)
        return Inputs({"vectors": vectors}, torch.tensor([len(row) for row in rows]))

    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        if not inputs.cut <= cut <= 1:
            raise EncoderError(f"cut must be in {inputs.cut}..1 for these inputs, got {cut}")
        (vectors,) = inputs.tensors.values()
        return inputs if cut == inputs.cut else Inputs({"pooled": vectors}, inputs.count, 1)

    def forward(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None = None) -> Tokens:
        deep, there = self.prefix(inputs, 1), inputs.count > 0
        with running(self.stream.name):
            pooled = self.corrected(deep.mean(deep.tensors["pooled"]), inputs)
        return Tokens.single(pooled, there)

    def sites(self) -> tuple[Site, ...]:
        return (pooled_site(self, ""),)

    def origin(self) -> Origin:
        return Origin("vectors of the table", licence="none needed")

    def learned(self) -> Learned:
        return Learned({"width": self.width})

    def restore(self, learned: Learned) -> None:
        self._set_width(learned.values["width"])

    def _set_width(self, width: int) -> None:
        self.width = width
        self.pooled = Standardize(width).to(self.pooled.mean.device)
