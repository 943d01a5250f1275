"""Gradient-boosted trees whose raw score is the pooled vector: the baseline on the table alone.

scikit-learn's HistGradientBoosting (after LightGBM, Ke et al. 2017) grows the trees; they are kept
as arrays, walked here, before saving and after.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiadapt.attach import running
from multiadapt.encoders._base import Encoder, EncoderSpec, Learned, Origin
from multiadapt.encoders._table import Vocabulary, frame_of
from multiadapt.errors import EncoderError, SpecError
from multiadapt.types import Cells, Inputs, Labels, Site, Stream, Tokens

__all__ = ["TreesEncoder"]

_MOST = 254
"""Categories of a column that keep a code of their own; the trees know 255, one is for the others."""


@dataclass(frozen=True)
class TreesEncoder(EncoderSpec):
    """HistGradientBoosting on the table; its scores need no head."""

    modality: ClassVar[str] = "tabular"

    max_iter: int = 100
    """Rounds of boosting, at least 1."""
    learning_rate: float = 0.1
    """Above 0."""
    max_leaf_nodes: int = 31
    """Leaves of a tree, at least 2."""
    min_samples_leaf: int = 20
    """Training rows in a leaf, at least 1."""
    l2: float = 0.0
    """Penalty on the values of leaves, at least 0."""
    stop_after: int | None = None
    """Rounds without a better score on a held-out tenth of the rows. None: all rows, all rounds."""

    def check(self) -> None:
        for field, least in (("max_iter", 1), ("max_leaf_nodes", 2), ("min_samples_leaf", 1)):
            if getattr(self, field) < least:
                raise SpecError(f"{field} must be at least {least}, got {getattr(self, field)}")
        if self.learning_rate <= 0:
            raise SpecError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.l2 < 0:
            raise SpecError(f"l2 must be at least 0, got {self.l2}")
        if self.stop_after is not None and self.stop_after < 1:
            raise SpecError(f"stop_after must be at least 1 or none, got {self.stop_after}")

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module | None:
        return None

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return _Trees(self, stream)


class _Trees(Encoder):
    """Its `width`, the number of scores, is known after `learn` or `restore`."""

    def __init__(self, spec: TreesEncoder, stream: Stream) -> None:
        super().__init__()
        self.spec, self.stream = spec, stream
        self.width, self.blocks, self.trained = 0, 0, False
        self.vocabulary = Vocabulary((), {})
        self.forest: _Forest | None = None
        # Where a model is moved to is read from its tensors, and this one has no other.
        self.register_buffer("place", torch.zeros(0), persistent=False)

    def learn(self, cells: Cells, labels: Labels, seed: int) -> Inputs | None:
        """Grows the trees on the training rows."""
        frame = frame_of(cells)
        self.vocabulary = Vocabulary.learn(frame, most=_MOST)
        x = self._codes(frame)
        y = labels.y if labels.y.ndim == 2 else labels.y[:, None]
        categorical = np.arange(x.shape[1]) < len(self.vocabulary.categories)
        parts = [_grown(self.spec, x, t, categorical, labels, seed) for t in y.T]
        self._set(_Forest.join(parts))
        return None

    def prepare(self, cells: Cells) -> Inputs:
        frame = frame_of(cells)
        rows = torch.tensor(self._codes(frame))
        return Inputs({"rows": rows}, torch.ones(len(frame), dtype=torch.int64))

    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        if not inputs.cut <= cut <= 1:
            raise EncoderError(f"cut must be in {inputs.cut}..1 for these inputs, got {cut}")
        if cut == inputs.cut:
            return inputs
        if self.forest is None:
            raise EncoderError(f"{self.stream.name}: trees must learn before they can score")
        rows = inputs.tensors["rows"]
        scores = self.forest.scores(rows.cpu().numpy())
        pooled = torch.tensor(scores, dtype=torch.float32, device=rows.device)
        return Inputs({"pooled": pooled}, inputs.count, 1)

    def forward(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None = None) -> Tokens:
        with running(self.stream.name):
            return Tokens.single(self.prefix(inputs, 1).tensors["pooled"], inputs.count > 0)

    def sites(self) -> tuple[Site, ...]:
        return ()

    def origin(self) -> Origin:
        return Origin("grown on the training rows", licence="none needed")

    def learned(self) -> Learned:
        if self.forest is None:
            raise EncoderError(f"{self.stream.name}: trees must learn before they can be saved")
        return Learned(self.vocabulary.to_values(), self.forest.tensors())

    def restore(self, learned: Learned) -> None:
        self.vocabulary = Vocabulary.from_values(learned.values)
        self._set(_Forest({k: t.numpy() for k, t in learned.tensors.items()}))

    def _set(self, forest: "_Forest") -> None:
        self.forest, self.width = forest, len(forest.arrays["baseline"])

    def _codes(self, frame: pd.DataFrame) -> Float[np.ndarray, "b k"]:
        """Categories, 0 for all without a code of their own, then numbers; NaN where missing."""
        codes = self.vocabulary.codes(frame).astype(np.float64)
        codes = np.where(codes < -1, np.nan, codes + 1)
        return np.concatenate([codes, self.vocabulary.numbers(frame)], axis=1)


class _Forest:
    """Trees one after another, as arrays over all their nodes; `root` and `score` are per tree.

    `left_set` and `known_set` are rows of 256 bits: the categories of a node that go left, and those
    met in training. A category that was not met goes where missing cells go.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    @staticmethod
    def join(parts: "list[_Forest]") -> "_Forest":
        """All trees of several forests, each with scores of its own."""
        counted = {"left": "value", "right": "value", "root": "value", "set": "left_set", "score": "baseline"}
        joined: dict[str, np.ndarray] = {}
        for key in parts[0].arrays:
            pieces = [p.arrays[key] for p in parts]
            if key in counted:
                sizes = [len(p.arrays[counted[key]]) for p in parts]
                start = np.cumsum([0, *sizes[:-1]])
                pieces = [a + s for a, s in zip(pieces, start, strict=True)]
            joined[key] = np.concatenate(pieces).astype(parts[0].arrays[key].dtype)
        return _Forest(joined)

    def tensors(self) -> dict[str, Tensor]:
        return {k: torch.tensor(v) for k, v in self.arrays.items()}

    def scores(self, x: Float[np.ndarray, "b k"]) -> Float[np.ndarray, "b c"]:
        """Baseline and the value of one leaf of every tree, added in the order of the trees."""
        a = self.arrays
        total = np.repeat(a["baseline"][None], len(x), axis=0)
        for root, score in zip(a["root"], a["score"], strict=True):
            node = np.full(len(x), root)
            moving = np.flatnonzero(~a["is_leaf"][node])
            while len(moving):
                node[moving] = self._next(node[moving], x[moving])
                moving = moving[~a["is_leaf"][node[moving]]]
            total[:, score] += a["value"][node]
        return total

    def _next(
        self, node: Int[np.ndarray, " m"], x: Float[np.ndarray, "m k"]
    ) -> Int[np.ndarray, " m"]:
        a = self.arrays
        value = x[np.arange(len(x)), a["feature"][node]]
        absent, categorical = np.isnan(value), a["is_categorical"][node]
        code = np.where(absent | ~categorical, 0, value).astype(np.int64)
        row = a["set"][node]
        in_left = _bit(a["left_set"], row, code)
        absent |= categorical & ~_bit(a["known_set"], row, code)
        left = np.where(categorical, in_left, value <= a["threshold"][node])
        left = np.where(absent, a["missing_left"][node], left)
        return np.where(left, a["left"][node], a["right"][node])


