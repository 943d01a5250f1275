"""The report of bad cells: ten of them in the text and, where there are more, all in a CSV file."""

import csv
import os
import tempfile
from collections.abc import Callable, Collection, Hashable
from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd

__all__ = ["BadCell", "bad_cells", "listing", "missing_cells"]

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


def _plainly(value: object) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)[:200]


def listing(bad: Collection[BadCell], line: Callable[[BadCell], str]) -> str:
    """The first ten in the table's order, one line each, and the name of the file with all of them."""
    ordered = sorted(bad, key=lambda b: (b.position, b.column))
    lines = [f"  {line(b)}" for b in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        kept = _write(ordered)
        lines.append(f"  and {len(ordered) - SHOWN} more; all {len(ordered)} are listed in {kept}")
    return "\n".join(lines)


def missing_cells(bad: Collection[BadCell]) -> str:
    """The listing of cells that are not there."""
    return listing(bad, lambda b: f"{b.where}: {b.column} missing")


def _write(bad: list[BadCell]) -> str:
    handle, name = tempfile.mkstemp(prefix="multiadapt-bad-cells-", suffix=".csv")
    with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(BadCell))
        writer.writerows(astuple(b) for b in bad)
    return name
