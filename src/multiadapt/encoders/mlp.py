"""Embeddings of every column and a small perceptron: the tabular encoder that needs no context.

Numbers: Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning",
https://arxiv.org/abs/2203.05556 (piecewise-linear encoding), added to a linear embedding that starts
alone, as in https://arxiv.org/abs/2410.24210. Scaling: smooth clipping of robustly scaled values,
Holzmueller et al., https://arxiv.org/abs/2407.04491.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiadapt.attach import running
from multiadapt.encoders._base import (
    Encoder,
    EncoderSpec,
    Learned,
    Origin,
    Standardize,
    at_least,
    pooled_site,
)
from multiadapt.encoders._table import MISSING, UNSEEN, Vocabulary, frame_of, present
from multiadapt.errors import SpecError
from multiadapt.types import Cells, Inputs, Labels, Site, Stream, Tokens

__all__ = ["MLPEncoder"]


@dataclass(frozen=True)
class MLPEncoder(EncoderSpec):
    """Column embeddings and a perceptron, trained from scratch by every method."""

    modality: ClassVar[str] = "tabular"

    width: int = 128
    """Width of the hidden layers and of the pooled vector, at least 1."""
    depth: int = 2
    """Number of hidden layers, at least 1."""
    embedding: int = 16
    """Width of a column's embedding, at least 1."""
    bins: int = 16
    """Pieces of a numeric column's piecewise-linear encoding, at least 1."""
    dropout: float = 0.1
    """Share of hidden values dropped in training, 0 to below 1."""
    least: int = 2
    """A category seen in fewer training rows shares the embedding of unseen ones, and trains it."""

    def check(self) -> None:
        at_least(self, width=1, depth=1, embedding=1, bins=1, least=1)
        if not 0 <= self.dropout < 1:
            raise SpecError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module | None:
        return None

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return _MLP(self, stream, name)


class _MLP(Encoder):
    """Its layers depend on the table: `learn` or `restore` makes them, before `parameters()` is read."""

    def __init__(self, spec: MLPEncoder, stream: Stream, network: str) -> None:
        super().__init__()
        self.spec, self.stream, self.network = spec, stream, network
        self.width, self.blocks, self.trained = spec.width, 0, True
        self.vocabulary = Vocabulary((), {})
        self.scaling = torch.zeros(2, 0, dtype=torch.float64)
        self.numbers: _Numbers | None = None
        self.categories: _Categories | None = None
        self.body = nn.Sequential()
        self.pooled = Standardize(spec.width)

    def learn(self, cells: Cells, labels: Labels, seed: int) -> Inputs | None:
        """Vocabularies and scales of the training rows; makes the layers, at random by `seed`."""
        frame = frame_of(cells)
        vocabulary = Vocabulary.learn(frame, least=self.spec.least)
        x = vocabulary.numbers(frame)
        scaling = torch.tensor([_robust(c) for c in x.T], dtype=torch.float64).reshape(-1, 2).T
        edges = [_edges(c, self.spec.bins) for c in _scaled(x, scaling.numpy()).T]
        self._make(vocabulary, scaling, torch.tensor(np.array(edges), dtype=torch.float32), seed)
        return None

    def _make(self, vocabulary: Vocabulary, scaling: Tensor, edges: Tensor, seed: int) -> None:
        self.vocabulary, self.scaling = vocabulary, scaling
        spec, sizes = self.spec, [len(known) for known in vocabulary.categories.values()]
        columns = len(vocabulary.numeric) + len(sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.numbers = _Numbers(edges, spec.embedding) if vocabulary.numeric else None
            self.categories = _Categories(sizes, spec.embedding) if sizes else None
            self.body = _body(columns * spec.embedding, spec)
        self.to(self.pooled.mean.device)

    def prepare(self, cells: Cells) -> Inputs:
        frame = frame_of(cells)
        there = present(frame)
        x = _scaled(self.vocabulary.numbers(frame), self.scaling.numpy())
        tensors = {
            "numbers": torch.tensor(x[there], dtype=torch.float32),
            "codes": torch.tensor(self.vocabulary.codes(frame)[there]),
        }
        return Inputs(tensors, torch.tensor(there, dtype=torch.int64))

    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        if cut != 0:
            raise SpecError(f"all of the mlp encoder is trained: the only cut is 0, got {cut}")
        return inputs

    def forward(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None = None) -> Tokens:
        with running(self.stream.name):
            parts: list[Tensor] = []
            if self.numbers is not None:
                parts.append(self.numbers(inputs.tensors["numbers"]))
            if self.categories is not None:
                parts.append(self.categories(inputs.tensors["codes"]))
            hidden = inputs.mean(self.body(torch.cat(parts, dim=1).flatten(1)))
            return Tokens.single(self.corrected(hidden, inputs), inputs.count > 0)

    def sites(self) -> tuple[Site, ...]:
        return (pooled_site(self, self.network),)

    def origin(self) -> Origin:
        return Origin("trained from scratch", licence="none needed")

    def learned(self) -> Learned:
        tensors = {"scaling": self.scaling}
        if self.numbers is not None:
            tensors["edges"] = self.numbers.edges.cpu()
        return Learned(self.vocabulary.to_values(), tensors)

    def restore(self, learned: Learned) -> None:
        """Makes the layers again; their trained weights are loaded by whoever kept them."""
        edges = learned.tensors.get("edges", torch.zeros(0, self.spec.bins + 1))
        vocabulary = Vocabulary.from_values(learned.values)
        self._make(vocabulary, learned.tensors["scaling"], edges, seed=0)


def _body(inputs: int, spec: MLPEncoder) -> nn.Sequential:
    widths = [inputs, *[spec.width] * spec.depth]
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), nn.ReLU(), nn.Dropout(spec.dropout)]
    return nn.Sequential(*layers)