def _bit(
    sets: UInt8[np.ndarray, "s 32"], row: Int[np.ndarray, " m"], code: Int[np.ndarray, " m"]
) -> Bool[np.ndarray, " m"]:
    return ((sets[row, code >> 3] >> (code & 7).astype(np.uint8)) & 1).astype(bool)


def _grown(
    spec: TreesEncoder,
    x: Float[np.ndarray, "b k"],
    y: np.ndarray,
    categorical: Bool[np.ndarray, " k"],
    labels: Labels,
    seed: int,
) -> _Forest:
    """The trees for one target: a value, a class number, or one label's zeros and ones."""
    if labels.kind == "regression":
        model = _model(spec, categorical, seed, classify=False).fit(x, y)
        return _taken(model, categorical, [0], model._baseline_prediction[0])
    outputs = labels.classes if labels.kind == "classification" and labels.classes > 2 else 1
    met, count = np.unique(y, return_counts=True)
    if spec.stop_after is not None and len(met) > 1 and count.min() < 2:
        raise EncoderError("stop_after needs at least 2 rows of every class, one has 1; set it to none")
    floor = -np.log(2.0 * len(y))  # half a row of a class that no row has
    if len(met) == 1:
        lone = np.full(outputs, floor)
        lone[met[0] if outputs > 1 else 0] = -floor if outputs == 1 and met[0] == 1 else floor
        if outputs > 1:
            lone[met[0]] = 0.0
        return _taken(None, categorical, [], lone)
    model = _model(spec, categorical, seed, classify=True).fit(x, y)
    prior = model._baseline_prediction[0]
    if outputs == 1:
        return _taken(model, categorical, [0], prior)
    baseline = np.full(outputs, floor)
    baseline[met] = prior if len(met) > 2 else [0.0, prior[0]]
    return _taken(model, categorical, list(met) if len(met) > 2 else [met[1]], baseline)
