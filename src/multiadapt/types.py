"""The values that travel between the parts: columns, streams, inputs, tokens, sites.

Letters in shapes: b rows, f items (files) of a batch, n tokens, d width, g guests, c outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

__all__ = [
    "Cells",
    "Clip",
    "Column",
    "Convolution",
    "Inputs",
    "Kind",
    "Labels",
    "Role",
    "Sampling",
    "Site",
    "Sound",
    "Stream",
    "Tokens",
]

Kind: TypeAlias = Literal[
    "numeric",
    "categorical",
    "text",
    "image",
    "audio",
    "video",
    "vector",
    "datetime",
    "identifier",
    "ignore",
]

Role: TypeAlias = Literal[
    "query",
    "key",
    "value",
    "out",
    "ffn_in",
    "ffn_mid",
    "ffn_out",
    "ffn",
    "cross",
    "norm",
    "conv",
    "residual",
    "block",
    "pooled",
    "entry",
]

Cells: TypeAlias = object
"""What an encoder prepares: a DataFrame for a tabular stream; for any other a sequence with one list
per row, empty where the cell is missing: of RGB arrays (h, w, 3) uint8, of texts, of sounds, of clips, of
vectors (d,) float32."""


@dataclass(frozen=True)
class Sound:
    """One recording, mixed to mono."""

    samples: Float[np.ndarray, " t"]
    """float32, full scale is -1 to 1."""
    rate: int
    """Samples per second."""


@dataclass(frozen=True)
class Clip:
    """Frames of one film, as many as its stream samples; where it has too few, some stand repeatedly."""

    frames: tuple[UInt8[np.ndarray, "_ _ 3"], ...]


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are read."""

    frames: int = 8
    how: Literal["uniform", "random", "stride"] = "uniform"
    """uniform: the middles of as many equal parts of its length. random: one moment in each part. stride:
    the first frame and every `stride`-th after it."""
    stride: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Column:
    """One column of the user's table and what it holds."""

    name: str
    kind: Kind
    reason: str
    """One line that says why it is of this kind."""


@dataclass(frozen=True)
class Stream:
    """What one encoder reads: all tabular columns together, or one column of another kind."""

    name: str
    modality: str
    columns: tuple[Column, ...]
    sampling: Sampling | None = None
    """Which frames its encoder reads of a clip; None but in streams of clips."""
    pixels: int | None = None
    """Sides that suffice its encoder: of a larger picture less may be decoded. None: it wants all."""


@dataclass(frozen=True)
class Labels:
    """Encoded targets of the training rows, for encoders that learn from them."""

    kind: Literal["classification", "regression", "multilabel"]
    y: np.ndarray
    """(b,) class numbers, (b,) standardised values, or (b, c) zeros and ones."""
    classes: int
    """Number of classes or labels; 0 for regression."""
    groups: np.ndarray | None = None
    """(b,) rows with equal values stay on one side of every split."""
    weight: np.ndarray | None = None
    """(b,) how much each row counts, the weight of its class included; None: all alike."""