class _Numbers(nn.Module):
    """`E_i(x) = a_i x + b_i + W_i ple_i(x)`, or a vector of its own where x is missing."""

    edges: Tensor
    inverse: Tensor

    def __init__(self, edges: Float[Tensor, "n k"], width: int) -> None:
        super().__init__()
        gap = edges.diff(dim=1)
        inverse = torch.where(gap > 0, 1 / gap.clamp_min(1e-30), 0.0)  # 0: a piece without extent
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("inverse", inverse, persistent=False)
        bound = width**-0.5
        self.slope = nn.Parameter(torch.empty(len(edges), width).uniform_(-bound, bound))
        self.offset = nn.Parameter(torch.empty(len(edges), width).uniform_(-bound, bound))
        self.pieces = nn.Parameter(torch.zeros(len(edges), gap.shape[1], width))
        self.missing = nn.Parameter(torch.zeros(len(edges), width))

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        absent = x.isnan()[..., None]
        value = x.nan_to_num(0.0)[..., None]
        encoded = ((value - self.edges[:, :-1]) * self.inverse).clamp(0, 1)
        pieces = torch.einsum("bnk,nkd->bnd", encoded, self.pieces)
        return torch.where(absent, self.missing, value * self.slope + self.offset + pieces)


class _Categories(nn.Module):
    """One table for all columns: per column a row for unseen, one for missing, then the known ones."""

    start: Tensor

    def __init__(self, sizes: list[int], width: int) -> None:
        super().__init__()
        rows = torch.tensor([s + 2 for s in sizes])
        self.register_buffer("start", rows.cumsum(0) - rows, persistent=False)
        self.table = nn.Embedding(int(rows.sum()), width)
        bound = width**-0.5
        with torch.no_grad():
            self.table.weight.uniform_(-bound, bound)
            for special in (0, 1):  # the mean of the others, in case training never meets them
                self.table.weight[self.start + special] = 0.0

    def forward(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        row = torch.where(codes == MISSING, 1, torch.where(codes == UNSEEN, 0, codes + 2))
        return self.table(row + self.start)


def _robust(column: Float[np.ndarray, " b"]) -> tuple[float, float]:
    """Median and a scale like a standard deviation; (0, 1) without values, scale 1 without spread."""
    values: Any = column[~np.isnan(column)]
    if len(values) == 0:
        return 0.0, 1.0
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = (high - low) / 1.349 or (values.max() - values.min()) / 2
    return float(middle), float(scale) if scale > 0 else 1.0


def _scaled(
    x: Float[np.ndarray, "b n"], scaling: Float[np.ndarray, "2 n"]
) -> Float[np.ndarray, "b n"]:
    """Robustly scaled and smoothly clipped to (-3, 3); NaN stays."""
    z = (x - scaling[0]) / scaling[1]
    return z / np.hypot(1, z / 3)


def _edges(column: Float[np.ndarray, " b"], bins: int) -> Float[np.ndarray, " k"]:
    """Quantiles of the values seen; where values repeat, so do edges."""
    values = column[~np.isnan(column)]
    return np.quantile(values, np.linspace(0, 1, bins + 1)) if len(values) else np.zeros(bins + 1)
