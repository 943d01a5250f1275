"""The caller's table opened and taken apart: features, labels, weights, groups, split."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd
from sklearn.utils import check_array, column_or_1d

from multiadapt.crossmodal._pairs import Excerpt
from multiadapt.data.splits import LeakWarning, group_codes
from multiadapt.data.tables import Table, did_you_mean, read_table
from multiadapt.errors import SchemaError, SpecError
from multiadapt.fitting import Rows

__all__ = [
    "PerRow",
    "Roles",
    "Source",
    "check_columns",
    "given_rows",
    "home_of",
    "is_table",
    "labels_of",
    "one_row",
    "opened",
    "parted",
    "rows_of",
]

_log = logging.getLogger("multiadapt")

Label: TypeAlias = str | list[str] | None
Source: TypeAlias = Any
"""A pandas or polars DataFrame, an Arrow table, a path to CSV, Parquet or Arrow, or an array."""
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
        check_columns(frame, self.columns())

    def split(self, table: Table, y: Any) -> tuple[Rows, Rows | None]:
        """Rows "train", and rows "val" if there are any; all rows where there is no split column."""
        if self.split_column is None:
            return rows_of(table.frame, y, self), None
        marks = table.frame[self.split_column].astype(str).to_numpy()
        chosen = np.flatnonzero(marks == "train")
        held = np.flatnonzero(np.isin(marks, ["val", "validation"]))
        if len(chosen) == 0:
            raise SchemaError(
                f"split column {self.split_column!r} must mark the training rows 'train'; it holds "
                f"{sorted(set(marks))[:10]}"
            )
        counts = pd.Series(marks).value_counts()
        words = ", ".join(f"{n} {mark!r}" for mark, n in counts.items())
        _log.info("%s: %s rows; only 'train' and 'val' rows are read", self.split_column, words)
        groups = _per_row(table.frame, self.groups, "groups")
        if groups is not None:
            _warn_groups(pd.Series(groups), pd.Series(marks))
        validation = rows_of(table.frame, y, self, held) if len(held) else None
        return rows_of(table.frame, y, self, chosen), validation


def opened(
    source: Source, root: str | Path | None, where: str | None = None, home: str | None = None
) -> Table:
    """The table; files are relative to `root`, else to the table's own folder, else to `home`."""
    table = read_table(_framed(source), root=None if root is None else Path(root), where=where)
    return Table(table.frame, Path(home)) if table.root is None and home else table


def check_columns(frame: pd.DataFrame, named: Mapping[str, str]) -> None:
    """SchemaError where a column is absent; `named` says what each is for."""
    absent = {c: r for c, r in named.items() if c not in frame.columns}
    if absent:
        words = ", ".join(f"{c!r} ({r})" for c, r in absent.items())
        free = [c for c in frame.columns if c not in named]
        raise SchemaError(
            f"columns {words} are absent; the table has {list(frame.columns)}{did_you_mean(absent, free)}"
        )


def home_of(root: Path | None) -> str | None:
    """What a fitted model keeps of the folder that its training files are relative to."""
    return None if root is None else str(root.resolve())


def _framed(source: Source) -> Source:
    """Arrays, lists of lists and the like become a DataFrame with columns x0, x1 ..."""
    if is_table(source):
        return source
    values = check_array(source, dtype=None, ensure_all_finite=False, ensure_min_samples=0)  # type: ignore[arg-type]
    return pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])


def one_row(source: Source) -> Source:
    """A Series or a mapping as a table of one row."""
    if isinstance(source, pd.Series):
        return source.to_frame().T
    return pd.DataFrame([source]) if isinstance(source, Mapping) else source


def is_table(source: Source) -> bool:
    """Whether it has named columns, or is a file that has."""
    return isinstance(source, (str, Path, pd.DataFrame)) or type(source).__module__.startswith(
        ("polars", "pyarrow")
    )


def parted(
    table: Table, split_column: str | None, val_data: Source, root: str | Path | None
) -> tuple[Excerpt, Excerpt | None]:
    """Training rows, and those to stop early on: of `val_data`, or marked "val"; None: neither is given."""
    whole = Excerpt.whole(table.frame)
    train, held = whole, None
    if split_column is not None:
        marks = table.frame[split_column].astype(str).to_numpy()
        train = whole.take(np.flatnonzero(marks == "train"))
        found = np.flatnonzero(np.isin(marks, ["val", "validation"]))
        held = whole.take(found) if len(found) else None
        if len(train) == 0:
            raise SchemaError(
                f"split column {split_column!r} must mark the training rows 'train'; it holds "
                f"{sorted(set(marks))[:10]}"
            )
    if val_data is None:
        return train, held
    if held is not None:
        raise SpecError(f"both val_data and 'val' rows of {split_column!r} are given; give one")
    return train, Excerpt.whole(_beside(val_data, table.root, root).frame)


