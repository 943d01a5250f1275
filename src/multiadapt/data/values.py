"""What one column's cells say: missing or not, numbers, categories, dates.

Missing is None, NaN, NaT, pandas' NA, blank text and an empty list. Every function keeps the order
and the index of the cells it is given and never writes into them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from multiadapt.data.bad_cells import SHOWN, BadCell, bad_cells, listing
from multiadapt.errors import SchemaError
from multiadapt.types import Column

__all__ = [
    "CONVERT",
    "absent",
    "categories",
    "converted",
    "dates",
    "numbers",
    "plain",
    "side_by_side",
    "stamps",
    "text",
]

INFINITE = "must hold finite numbers"

Converted: TypeAlias = tuple[pd.Series, list[BadCell]]
"""The cells as their kind holds them, under the same index, and those that it cannot hold."""


def absent(cells: pd.Series) -> np.ndarray:
    """(b,) True where a cell is missing."""
    missing = cells.isna().to_numpy(dtype=bool, copy=True)
    if cells.dtype == object:
        for i, value in enumerate(cells):
            missing[i] |= _blank(value)
    elif isinstance(cells.dtype, pd.StringDtype):
        missing |= (cells.str.strip() == "").fillna(False).to_numpy(dtype=bool)
    return missing


def _blank(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and len(value) == 0
    return isinstance(value, (list, tuple)) and len(value) == 0


def plain(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """(b,) float64 with NaN where a cell is missing or no number, and (b,) True where it is neither
    missing nor a number. Infinities stay."""
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object)
    if not (_real(cells) or cells.dtype == object or isinstance(cells.dtype, pd.StringDtype)):
        return np.full(len(cells), np.nan), ~absent(cells)
    parsed: Any = pd.to_numeric(cells, errors="coerce")
    values = parsed.to_numpy(dtype=np.float64, na_value=np.nan)
    return values, np.isnan(values) & ~absent(cells)


def _real(cells: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_complex_dtype(cells)


def numbers(cells: pd.Series) -> Converted:
    """float64, NaN where missing. Bad: what is no number, or infinite."""
    values, bad = plain(cells)
    found = bad_cells(cells, bad, "must hold numbers")
    found += bad_cells(cells, np.isinf(values), INFINITE)
    return pd.Series(values, cells.index, name=cells.name), found


def text(value: object) -> str | None:
    """The name of a category: 1, 1.0, "1" and "01" are one, so are True and "true"; None is missing.

    A CSV reader makes of the same words now numbers, now text, by what else is in the column; the
    name must not depend on it. Exponents are left alone: "1e5" is more often a code than a number.
    """
    if _blank(value) or (pd.api.types.is_scalar(value) and bool(pd.isna(value))):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    word = str(value).strip()
    if word.lower() in ("true", "false"):
        return word.capitalize()
    whole, _, rest = word.removeprefix("-").partition(".")
    if not (word.isascii() and (whole + rest).isdigit()):
        return word
    number = (whole.lstrip("0") or "0") + ("." + rest).rstrip("0").rstrip(".")
    return f"-{number}" if word.startswith("-") and number != "0" else number


def categories(cells: pd.Series) -> Converted:
    """object of str, None where missing. SchemaError: the column holds lists or other objects."""
    try:
        codes, values = pd.factorize(cells.astype(object))
    except TypeError as error:
        raise SchemaError(
            f"column {cells.name!r} must hold words or numbers, it holds lists or other objects: "
            f'leave it out with column_types={{"{cells.name}": "ignore"}}'
        ) from error
    names = np.array([*(text(v) for v in values), None], dtype=object)  # code -1 takes the last
    return pd.Series(names[codes], cells.index, dtype=object, name=cells.name), []


def stamps(cells: pd.Series) -> tuple[pd.Series, np.ndarray]:
    """Dates in UTC without a zone, and (b,) True where a cell is neither missing nor a date.

    Text must be ISO 8601 (2026-11-22, 2026-11-22T08:30): any other order of day and month is a guess.
    """
    missing = absent(cells)
    if not pd.api.types.is_datetime64_any_dtype(cells):
        cells = cells.astype(object).map(_iso)
    parsed = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    return parsed, parsed.isna().to_numpy() & ~missing


def _iso(value: object) -> object:
    """The value, or None where pandas would read a date into what is none ("today", 20)."""
    if isinstance(value, str):
        start = value.strip()[:8]
        return value if start[:4].isdigit() and start[4:5] == "-" and start[5:7].isdigit() else None
    return value if hasattr(value, "year") else None


def dates(cells: pd.Series) -> Converted:
    """datetime64 in UTC without a zone, NaT where missing. Bad: what is no date."""
    parsed, bad = stamps(cells)
    reason = "must hold dates as YYYY-MM-DD, with or without a time"
    return parsed, bad_cells(cells, bad, reason)


CONVERT: Mapping[str, Callable[[pd.Series], Converted]] = {
    "numeric": numbers,
    "categorical": categories,
    "datetime": dates,
}


def converted(frame: pd.DataFrame, columns: Iterable[Column]) -> list[pd.Series]:
    """The columns, each of the type of its kind; a kind that has none as it is given.

    SchemaError: cells of any of them that are no number, infinite or no date, in one report.
    """
    parts: list[pd.Series] = []
    bad: list[BadCell] = []
    for column in columns:
        cells: Any = frame[column.name]
        if column.kind in CONVERT:
            cells, found = CONVERT[column.kind](cells)
            bad += found
        parts.append(cells)
    if bad:
        raise SchemaError(_report(bad))
    return parts


def _report(bad: list[BadCell]) -> str:
    lines = listing(bad, lambda b: f"{b.where}: column {b.column!r} {b.reason}, got {b.value}")
    words = sorted({b.column for b in bad if b.reason != INFINITE})[:SHOWN]
    kinds = ", ".join(f'"{name}": "categorical"' for name in words)
    return (
        f"every cell must be of its column's kind or missing; {len(bad)} are neither:\n{lines}\n"
        "Repair them, or leave them empty (missing)"
        + (f", or fit with column_types={{{kinds}}}" if words else "")
    )


def side_by_side(parts: list[pd.Series], index: pd.Index) -> pd.DataFrame:
    """A frame of columns that all have this index, labels repeated or not, each of the type it is."""
    return pd.concat(parts, axis=1) if parts else pd.DataFrame(index=index)
