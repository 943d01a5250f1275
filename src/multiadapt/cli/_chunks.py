"""A table read in parts, and what is found of its rows written in the same order."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import click
import pandas as pd

from multiadapt.data.tables import TableWriter, did_you_mean, read_chunks
from multiadapt.errors import SchemaError

__all__ = ["Chunks"]


class Chunks:
    """Parts of a table, each with the number of its first row. After each, `write` what was found.

    The file appears when it is whole, or not at all; how many rows it has is said then.
    """

    def __init__(self, path: Path, out: Path, size: int, keep: Sequence[str]) -> None:
        self.path, self.size, self.keep = path, size, keep
        self.writer, self.rows = TableWriter(out), 0
        self.kept = pd.DataFrame()

    def __enter__(self) -> "Chunks":
        self.writer.__enter__()
        return self

    def __iter__(self) -> Iterator[tuple[pd.DataFrame, int]]:
        for rows in read_chunks(self.path, self.size):
            self.kept = _kept(rows, self.keep, self.rows)
            yield rows, self.rows
            self.rows += len(rows)

    def write(self, found: Mapping[str, Any]) -> None:
        """Columns of what was found of the rows of this part."""
        _check_names(list(self.kept), list(found))
        self.writer.write(self.kept.assign(**found))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.__exit__(kind, error, trace)
        if kind is None:
            click.echo(f"{self.rows} rows in {self.writer.path}", err=True)


def _kept(rows: pd.DataFrame, keep: Sequence[str], start: int) -> pd.DataFrame:
    """The columns that say which row it is."""
    if not keep:
        return pd.DataFrame({"row": range(start, start + len(rows))})
    absent = [name for name in keep if name not in rows]
    if absent:
        meant = did_you_mean(absent, rows)
        raise SchemaError(
            f"columns {absent} are to be kept but absent; the table has {list(rows)}{meant}"
        )
    return rows.loc[:, list(keep)].reset_index(drop=True)


def _check_names(kept: Sequence[str], found: Sequence[str]) -> None:
    both = [name for name in kept if name in found]
    if both:
        raise SchemaError(f"kept columns may not be called as results are, got {both}: rename them")
