"""The caller's table taken apart: features, labels, weights, groups, split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from sklearn.utils import column_or_1d

from multiadapt.data.tables import Table
from multiadapt.errors import SchemaError, SpecError
from multiadapt.fitting import Rows

__all__ = ["PerRow", "Roles", "labels_of", "rows_of"]

Label: TypeAlias = str | list[str] | None
PerRow: TypeAlias = str | np.ndarray | pd.Series | Sequence[Any] | None
"""A column's name, or one value per row."""


@dataclass(frozen=True)
class Roles:
    """Which columns, or arrays, are not features."""

    label: Label = None
    """A column, or several columns of zeros and ones; None when labels come as `y`."""
    split_column: str | None = None
    groups: PerRow = None
    sample_weight: PerRow = None

    def columns(self) -> dict[str, str]:
        """Names of columns with a role, and the role."""
        labels = [self.label] if isinstance(self.label, str) else self.label or []
        named = dict.fromkeys(labels, "label")
        for name, role in (
            (self.split_column, "split"), (self.groups, "groups"), (self.sample_weight, "sample weight")
        ):  # fmt: skip
            if isinstance(name, str):
                named[name] = role
        return named

    def check(self, frame: pd.DataFrame) -> None:
        """SchemaError where a named column is absent."""
        absent = {c: r for c, r in self.columns().items() if c not in frame.columns}
        if absent:
            words = ", ".join(f"{c!r} ({r})" for c, r in absent.items())
            raise SchemaError(f"columns {words} are absent; the table has {list(frame.columns)}")

    def split(self, table: Table, y: Any) -> tuple[Rows, Rows | None]:
        """Rows "train", and rows "val" if there are any; all rows where there is no split column."""
        rows = rows_of(table.frame, y, self)
        if self.split_column is None:
            return rows, None
        marks = table.frame[self.split_column].astype(str).to_numpy()
        chosen = np.flatnonzero(marks == "train")
        held = np.flatnonzero(np.isin(marks, ["val", "validation"]))
        if len(chosen) == 0:
            raise SchemaError(
                f"split column {self.split_column!r} must mark the training rows 'train'; it holds "
                f"{sorted(set(marks))[:10]}"
            )
        return rows.take(chosen), rows.take(held) if len(held) else None


def rows_of(frame: pd.DataFrame, y: Any, roles: Roles) -> Rows:
    """All rows with their labels, weights and groups."""
    weight = _per_row(frame, roles.sample_weight, "sample_weight")
    weight = np.ones(len(frame)) if weight is None else weight.astype(np.float64)
    if len(weight) and not (np.isfinite(weight).all() and weight.min() >= 0 and weight.sum() > 0):
        raise SpecError(
            "sample_weight must hold finite numbers of at least 0, not all of them zero"
        )
    groups = _per_row(frame, roles.groups, "groups")
    labels = labels_of(frame, y, roles.label)
    return Rows(frame, labels, weight, groups, np.arange(len(frame)))


def labels_of(frame: pd.DataFrame, y: Any, label: Label) -> pd.Series | pd.DataFrame:
    """The label column or columns, or `y` with the table's index."""
    if y is None:
        Roles(label).check(frame)
        return frame[label]  # type: ignore[return-value]
    values = y if isinstance(y, (pd.Series, pd.DataFrame, list, tuple)) else np.asarray(y)
    if len(values) != len(frame):
        raise SpecError(
            f"y must have one label for each of the {len(frame)} rows, got {len(values)}"
        )
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = column_or_1d(values, warn=True)
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pd.DataFrame(values, index=frame.index)
    if isinstance(values, (pd.Series, pd.DataFrame)):
        return values
    return pd.Series(values, index=frame.index, name="label")


def _per_row(frame: pd.DataFrame, values: PerRow, name: str) -> np.ndarray | None:
    if values is None or isinstance(values, str):
        return None if values is None else frame[values].to_numpy()
    values = np.asarray(values)
    if values.shape != (len(frame),):
        raise SpecError(
            f"{name} must have one value for each of the {len(frame)} rows, got shape {values.shape}"
        )
    return values
