"""A table read in parts, and what is found of its rows written in the same order."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import click
import numpy as np
import pandas as pd

from multiadapt.data.bad_cells import BadCell, unreadable_cells
from multiadapt.data.table_writer import TableWriter
from multiadapt.data.tables import as_written, did_you_mean, read_chunks
from multiadapt.errors import SchemaError

__all__ = ["Chunks", "Found", "Source", "beside", "parts"]

Source: TypeAlias = Path | str
"""A table's file, or the text that names one in object storage."""

_log = logging.getLogger("multiadapt")


@dataclass(frozen=True)
class Found:
    """What is found of the rows of a part."""

    columns: Mapping[str, Any]
    bad: Sequence[BadCell] = ()
    """Cells that cannot be read and were taken as missing."""
    chosen: np.ndarray | None = None
    """Positions of the part's rows that were asked for; None: all."""


class Chunks:
    """Parts of a table, each with the number of its first row. After each, `write` what was found.

    The file appears when it is whole; how many rows it has is said then. Parts that a run of the same
    `identity` had written when it was broken off are passed over.
    """

    def __init__(
        self, path: Source, out: Path, size: int, keep: Sequence[str], identity: Mapping[str, str]
    ) -> None:
        self.path, self.size, self.keep = path, size, keep
        self.writer = TableWriter(out, identity)
        self._kept = pd.DataFrame()

    @property
    def rows(self) -> int:
        """Rows of the table that are done."""
        return self.writer.read

    @property
    def written(self) -> int:
        """Rows that are written of them."""
        return self.writer.rows

    def __enter__(self) -> "Chunks":
        self.writer.__enter__()
        if self.writer.changed:
            what = ", ".join(self.writer.changed)
            click.echo(f"starting anew: since a run was broken off, another is {what}", err=True)
        elif self.writer.parts:
            click.echo(f"continuing after {self.rows} rows", err=True)
        return self

    def __iter__(self) -> Iterator[tuple[pd.DataFrame, int]]:
        done = (self.writer.parts, self.rows)
        for start, rows, kept in parts(self.path, self.size, self.keep, *done):
            self._kept = kept
            yield rows, start

    def write(self, found: Found) -> None:
        """What was found of the rows of this part."""
        self.append(beside(self._kept, found), len(self._kept), found.bad)

    def append(self, frame: pd.DataFrame, read: int, bad: Sequence[BadCell]) -> None:
        """What was found of the next `read` rows of the table, as it is to be written."""
        self.writer.write(frame, read, bad)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._say_unreadable()
        self.writer.__exit__(kind, error, trace)
        if kind is None:
            click.echo(f"{self.written} rows in {self.writer.path}", err=True)
        elif self.writer.parts:
            click.echo(f"{self.rows} rows are done: the same call continues after them", err=True)

    def _say_unreadable(self) -> None:
        if count := self.writer.bad:
            lines = unreadable_cells(self.writer.bad_cells(), count)
            _log.warning("%d unreadable cells are taken as missing:\n%s", count, lines)


def parts(
    path: Source, size: int, keep: Sequence[str], skip: int, start: int
) -> Iterator[tuple[int, pd.DataFrame, pd.DataFrame]]:
    """Those of a table but for the first `skip`, which have `start` rows: the number of its first row, the rows,
    and the columns that say which they are, of a CSV as they are written there, with no `keep` their numbers."""
    written = as_written(path, keep, size, skip) if keep else None
    for rows in read_chunks(path, size, skip):
        kept = _kept(rows, keep, start)
        if written is not None and len(rows):  # a table without rows is one empty part
            kept = next(written).reset_index(drop=True)
        yield start, rows, kept
        start += len(rows)


def beside(kept: pd.DataFrame, found: Found) -> pd.DataFrame:
    """The columns that say which row it is, and those that were found."""
    kept = kept if found.chosen is None else kept.iloc[found.chosen].reset_index(drop=True)
    if both := [name for name in kept if name in found.columns]:
        raise SchemaError(f"kept columns may not be called as results are, got {both}: rename them")
    return kept.assign(**found.columns)


def _kept(rows: pd.DataFrame, keep: Sequence[str], start: int) -> pd.DataFrame:
    if not keep:
        return pd.DataFrame({"row": range(start, start + len(rows))})
    absent = [name for name in keep if name not in rows]
    if absent:
        meant = did_you_mean(absent, rows)
        raise SchemaError(
            f"columns {absent} are to be kept but absent; the table has {list(rows)}{meant}"
        )
    return rows.loc[:, list(keep)].reset_index(drop=True)
