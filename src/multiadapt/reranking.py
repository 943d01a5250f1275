"""The second stage of a search: what similarity has found is read again and told apart pair by pair."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from multiadapt.crossmodal._frames import middle
from multiadapt.crossmodal._matching import points_of
from multiadapt.errors import CellError, SpecError
from multiadapt.feed import Feed
from multiadapt.retrieving import FittedRetriever
from multiadapt.search import Found, Id, Sources, VectorIndex, plain_cell

__all__ = ["candidates", "searched", "sources_of"]

_CANDIDATES = 32
"""Of the nearest that are read again where nothing is asked for: each costs a pass of the network."""


def sources_of(
    fitted: FittedRetriever, ids: Sequence[Id], cells: pd.Series, side: str, root: Path | None
) -> Sources | None:
    """What an index keeps to read its cells again; None where that is of no use, or where they are no texts."""
    if not fitted.model.ranks_again:
        return None
    told: dict[Id, str | list[str]] = {}
    for name, cell in zip(ids, cells, strict=True):
        if (kept := plain_cell(cell)) is None:
            return None
        told[name] = kept
    home = Path.cwd() if root is None else root
    return Sources(side, str(home.resolve()), told)


def candidates(
    fitted: FittedRetriever, index: VectorIndex, side: str, rerank: int | None, k: int
) -> int:
    """How many of the nearest are told apart; 0: none. SpecError: what is asked for cannot be had."""
    if k < 1:
        raise SpecError(f"k must be at least 1, got {k}")
    if rerank is not None and rerank != 0 and rerank < k:
        raise SpecError(f"rerank must be 0 or at least k, which is {k}, got {rerank}")
    lacks = None
    if not fitted.model.ranks_again:
        lacks = "the network has no cross-modal part, and neither side holds clips whose frames are weighed"
    elif index.sources is None:
        lacks = "the index does not know the texts or paths of its cells"
    elif index.sources.side == side:
        lacks = f"the index holds cells of the side that asks, {side!r}"
    if lacks and rerank:
        raise SpecError(f"nothing can be ranked again, because {lacks}: leave rerank out")
    if lacks or rerank == 0:
        return 0
    return rerank or max(k, _CANDIDATES)


def searched(
    fitted: FittedRetriever,
    index: VectorIndex,
    frame: pd.DataFrame,
    side: str,
    root: Path | None,
    most: tuple[int, int],
    beta: float,
) -> list[pd.DataFrame]:
    """What is found for each row. `most`: how many are wanted, and how many are told apart, 0 for none."""
    k, again = most
    if len(frame) == 0:
        return []
    if not again:
        found = index.search(fitted.vectors(frame, side, root), k)
        return [_table(i, s) for i, s in zip(found.ids, found.scores, strict=True)]
    asked = fitted.kept(frame, side, root)
    points = points_of(fitted.model, asked)
    found = index.search(middle(points).numpy(), again)
    names = list(dict.fromkeys(name for ids in found.ids for name in ids))
    cells = _read_again(fitted, index, names)
    place = {name: i for i, name in enumerate(names)}
    cell = np.array([place[name] for ids in found.ids for name in ids])
    row = np.repeat(np.arange(len(found.ids)), [len(ids) for ids in found.ids])
    near = np.concatenate(found.scores).astype(np.float64)
    told = fitted.told_apart((asked, row, points), cells, cell, near, beta)
    return _sorted(found, np.split(told, np.flatnonzero(np.diff(row)) + 1), k)


def _read_again(fitted: FittedRetriever, index: VectorIndex, names: list[Id]) -> Feed:
    """The cells of these ids. CellError: a file is not there any more."""
    if index.sources is None:
        raise SpecError("the index does not know the texts or paths of its cells")
    known = index.sources.cells
    if unknown := [name for name in names if name not in known]:
        raise SpecError(
            f"{len(unknown)} of the nearest have no cells that could be read again, such as {unknown[0]!r}: "
            "add and update with cells=..., or search with rerank=0"
        )
    side, root = index.sources.side, index.sources.root
    cells = pd.Series([known[name] for name in names], pd.Index(names, dtype=object), dtype=object)
    try:
        return fitted.kept(cells.rename(fitted.columns(side)).to_frame(), side, Path(root))
    except CellError as error:
        raise CellError(
            f"what is nearest is read again in {root}, and cannot be: {error}\nWhere the files lie in "
            "another folder now, open_index(folder, root=...); rerank=0 reads none"
        ) from error


def _sorted(found: Found, told: list[np.ndarray], k: int) -> list[pd.DataFrame]:
    frames: list[pd.DataFrame] = []
    for ids, near, score in zip(found.ids, found.scores, told, strict=True):
        order = np.argsort(-score, kind="stable")[:k]
        table = _table([ids[i] for i in order], score[order])
        frames.append(table.assign(similarity=near[order]))
    return frames


def _table(ids: Sequence[Id], scores: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"id": list(ids), "score": scores})
