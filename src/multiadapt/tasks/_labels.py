"""Checks that every task makes on the label column, and the words it says them in."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from pandas.api.types import infer_dtype

from multiadapt.errors import TargetError

__all__ = [
    "check_complete",
    "classes_of",
    "examples",
    "label_array",
    "lookup",
    "one_column",
    "rows_where",
]

_KINDS = {"string": "str", "integer": "int", "boolean": "bool", "floating": "float"}


def one_column(labels: pd.Series | pd.DataFrame) -> pd.Series:
    """The labels as one column. TargetError: several columns, or no rows."""
    frame = labels.to_frame() if isinstance(labels, pd.Series) else labels
    if frame.shape[1] != 1:
        raise TargetError(
            f"the label must be one column, got {frame.shape[1]}: {list(frame)}; several 0/1"
            " columns are for the task multilabel"
        )
    column = frame.iloc[:, 0]
    if len(column) == 0:
        raise TargetError(f"label column {column.name!r} must have at least one row, got 0")
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)  # the categories' own dtype may have no missing value
    return column


def rows_where(mask: Bool[np.ndarray, " n"], index: pd.Index) -> str:
    """Number of rows and the first ten of their index labels."""
    count = int(mask.sum())
    first = ", ".join(repr(_plain(v)) for v in index[mask][:10])
    return f"{count} of {len(mask)} row{'s' * (len(mask) != 1)} ({first}{', ...' * (count > 10)})"


def examples(wrong: Bool[np.ndarray, " n"], column: pd.Series) -> str:
    """One of the wrong values, and the rows that have such."""
    value = _plain(column.iloc[int(wrong.argmax())])
    return f"{value!r} in {rows_where(wrong, column.index)}"


def check_complete(column: pd.Series) -> None:
    """TargetError where a label is None, NaN or empty text."""
    missing = column.isna().to_numpy(bool)
    if infer_dtype(column, skipna=True) not in ("integer", "boolean", "floating"):
        missing = missing | np.fromiter(
            (isinstance(v, str) and not v for v in column), bool, len(column)
        )
    if missing.any():
        raise TargetError(
            f"every row must have a label; column {column.name!r} has none in"
            f" {rows_where(missing, column.index)}; drop these rows or fill them"
        )


def classes_of(values: pd.Series) -> tuple[str, tuple[Any, ...]]:
    """Type name and sorted distinct values. TargetError: mixed or other types, parts, infinities."""
    kind = _KINDS.get(infer_dtype(values, skipna=True))
    if kind is None:
        types = Counter(type(_plain(v)).__name__ for v in values)
        listed = ", ".join(f"{n} {t}" for t, n in types.most_common())
        raise TargetError(
            f"the labels in column {values.name!r} must all be of one type, str, int, bool or whole"
            f" float; got {listed}; convert the column"
        )
    if kind == "float":
        _check_whole(values)
    return kind, tuple(sorted(_plain(v) for v in values.unique()))


def lookup(values: pd.Series, classes: Sequence[Any], index: pd.Index) -> Int[np.ndarray, " n"]:
    """Numbers of the values among the classes; `index` names the row of each value."""
    codes, found = pd.factorize(values)
    numbers = {c: i for i, c in enumerate(classes)}
    known = np.array([numbers.get(_plain(v), -1) for v in found], dtype=np.int64)
    encoded = known[codes] if len(found) else np.zeros(0, np.int64)
    if (encoded < 0).any():
        unseen = [_plain(v) for v, n in zip(found, known, strict=True) if n < 0]
        raise TargetError(
            f"labels {_shown(unseen)} ({', '.join(sorted({type(v).__name__ for v in unseen}))}) in"
            f" {rows_where(encoded < 0, index)} were not among the training labels"
            f" {_shown(classes)} ({type(classes[0]).__name__}); drop these rows or train on them"
        )
    return encoded


def label_array(kind: str, classes: Sequence[Any]) -> np.ndarray:
    """The classes as an array of the type that the caller's labels had."""
    dtypes = {"str": object, "int": np.int64, "bool": np.bool_, "float": np.float64}
    return np.array(list(classes), dtype=dtypes[kind])


def _check_whole(values: pd.Series) -> None:
    numbers = values.to_numpy(float)
    infinite = np.isinf(numbers)
    if infinite.any():
        raise TargetError(
            f"labels must be finite; column {values.name!r} is infinite in"
            f" {rows_where(infinite, values.index)}; drop these rows or correct them"
        )
    parts = numbers != np.round(numbers)
    if parts.any():
        raise TargetError(
            f"class labels must be whole numbers, not continuous ones; column {values.name!r} has others, such as"
            f" {examples(parts, values)}; numbers are for the task regression"
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _shown(values: Sequence[Any]) -> str:
    return f"[{', '.join(map(repr, values[:10]))}{', ...' * (len(values) > 10)}]"
