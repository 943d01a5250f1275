"""The report of bad cells: ten of them in the text and, where there are more, all in a CSV file."""

import csv
import os
import tempfile
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from itertools import chain, islice

import numpy as np
import pandas as pd

__all__ = [
    "BadCell",
    "bad_cells",
    "in_order",
    "listing",
    "missing_cells",
    "plain",
    "unreadable_cells",
]

SHOWN = 10
"""How many bad cells a report spells out."""


@dataclass(frozen=True)
class BadCell:
    """A cell that cannot be used."""

    row: Hashable
    position: int
    column: str
    value: str
    """The cell, or the one of its files that is bad."""
    reason: str

    @property
    def where(self) -> str:
        """The row by its label, and by its position where the two differ."""
        name = _plainly(self.row)
        return f"row {name}" + ("" if self.row == self.position else f" (position {self.position})")


def bad_cells(cells: pd.Series, bad: np.ndarray, reason: str) -> list[BadCell]:
    """The cells of a whole column where `bad` is True, in order."""
    return [
        BadCell(cells.index[i], i, str(cells.name), _plainly(cells.iloc[i]), reason)
        for i in np.flatnonzero(bad).tolist()
    ]


def plain(value: object) -> object:
    """A row's label as JSON holds it."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _plainly(value: object) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)[:200]


def listing(bad: Collection[BadCell], line: Callable[[BadCell], str]) -> str:
    """The first ten in the table's order, one line each, and the name of the file with all of them."""
    return _listed(iter(in_order(bad)), len(bad), line)


def in_order(bad: Collection[BadCell]) -> list[BadCell]:
    """In the order of the table."""
    return sorted(bad, key=lambda b: (b.position, b.column))


def unreadable_cells(bad: Iterator[BadCell], count: int) -> str:
    """The listing of so many cells that cannot be read, which come in the table's order."""
    return _listed(
        bad, count, lambda b: f"{b.where}, column {b.column!r}, file {b.value}: {b.reason}"
    )


def _listed(bad: Iterator[BadCell], count: int, line: Callable[[BadCell], str]) -> str:
    first = list(islice(bad, SHOWN))
    lines = [f"  {line(b)}" for b in first]
    if count > SHOWN:
        kept = _write(chain(first, bad))
        lines.append(f"  and {count - SHOWN} more; all {count} are listed in {kept}")
    return "\n".join(lines)


def missing_cells(bad: Collection[BadCell]) -> str:
    """The listing of cells that are not there."""
    return listing(bad, lambda b: f"{b.where}: {b.column} missing")


def _write(bad: Iterable[BadCell]) -> str:
    handle, name = tempfile.mkstemp(prefix="multiadapt-bad-cells-", suffix=".csv")
    with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(BadCell))
        writer.writerows(astuple(b) for b in bad)
    return name
