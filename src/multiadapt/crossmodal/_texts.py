"""Cells of texts that are to be written: one a row, or the answers of several people."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from multiadapt.data.bad_cells import BadCell, listing
from multiadapt.data.values import text
from multiadapt.errors import TargetError

__all__ = ["said", "shares"]

_LIST = re.compile(r"""\[\s*['"].*['"]\s*\]""", re.DOTALL)
"""A list of texts as a CSV file holds it."""


def said(cells: pd.Series, *, several: bool) -> list[list[str]]:
    """The texts of each row; of `several` a cell holds a list, or texts with ";" between them.

    TargetError: a cell has no text, or one that is blank, or a list that was written as text; all of
    these rows are told.
    """
    if several:
        _check_lists(cells)
    rows = [_parts(value, several=several) for value in cells.astype(object)]
    bad = [
        BadCell(cells.index[i], i, str(cells.name), repr(cells.iloc[i])[:80], "empty")
        for i, row in enumerate(rows)
        if not row or None in row
    ]
    if bad:
        what = "at least one answer, none of them blank" if several else "text"
        lines = listing(bad, lambda b: f"{b.where}: {b.column} is {b.value}")
        raise TargetError(
            f"every row must have {what}; {len(bad)} do not:\n{lines}\nFill them or leave these rows out"
        )
    return [[word for word in row if word is not None] for row in rows]


def _check_lists(cells: pd.Series) -> None:
    """TargetError: a CSV file made texts of lists, each of which would be one answer."""
    bad = [
        BadCell(cells.index[i], i, str(cells.name), f"{cell:.80}", "list")
        for i, cell in enumerate(cells)
        if isinstance(cell, str) and _LIST.fullmatch(cell.strip())
    ]
    if bad:
        lines = listing(bad, lambda b: f"{b.where}: {b.column} is {b.value}")
        raise TargetError(
            f"answers of several people must be lists, or have ; between them; {len(bad)} rows hold lists "
            f"written as text:\n{lines}\nTurn them into lists (ast.literal_eval does), or put ; between "
            "the answers"
        )


def shares(rows: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[list[float]]]:
    """Each row's different texts in the order of their first, and the share of the row that says so."""
    counts = [Counter(row) for row in rows]
    parts = [[n / c.total() for n in c.values()] for c in counts]
    return [list(c) for c in counts], parts


def _parts(value: Any, *, several: bool) -> list[str | None]:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [text(part) for part in value] if several else []
    word = text(value)
    if word is None:
        return []
    return [text(part) for part in word.split(";")] if several and ";" in word else [word]
