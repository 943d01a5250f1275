"""An answer out of a list, chosen by a head.

Teney et al., "Tips and Tricks for Visual Question Answering", https://arxiv.org/abs/1708.02711: every
answer of the list has a sigmoid of its own, which learns how right the answer is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.errors import SpecError, TargetError
from multiadapt.tasks._answer_metrics import (
    LEAST,
    exact_scores,
    most_frequent,
    normalised,
    soft_score,
    soft_scores,
)
from multiadapt.tasks._base import Fuse, Head, Target, TaskSpec
from multiadapt.tasks._grouped import mean_of
from multiadapt.tasks._labels import one_column
from multiadapt.tasks._linear import Linear
from multiadapt.tasks._metrics import Measured, Metric
from multiadapt.types import Labels, Tokens

__all__ = ["Answering"]


@dataclass(frozen=True)
class Answering(TaskSpec):
    """Binary cross-entropy, summed over the list, against how right each answer is.

    The labels are one column of texts, one answer a row, or of lists of what several people said. Of
    four people or more an answer is as right as the VQA challenge has it: three others who say so make
    it wholly right. Of fewer people it is the share that says so. Answers are compared in the form in
    which the challenge compares them; those outside the list teach that nothing in it is right.
    """

    answers: tuple[str, ...] | None = None
    """Those that can be chosen; None: all of the training rows."""

    def check(self) -> None:
        if self.answers is not None and not self.answers:
            raise SpecError("answers must hold at least one answer, got none")

    def learn(self, labels: pd.Series | pd.DataFrame) -> Target:
        rows = _rows(labels)
        told = [a for row in rows for a in row] if self.answers is None else self.answers
        forms: dict[str, str] = {}
        for answer in dict.fromkeys(told):
            forms.setdefault(normalised(answer), answer)
        target = _Answers(tuple(forms.values()))
        if not target.encode(labels).any():
            raise TargetError(
                f"none of {len(rows)} rows has an answer of the list of {len(target.names)}, such as "
                f"{target.names[0]!r}"
            )
        return target

    def restore(self, state: Mapping[str, Any]) -> Target:
        return _Answers(tuple(state["names"]))


@dataclass(frozen=True)
class _Answers(Measured):
    names: tuple[str, ...]
    """Of different forms."""
    metric: str = "exact_match"

    kind = "multilabel"

    @property
    def outputs(self) -> int:
        return len(self.names)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """By normalised form."""
        return {normalised(name): i for i, name in enumerate(self.names)}

    def encode(self, labels: pd.Series | pd.DataFrame) -> Float[np.ndarray, "b c"]:
        rows, places = _rows(labels), self.places
        y = np.zeros((len(rows), len(self.names)), np.float32)
        forms = {answer: normalised(answer) for row in rows for answer in row}
        for i, row in enumerate(rows):
            said = [forms[answer] for answer in row]
            for form in set(said) & places.keys():
                same, people = said.count(form), len(said)
                right = soft_score(same, people) if people >= LEAST else same / people
                y[i, places[form]] = right
        return y

    def labels(self, encoded: np.ndarray, groups: np.ndarray | None) -> Labels:
        return Labels("multilabel", encoded, len(self.names), groups)

    def head(self, width: int | None) -> Head:
        return _Choice(width, self.outputs)

    def predict(self, scores: Float[np.ndarray, "b c"]) -> np.ndarray:
        best = np.asarray(scores).argmax(1) if len(scores) else []
        return np.array([self.names[i] for i in best], dtype=object)

    def probabilities(self, scores: Float[np.ndarray, "b c"]) -> Float[np.ndarray, "b c"]:
        return torch.from_numpy(np.asarray(scores, dtype=float)).sigmoid().numpy()

    def metrics(self, scores: np.ndarray, labels: pd.Series | pd.DataFrame) -> Mapping[str, Metric]:
        rows, found = _rows(labels), self.predict(scores).tolist()
        most = [most_frequent(row, i) for i, row in enumerate(rows)]
        told = {"exact_match": exact_scores(found, most)}
        if rows and min(map(len, rows)) >= LEAST:
            told["vqa_accuracy"] = soft_scores(found, rows)
        return {name: mean_of(of_rows) for name, of_rows in told.items()}

    def state(self) -> dict[str, Any]:
        return {"names": list(self.names)}


class _Choice(Head):
    """Two layers, so that what is asked decides what is looked for in the picture."""

    def __init__(self, width: int | None, outputs: int) -> None:
        super().__init__()
        inner = nn.Identity()
        if width is not None:
            inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.inner, self.last = inner, Linear(width, outputs, _CrossEntropy())

    def forward(self, tokens: Mapping[str, Tokens], fuse: Fuse) -> Float[Tensor, "b c"]:
        return self.last.linear(self.inner(fuse(tokens)))

    def loss(
        self, scores: Float[Tensor, "b c"], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        return self.last.loss(scores, target, weight)


class _CrossEntropy(nn.Module):
    """Per row, the sum over answers: a mean would fade with the length of the list."""

    def forward(
        self, scores: Float[Tensor, "b c"], target: Float[Tensor, "b c"]
    ) -> Float[Tensor, " b"]:
        return F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(1)


def _rows(labels: pd.Series | pd.DataFrame) -> list[list[str]]:
    """What was said of each row. TargetError: a cell is neither a text nor a list of texts."""
    column = one_column(labels)
    rows = [[cell] if isinstance(cell, str) else _listed(cell) for cell in column]
    if bad := [
        i for i, row in enumerate(rows) if not row or not all(isinstance(a, str) for a in row)
    ]:
        raise TargetError(
            f"column {column.name!r} must hold answers, or lists of at least one; {len(bad)} rows do not, "
            f"such as row {column.index[bad[0]]!r}: {column.iloc[bad[0]]!r:.80}"
        )
    return rows


def _listed(cell: Any) -> list[Any]:
    return list(cell) if isinstance(cell, Sequence | np.ndarray) else []
