"""Gradient-boosted trees whose raw score is the pooled vector: the baseline on the table alone.

scikit-learn's HistGradientBoosting (after LightGBM, Ke et al. 2017) grows the trees; they are kept
as arrays, walked here, before saving and after.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.attach import running
from multiadapt.encoders._base import Encoder, EncoderSpec, Learned, Origin, at_least
from multiadapt.encoders._forest import Forest, Rows, grow
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
        at_least(self, max_iter=1, max_leaf_nodes=2, min_samples_leaf=1)
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
        self.forest: Forest | None = None
        # Where a model is moved to is read from its tensors, and this one has no other.
        self.register_buffer("place", torch.zeros(0), persistent=False)

    def learn(self, cells: Cells, labels: Labels, seed: int) -> Inputs | None:
        """Grows the trees on the training rows."""
        frame = frame_of(cells)
        self.vocabulary = Vocabulary.learn(frame, most=_MOST)
        options, outputs = self._options(labels, seed), 1
        if labels.kind != "multilabel":
            many = labels.classes if labels.classes > 2 else 1
            outputs = None if labels.kind == "regression" else many
        table = Rows(self._codes(frame), len(self.vocabulary.categories), labels.weight)
        targets = labels.y.T if labels.y.ndim == 2 else [labels.y]
        self._set(Forest.join([grow(options, table, y, outputs) for y in targets]))
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
        self._set(Forest({k: t.numpy() for k, t in learned.tensors.items()}))

    def _options(self, labels: Labels, seed: int) -> dict[str, Any]:
        """scikit-learn's arguments."""
        spec = self.spec
        options: dict[str, Any] = {
            "max_iter": spec.max_iter,
            "learning_rate": spec.learning_rate,
            "max_leaf_nodes": spec.max_leaf_nodes,
            "min_samples_leaf": spec.min_samples_leaf,
            "l2_regularization": spec.l2,
            "early_stopping": spec.stop_after is not None,
            "random_state": seed,
        }
        if spec.stop_after is None:
            return options
        for y in labels.y.T if labels.y.ndim == 2 else [labels.y]:
            if labels.kind != "regression" and np.unique(y, return_counts=True)[1].min() < 2:
                raise EncoderError(
                    f"{self.stream.name}: stop_after={spec.stop_after} holds rows of every class out and "
                    f"needs at least 2 of each, one class has 1; set stop_after to none"
                )
        return options | {"n_iter_no_change": spec.stop_after}

    def _set(self, forest: Forest) -> None:
        self.forest, self.width = forest, len(forest.arrays["baseline"])

    def _codes(self, frame: pd.DataFrame) -> Float[np.ndarray, "b k"]:
        """Categories, 0 for all without a code of their own, then numbers; NaN where missing."""
        codes = self.vocabulary.codes(frame).astype(np.float64)
        codes = np.where(codes < -1, np.nan, codes + 1)
        return np.concatenate([codes, self.vocabulary.numbers(frame)], axis=1)
