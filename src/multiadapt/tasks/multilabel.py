"""Any number of labels for each row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.errors import SpecError, TargetError
from multiadapt.tasks._base import Head, Target, TaskSpec
from multiadapt.tasks._labels import check_complete, classes_of, examples, lookup, one_column
from multiadapt.tasks._linear import Linear
from multiadapt.tasks._metrics import Measured, Metric, label_metrics
from multiadapt.types import Labels

__all__ = ["Multilabel"]


@dataclass(frozen=True)
class Multilabel(TaskSpec):
    """Binary cross-entropy on a score for each label.

    The labels are several columns of 0 and 1, or one column of lists, or one of text that `separator`
    splits. An empty list is a row without labels, and so is the separator alone; None is an error.
    """

    separator: str | None = None
    """Text between the labels of a cell; None: the cells are lists."""
    metric: Literal["accuracy", "f1_macro", "f1_micro", "roc_auc", "log_loss"] = "f1_macro"
    """The metric shown while training and used to compare."""

    def check(self) -> None:
        if self.separator == "":
            raise SpecError("separator must be at least one character, got ''")

    def learn(self, labels: pd.Series | pd.DataFrame) -> Target:
        if isinstance(labels, pd.DataFrame) and _is_indicator(labels):
            _check_columns(labels)
            return self._varied(_Labels(tuple(labels), True, self.separator, self.metric), labels)
        column = one_column(labels)
        exploded = _exploded(column, self.separator)
        if exploded.empty:
            raise TargetError(f"column {column.name!r}: none of {len(column)} rows has a label")
        names = classes_of(exploded)[1]
        return self._varied(_Labels(names, False, self.separator, self.metric), column)

    def restore(self, state: Mapping[str, Any]) -> Target:
        return _Labels(tuple(state["names"]), state["columns"], self.separator, self.metric)

    def _varied(self, target: "_Labels", labels: pd.Series | pd.DataFrame) -> Target:
        y = target.encode(labels)
        if (y == y[:1]).all():
            raise TargetError(
                f"multilabel needs a label that some rows have and others have not; all {len(y)} rows"
                f" have the same of {list(target.names)}"
            )
        return target


@dataclass(frozen=True)
class _Labels(Measured):
    names: tuple[Any, ...]
    columns: bool
    """True where every label is a column of its own."""
    separator: str | None
    metric: str

    kind = "multilabel"

    @property
    def outputs(self) -> int:
        return len(self.names)

    def encode(self, labels: pd.Series | pd.DataFrame) -> Float[np.ndarray, "b c"]:
        if self.columns:
            return self._from_columns(labels)
        column = one_column(labels)
        exploded = _exploded(column, self.separator)
        rows = exploded.index.to_numpy()
        y = np.zeros((len(column), len(self.names)), np.float32)
        y[rows, lookup(exploded, self.names, column.index.take(rows))] = 1
        return y

    def labels(self, encoded: np.ndarray, groups: np.ndarray | None) -> Labels:
        return Labels("multilabel", encoded, len(self.names), groups)

    def head(self, width: int | None) -> Head:
        return Linear(width, self.outputs, _BinaryCrossEntropy())

    def predict(self, scores: Float[np.ndarray, "b c"]) -> Int[np.ndarray, "b c"]:
        return (np.asarray(scores) > 0).astype(np.int64)

    def probabilities(self, scores: Float[np.ndarray, "b c"]) -> Float[np.ndarray, "b c"]:
        return torch.from_numpy(np.asarray(scores, dtype=float)).sigmoid().numpy()

    def metrics(self, scores: np.ndarray, labels: pd.Series | pd.DataFrame) -> Mapping[str, Metric]:
        return label_metrics(self.probabilities(scores), self.predict(scores), self.encode(labels))

    def state(self) -> dict[str, Any]:
        return {"names": list(self.names), "columns": self.columns}

    def _from_columns(self, labels: pd.Series | pd.DataFrame) -> Float[np.ndarray, "b c"]:
        frame = labels.to_frame() if isinstance(labels, pd.Series) else labels
        absent = [name for name in self.names if name not in frame]
        if absent:
            raise TargetError(f"label columns {absent} are absent; the labels have {list(frame)}")
        frame = frame.loc[:, list(self.names)]
        _check_columns(frame)
        return frame.to_numpy(np.float32)


def _is_indicator(frame: pd.DataFrame) -> bool:
    """Several columns, or one of numbers: each column is a label."""
    return frame.shape[1] > 1 or all(pd.api.types.is_numeric_dtype(t) for t in frame.dtypes)


def _check_columns(frame: pd.DataFrame) -> None:
    if len(frame) == 0 or frame.shape[1] == 0:
        raise TargetError(f"labels must have at least one row and column, got {frame.shape}")
    if not frame.columns.is_unique:
        raise TargetError(f"label columns must have different names, got {list(frame)}")
    for name, column in frame.items():
        check_complete(column)
        wrong = ~column.isin([0, 1]).to_numpy(bool)
        if wrong.any():
            raise TargetError(
                f"label columns must hold 0 and 1; column {name!r} has others, such as"
                f" {examples(wrong, column)}"
            )


def _exploded(column: pd.Series, separator: str | None) -> pd.Series:
    """One label a row, indexed by the number of the row that has it."""
    check_complete(column)
    parts = [_parts(cell, separator) for cell in column]
    wrong = np.fromiter((p is None for p in parts), bool, len(parts))
    if wrong.any():
        wanted, remedy = ("lists of labels", 'for text such as "a;b" give separator=";"')
        if separator is not None:
            wanted, remedy = (
                f"text with {separator!r} between labels",
                "for lists leave separator out",
            )
        raise TargetError(
            f"label column {column.name!r} must hold {wanted}; it holds others, such as"
            f" {examples(wrong, column)}; {remedy}"
        )
    rows = np.repeat(np.arange(len(parts)), [len(p or ()) for p in parts])
    values = [label for part in parts for label in part or ()]
    return pd.Series(values, index=rows, name=column.name, dtype=None if values else object)


def _parts(cell: Any, separator: str | None) -> list[Any] | None:
    """The labels of a cell; None: it is of the wrong kind."""
    if separator is not None:
        return (
            [p.strip() for p in cell.split(separator) if p.strip()]
            if isinstance(cell, str)
            else None
        )
    if isinstance(cell, str) or not isinstance(cell, Iterable):
        return None
    return list(cell)


class _BinaryCrossEntropy(nn.Module):
    """Per row, the mean over labels."""

    def forward(
        self, scores: Float[Tensor, "b c"], target: Float[Tensor, "b c"]
    ) -> Float[Tensor, " b"]:
        return F.binary_cross_entropy_with_logits(scores, target, reduction="none").mean(1)