@dataclass(frozen=True)
class Inputs:
    """A batch as an encoder reads it. Row i owns `count[i]` consecutive items; 0 means missing."""

    tensors: Mapping[str, Tensor]
    """Each (f, ...)."""
    count: Int[Tensor, " b"]
    cut: int = 0
    """How much of the network the tensors have already passed: 0 = nothing."""
    notes: tuple[tuple[str, int], ...] = ()
    """What was done to how many items when they were prepared, such as ("texts are cut", 3)."""

    def __len__(self) -> int:
        return len(self.count)

    @property
    def items(self) -> int:
        """Number of items f of all rows together."""
        return len(next(iter(self.tensors.values())))

    @cached_property
    def single(self) -> bool:
        """True where every row has one item: rows are items."""
        return self.items == len(self) and bool((self.count == 1).all())

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    def to(self, device: torch.device) -> "Inputs":
        ahead = device.type != "cpu"  # back to the CPU, who reads next would not wait
        moved = {k: t.to(device, non_blocking=ahead) for k, t in self.tensors.items()}
        return replace(self, tensors=moved, count=self.count.to(device, non_blocking=ahead))

    def pinned(self) -> "Inputs":
        """In memory that a GPU reads by itself, so that `to` waits for nothing."""
        fixed = {k: t.pin_memory() for k, t in self.tensors.items()}
        return replace(self, tensors=fixed, count=self.count.pin_memory())

    def select(self, rows: Int[Tensor, " k"]) -> "Inputs":
        """The rows named by `rows`, in that order, with their items."""
        count = self.count[rows]
        if self.single:
            chosen = rows
        else:
            start = (self.count.cumsum(0) - self.count)[rows]
            inner = torch.arange(int(count.sum()), device=count.device)
            inner = inner - (count.cumsum(0) - count).repeat_interleave(count)
            chosen = start.repeat_interleave(count) + inner
        return replace(self, tensors={k: t[chosen] for k, t in self.tensors.items()}, count=count)

    def mean(self, vectors: Float[Tensor, "f d"]) -> Float[Tensor, "b d"]:
        """The mean of each row's items, of which `vectors` has one each; zeros for a row without any."""
        if self.single:
            return vectors
        rows = torch.arange(len(self), device=vectors.device)
        row = rows.repeat_interleave(self.count, output_size=len(vectors))
        total = vectors.new_zeros(len(self), vectors.shape[1]).index_add(0, row, vectors)
        return total / self.count.clamp_min(1)[:, None]

    def blank(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The rows' vectors, zeros for a row without any item."""
        return vectors if self.single else torch.where((self.count > 0)[:, None], vectors, 0.0)

    @staticmethod
    def join(parts: Sequence["Inputs"]) -> "Inputs":
        """The rows of all parts, in order. Parts have passed the same cut.

        Sequences of different lengths are padded to the longest with zeros, which their masks show.
        """
        names = parts[0].tensors
        tensors = {k: _stacked([p.tensors[k] for p in parts]) for k in names}
        return Inputs(tensors, torch.cat([p.count for p in parts]), parts[0].cut)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    lengths = {p.shape[1] for p in parts if p.ndim > 1}
    if len(lengths) < 2:
        return torch.cat([*parts])
    rows, longest = sum(len(p) for p in parts), max(lengths)
    together = parts[0].new_zeros(rows, longest, *parts[0].shape[2:])
    start = 0
    for part in parts:
        together[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return together


@dataclass(frozen=True)
class Tokens:
    """What an encoder says about each row, and what a fusion reads."""

    x: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]
    """False where a token is padding. A missing cell is a row of False."""
    pooled: Float[Tensor, "b d"]
    """One vector a row, by the family's written rule; zeros where the cell is missing."""
    guests: Float[Tensor, "b g d"]
    """What the guests (mask tokens) became: they look, nobody looks back."""

    @staticmethod
    def single(pooled: Float[Tensor, "b d"], present: Bool[Tensor, " b"]) -> "Tokens":
        """Tokens of an encoder that gives one vector a row."""
        return Tokens(pooled[:, None], present[:, None], pooled, pooled[:, None][:, :0])


@dataclass(frozen=True)
class Convolution:
    """The shape of a convolution, as torch's layers name it."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True)
class Site:
    """Where an adapter may be attached."""

    stream: str
    """The stream it belongs to; "fusion" for a fusion's own."""
    path: str
    """Submodule of the encoder whose output is corrected."""
    role: Role
    block: int
    """Number of the block, counted from the input; the pooled site's is the number of blocks."""
    in_width: int
    out_width: int
    stage: int = 0
    """Number of the stage that the block is in; a plain transformer has four equal ones."""
    stages: int = 1
    """How many stages the network has."""
    network: str = ""
    """Streams with the same network share it in memory, and may share adapters."""
    modality: str = ""
    reads: tuple[str, ...] = ()
    """Submodules whose input is read, in order; () = the path's own."""
    part: tuple[int, int] | None = None
    """Slice of a fused output such as qkv."""
    layout: Literal["tokens", "map", "vector"] = "tokens"
    convolution: Convolution | None = None
    """Set where the path is a convolution."""
    index: int = 0
    """Which of several places with one role in one block."""

    @property
    def key(self) -> str:
        """stream/block/role: stable across library versions; saved tensors are named by it."""
        key = f"{self.stream}/{self.block}/{self.role}"
        return f"{key}.{self.index}" if self.index else key