def _beside(val_data: Source, root: Path | None, given: str | Path | None) -> Table:
    """The table of validation rows, whose files are relative to the training table's `root` too."""
    table = opened(val_data, given)
    if table.root is not None and table.root != root:
        raise SpecError(
            f"files of val_data must be relative to the training table's folder {root}, but it lies "
            f"in {table.root}; pass root= with a folder that holds both"
        )
    return table


def given_rows(
    val_data: Source,
    roles: Roles,
    held: Rows | None,
    root: Path | None,
    given: str | Path | None,
) -> Rows:
    """The rows of `val_data`, whose files are relative to the training table's `root` too."""
    if held is not None:
        raise SpecError(
            f"both val_data and 'val' rows of {roles.split_column!r} are given; give one"
        )
    pair = isinstance(val_data, tuple)
    if pair != (roles.label is None):
        raise SpecError("val_data is a pair (X, y) when y is given, and a table when label= is")
    source, y = val_data if pair else (val_data, None)
    weight = roles.sample_weight if isinstance(roles.sample_weight, str) else None
    groups = roles.groups if isinstance(roles.groups, str) else None
    table = _beside(source, root, given)
    own = Roles(roles.label, None, groups, weight)
    own.check(table.frame)
    return rows_of(table.frame, y, own)


def rows_of(frame: pd.DataFrame, y: Any, roles: Roles, at: np.ndarray | None = None) -> Rows:
    """The rows at these positions (None: all) with their labels, weights and groups."""
    weight = _per_row(frame, roles.sample_weight, "sample_weight")
    weight = np.ones(len(frame)) if weight is None else weight
    named = _per_row(frame, roles.groups, "groups")
    groups = None if named is None else group_codes(named)
    labels = labels_of(frame, y, roles.label)
    places = np.arange(len(frame))
    rows = Rows(frame, labels, weight, groups, places).take(places if at is None else at)
    return replace(rows, weight=_weights(rows))


def _weights(rows: Rows) -> np.ndarray:
    """SpecError: a weight that is no number, missing, infinite or below 0; all of them 0."""
    numbers: Any = pd.to_numeric(pd.Series(rows.weight), errors="coerce")
    weight = np.asarray(numbers, dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(wrong) or (len(weight) and weight.sum() == 0):
        shown = ", ".join(f"row {rows.frame.index[i]!r}: {rows.weight[i]}" for i in wrong[:10])
        raise SpecError(
            "sample_weight must hold finite numbers of at least 0, not all of them zero; "
            + (f"{len(wrong)} of {len(weight)} do not ({shown})" if len(wrong) else "all are zero")
        )
    return weight


def _warn_groups(groups: pd.Series, marks: pd.Series) -> None:
    """Groups that stand on both sides of a split, told by their values alone."""
    parts = pd.crosstab(groups, marks)
    across = parts.index[(parts > 0).sum(axis=1) > 1]
    if len(across):
        warnings.warn(
            f"{len(across)} groups stand in more than one part of the split, for example "
            f"{across[0]!r}: scores will be too good",
            LeakWarning,
            stacklevel=2,
        )


def labels_of(frame: pd.DataFrame, y: Any, label: Label) -> pd.Series | pd.DataFrame:
    """The label column or columns, or `y` with the table's index."""
    if y is None:
        Roles(label).check(frame)
        return cast(pd.Series | pd.DataFrame, frame[label])
    values = y if isinstance(y, (pd.Series, pd.DataFrame, list, tuple)) else np.asarray(y)
    if len(values) != len(frame):
        raise SpecError(
            f"y must have one label for each of the {len(frame)} rows, got {len(values)}"
        )
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = column_or_1d(values, warn=True)
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pd.DataFrame(values, index=frame.index)
    if isinstance(values, pd.DataFrame) and values.shape[1] == 1:
        return cast(pd.Series, values.iloc[:, 0])
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
