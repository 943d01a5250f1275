"""What frozen in-context tabular encoders have in common: a context, folds over it, one vector a row."""

import logging
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiadapt.attach import running
from multiadapt.encoders._base import Encoder, Standardize, pooled_site
from multiadapt.encoders._folds import choose_context, choose_folds, out_of_fold, strata
from multiadapt.encoders._table import Vocabulary, frame_of, present
from multiadapt.errors import EncoderError
from multiadapt.types import Cells, Inputs, Labels, Site, Stream, Tokens

__all__ = ["Context", "InContext", "codes_of", "grouped", "standardised"]

_log = logging.getLogger("multiadapt")


@dataclass(frozen=True)
class Context:
    """The labelled rows that other rows are looked at with."""

    rows: Float[np.ndarray, "n k"]
    """Category codes, then numbers; NaN where a number is missing."""
    y: Float[np.ndarray, " n"]
    """Class or group numbers from 0, or values of zero mean and unit deviation."""


class InContext(Encoder):
    """All of it is prefix: cut 1 is the pooled vector. `width` is known after `learn` or `restore`."""

    def __init__(self, stream: Stream, network: str, folds: int, most: int) -> None:
        super().__init__()
        self.stream, self.network, self.folds, self.most = stream, network, folds, most
        self.width, self.blocks, self.trained = 0, 0, False
        self.pooled = Standardize(0)
        self.vocabulary, self.seed = Vocabulary((), {}), 0

    @abstractmethod
    def take(self, kind: str, order: np.ndarray, rows: Float[np.ndarray, "n k"]) -> str:
        """Fit the context: its labels, one number a row, and its rows. Says what it made, for the log."""

    @abstractmethod
    def look(
        self, rows: Float[np.ndarray, "b k"], seen: Int[np.ndarray, " c"] | None
    ) -> Float[Tensor, "b d"]:
        """Vectors of rows with `seen` positions of the context in view; None: with all of it."""

    def learn(self, cells: Cells, labels: Labels, seed: int) -> Inputs | None:
        """Fits the context; gives the training rows' embeddings, none made with its own label."""
        frame, order = frame_of(cells), strata(labels.y)
        chosen = choose_context(order, self.most, seed)
        fold = choose_folds(order, labels.groups, chosen, self.folds, seed)
        self.vocabulary, self.seed = Vocabulary.learn(frame.iloc[chosen]), seed
        rows = codes_of(self.vocabulary, frame)
        made = self.take(labels.kind, order[chosen], rows[chosen])
        _log.info(
            "%s: a context of %d of %d training rows, %s",
            self.stream.name,
            len(chosen),
            len(frame),
            made,
        )
        vectors = out_of_fold(fold, chosen, lambda seen, i: self.look(rows[i], seen).cpu().numpy())
        there = torch.tensor(present(frame))
        return Inputs({"pooled": torch.from_numpy(vectors)[there]}, there.long(), 1)

    def prepare(self, cells: Cells) -> Inputs:
        frame = frame_of(cells)
        there = present(frame)
        rows = torch.tensor(codes_of(self.vocabulary, frame)[there])
        return Inputs({"rows": rows}, torch.tensor(there, dtype=torch.int64))

    @torch.no_grad()  # not inference_mode: autograd reads what starts from here
    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        if not inputs.cut <= cut <= 1:
            raise EncoderError(f"cut must be in {inputs.cut}..1 for these inputs, got {cut}")
        if cut == inputs.cut:
            return inputs
        if self.width == 0:
            raise EncoderError(
                f"{self.stream.name}: an in-context encoder must learn its context first"
            )
        rows = inputs.tensors["rows"].cpu().numpy()
        if len(rows) == 0:
            none = torch.zeros(0, self.width, device=self.pooled.mean.device)
            return Inputs({"pooled": none}, inputs.count, 1)
        return Inputs({"pooled": self.look(rows, None)}, inputs.count, 1)

    def forward(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None = None) -> Tokens:
        deep, there = self.prefix(inputs, 1), inputs.count > 0
        with running(self.stream.name):
            pooled = self.corrected(deep.mean(deep.tensors["pooled"]), inputs)
        return Tokens.single(pooled, there)

    def sites(self) -> tuple[Site, ...]:
        return (pooled_site(self, self.network),)

    def set_width(self, width: int) -> None:
        self.width = width
        self.pooled = Standardize(width).to(self.pooled.mean.device)


def codes_of(vocabulary: Vocabulary, frame: pd.DataFrame) -> Float[np.ndarray, "b k"]:
    """Columns in tabicl's order and codes: categories first, -1 for missing and unseen ones."""
    codes = np.maximum(vocabulary.codes(frame), -1)
    return np.concatenate([codes.astype(np.float64), vocabulary.numbers(frame)], axis=1)


def standardised(y: np.ndarray) -> Float[np.ndarray, " n"]:
    """Zero mean and unit deviation; a constant is only centred."""
    y = y.astype(np.float64)
    return (y - y.mean()) / (y.std() if y.std() > 0 else 1.0)


def grouped(order: np.ndarray, most: int) -> Float[np.ndarray, " n"]:
    """Labels in at most `most` groups of like frequency: frequent ones first, into the smallest."""
    _, y, count = np.unique(order, return_inverse=True, return_counts=True)
    if len(count) <= most:
        return y.astype(np.float64)
    size, group = np.zeros(most), np.empty(len(count))
    for label in np.argsort(-count, kind="stable"):
        group[label] = size.argmin()
        size[size.argmin()] += count[label]
    return group[y]
