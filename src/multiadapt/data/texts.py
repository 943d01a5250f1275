"""Cells of text columns to texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from multiadapt.data.bad_cells import BadCell, listing
from multiadapt.data.reading import Reading
from multiadapt.data.values import absent, text
from multiadapt.errors import CellError
from multiadapt.types import Stream

__all__ = ["texts"]

NO_TEXT = "a cell of text must hold text, a number or nothing"


def texts(
    frame: pd.DataFrame,
    stream: Stream,
    positions: Sequence[int] | np.ndarray | None = None,
    reading: Reading | None = None,
) -> list[list[str]]:
    """One list a row: [] where the cell is missing, else its text without blanks around it.

    Numbers and booleans become text by the rule for categories, whether the table holds them as such
    or as words. Of several columns, each line is one that is not missing, as "name: text".
    `positions` tells where each row stands in the caller's table, for the report. Cells that hold lists
    or other objects are missing where `reading` takes bad cells as missing; it notes them.

    Raises:
        CellError: cells hold lists or other objects; all of these rows' are told.
    """
    places = np.arange(len(frame)) if positions is None else np.asarray(positions)
    bad: list[BadCell] = []
    columns: dict[str, list[str | None]] = {}
    for column in stream.columns:
        cells: Any = frame[column.name]
        columns[column.name] = _words(cells, places, bad)
    if bad and reading is not None and reading.on_error == "missing":
        for cell in bad:
            reading.note(cell)
    elif bad:
        lines = listing(bad, lambda b: f"{b.where}, column {b.column!r}: got {b.value}")
        raise CellError(
            f"every cell of text must hold text, a number or nothing; {len(bad)} hold something else:\n"
            f"{lines}\nTurn these cells into text or empty them"
        )
    if len(columns) == 1:
        return [[] if word is None else [word] for word in next(iter(columns.values()))]
    return [_joined(tuple(columns), row) for row in zip(*columns.values(), strict=True)]


def _words(cells: pd.Series, places: np.ndarray, bad: list[BadCell]) -> list[str | None]:
    """The texts of one column, None where missing; adds to `bad` what is no text."""
    cells = cells.astype(object)
    missing = absent(cells)
    words: list[str | None] = []
    for i, value in enumerate(cells):
        if missing[i]:
            words.append(None)
        elif pd.api.types.is_scalar(value) and not isinstance(value, bytes):
            words.append(text(value))
        else:
            shown = repr(value)[:200]
            bad.append(BadCell(cells.index[i], int(places[i]), str(cells.name), shown, NO_TEXT))
            words.append(None)
    return words


def _joined(names: Sequence[str], row: Sequence[str | None]) -> list[str]:
    lines = [f"{name}: {word}" for name, word in zip(names, row, strict=True) if word is not None]
    return ["\n".join(lines)] if lines else []
