"""Which training rows an in-context encoder sees, and which fold each of them is looked at from."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from multiadapt.errors import EncoderError

__all__ = ["FULL", "blocks", "choose_context", "choose_folds", "out_of_fold", "strata"]

FULL = -1
"""Fold of a row that is looked at from the whole context, because it is not in it."""

_TOGETHER = 1024
"""Rows that are looked at together: bounds memory."""


def strata(y: np.ndarray) -> Float[np.ndarray, " b"] | Int[np.ndarray, " b"]:
    """One number a row by which rows are spread evenly: y itself, or the combination of its labels."""
    if y.ndim == 1:
        return y
    return np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)


def choose_context(order: np.ndarray, most: int, seed: int) -> Int[np.ndarray, " k"]:
    """Positions of at most `most` rows, in the table's order, spread evenly over sorted `order`."""
    if len(order) <= most:
        return np.arange(len(order))
    shuffled = np.lexsort((np.random.default_rng(seed).random(len(order)), order))
    return np.sort(shuffled[np.arange(most) * len(order) // most])


def choose_folds(
    order: np.ndarray,
    groups: np.ndarray | None,
    context: Int[np.ndarray, " k"],
    folds: int,
    seed: int,
) -> Int[np.ndarray, " b"]:
    """Each training row's fold. A row outside the context shares the fold of its group, if any."""
    units = np.arange(len(order)) if groups is None else _units(groups)
    inside = np.unique(units[context])
    if len(inside) < 2:
        kind = "rows" if groups is None else "groups of rows"
        raise EncoderError(
            f"out-of-fold embeddings need at least 2 {kind} to learn from, got {len(inside)}; "
            f"encoders={{'tabular': 'mlp'}} needs no context"
        )
    unit_fold = np.full(units.max() + 1, FULL)
    size = np.bincount(units[context])
    level = np.bincount(units[context], weights=order[context]) / np.maximum(size, 1)
    unit_fold[inside] = _dealt(level[inside], size[inside], min(folds, len(inside)), seed)
    return unit_fold[units]


def _units(groups: np.ndarray) -> Int[np.ndarray, " b"]:
    """Numbers of the groups; a missing one is a group of its own, as when rows are held out."""
    codes, distinct = pd.factorize(groups)  # np.unique cannot sort None among words
    missing = codes < 0
    codes[missing] = len(distinct) + np.arange(missing.sum())
    return codes


def _dealt(
    level: Float[np.ndarray, " u"], size: Int[np.ndarray, " u"], folds: int, seed: int
) -> Int[np.ndarray, " u"]:
    """Units dealt out from the largest down, equals in the order of `level`, to the smallest fold."""
    random = np.random.default_rng(seed)
    rows = np.zeros(folds)
    fold = np.empty(len(level), np.int64)
    for unit in np.lexsort((random.random(len(level)), level, -size)):
        lightest = np.flatnonzero(rows == rows.min())
        fold[unit] = random.choice(lightest)
        rows[fold[unit]] += size[unit]
    return fold


def out_of_fold(
    fold: Int[np.ndarray, " b"],
    context: Int[np.ndarray, " k"],
    look: Callable[[Int[np.ndarray, " c"], Int[np.ndarray, " q"]], Float[np.ndarray, "q d"]],
) -> Float[np.ndarray, "b d"]:
    """`look(seen, asked)` for every fold: a row is never asked about with its own fold in view.

    `seen` are positions within the context, `asked` positions of training rows.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for number in np.unique(fold):
        asked = np.flatnonzero(fold == number)
        parts.append((asked, look(np.flatnonzero(fold[context] != number), asked)))
    found = np.empty((len(fold), parts[0][1].shape[1]), np.float32)
    for asked, vectors in parts:
        found[asked] = vectors
    return found


def blocks(rows: int) -> list[slice]:
    """Slices of so many rows, each of at most _TOGETHER."""
    return [slice(i, i + _TOGETHER) for i in range(0, rows, _TOGETHER)]
