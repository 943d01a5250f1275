"""A tabular stream's cells as arrays: numbers as they are, categories as codes of a vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from multiadapt.types import Cells

__all__ = ["MISSING", "UNSEEN", "Vocabulary", "frame_of", "present"]

UNSEEN = -1
"""Code of a category that the vocabulary does not hold."""
MISSING = -2
"""Code of a missing category."""


def frame_of(cells: Cells) -> pd.DataFrame:
    """A tabular stream's cells: float64 columns are numeric, all others categories."""
    return cast("pd.DataFrame", cells)


def present(frame: pd.DataFrame) -> Bool[np.ndarray, " b"]:
    """False where a row has no value in any column: the table's modality is missing."""
    return frame.notna().any(axis=1).to_numpy(dtype=bool)


@dataclass(frozen=True)
class Vocabulary:
    """Which columns are numbers, and the categories of the others, in a stated order."""

    numeric: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    """Per categorical column its known categories; a code is a position in it."""

    @staticmethod
    def learn(frame: pd.DataFrame, *, least: int = 1, most: int | None = None) -> "Vocabulary":
        """Categories seen at least `least` times, the `most` frequent of them, in sorted order."""
        numeric = tuple(str(c) for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c]))
        rest = [c for c in frame.columns if c not in numeric]
        return Vocabulary(numeric, {c: _categories(_column(frame, c), least, most) for c in rest})

    def numbers(self, frame: pd.DataFrame) -> Float[np.ndarray, "b n"]:
        """The numeric columns in float64, NaN where missing."""
        return frame[list(self.numeric)].to_numpy(np.float64)

    def codes(self, frame: pd.DataFrame) -> Int[np.ndarray, "b n"]:
        """The categorical columns as positions in their vocabularies, or MISSING, or UNSEEN."""
        columns = [_codes(_column(frame, c), known) for c, known in self.categories.items()]
        return np.stack(columns, axis=1) if columns else np.zeros((len(frame), 0), np.int64)

    def to_values(self) -> dict[str, Any]:
        """JSON values for `from_values`."""
        categories = [[c, list(known)] for c, known in self.categories.items()]
        return {"numeric": list(self.numeric), "categories": categories}

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> "Vocabulary":
        categories = {c: tuple(known) for c, known in values["categories"]}
        return Vocabulary(tuple(values["numeric"]), categories)


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return cast("pd.Series", frame[name])


def _categories(column: pd.Series, least: int, most: int | None) -> tuple[str, ...]:
    count: Any = column.value_counts()
    count = count[count >= least].sort_index().sort_values(ascending=False, kind="stable")
    return tuple(sorted(str(c) for c in count.index[:most]))


def _codes(column: pd.Series, known: tuple[str, ...]) -> Int[np.ndarray, " b"]:
    codes = pd.Index(known, dtype=object).get_indexer(column.astype(object)).astype(np.int64)
    codes[column.isna().to_numpy()] = MISSING
    return codes
