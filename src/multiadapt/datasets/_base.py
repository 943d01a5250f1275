"""What a reader of a data set gives back."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from multiadapt.errors import SpecError

__all__ = ["CountWarning", "DataSet", "held_kinds"]


class CountWarning(UserWarning):
    """A copy has other numbers of rows than the publication: scores do not compare with published ones."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """A table and what each of its columns is for.

    `MultimodalClassifier(column_types=data.column_types, separator=data.separator)` takes the first
    half of it, `fit(data.frame, **data.roles)` the second.
    """

    name: str
    frame: pd.DataFrame
    """A row for each example; the column `split` holds "train", "val" and "test"."""
    root: Path
    """Folder that the file cells are relative to."""
    label: str
    column_types: Mapping[str, str]
    """Kinds of the columns that are neither label nor split."""
    source: str
    """Where the data set and its format are described."""
    citation: str
    licence: str
    """What its publishers say about use; ask them, not this line, before you rely on it."""
    separator: str | None = None
    """Text between several labels of a cell; None: a row has one."""
    expected: Mapping[str, int] = field(default_factory=dict)
    """Rows of each split in the publication, or of "all"; empty where copies are known to differ."""
    split: str = "split"

    @property
    def roles(self) -> dict[str, Any]:
        """The keywords of `fit`: label, split_column, root."""
        return {"label": self.label, "split_column": self.split, "root": self.root}

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each split, in the order train, val, test."""
        found = self.frame[self.split].value_counts().to_dict()
        return {mark: found[mark] for mark in ("train", "val", "test") if mark in found}

    def part(self, mark: str) -> pd.DataFrame:
        """The rows of one split, such as "test"."""
        if mark not in self.counts:
            raise SpecError(f"{self.name} has the splits {list(self.counts)}, not {mark!r}")
        marks: Any = self.frame[self.split]
        return self.frame.loc[(marks == mark).to_numpy()]

    def counted(self) -> "DataSet":
        """The data set itself, after a CountWarning where its splits are not of the published size."""
        have = {"all": len(self.frame)} | self.counts
        differ = {m: have.get(m, 0) - n for m, n in self.expected.items() if have.get(m, 0) != n}
        if differ:
            told = ", ".join(
                f"{m} {have.get(m, 0)} of {n} ({differ.get(m, 0):+d})"
                for m, n in self.expected.items()
            )
            warnings.warn(
                f"{self.name}: this copy has other numbers of rows than the publication: {told}; scores "
                "on it do not compare with published ones",
                CountWarning,
                stacklevel=3,
            )
        return self


def held_kinds(frame: pd.DataFrame, kinds: Mapping[str, str]) -> dict[str, str]:
    """The kinds, but "ignore" for a column without a cell: this copy does not have it."""
    held: Any = frame.notna().any()
    return {name: kind if held[name] else "ignore" for name, kind in kinds.items()}
