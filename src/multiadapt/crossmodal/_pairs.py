"""Rows of pairs whose sides repeat: five captions of one picture read and keep that picture once."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from multiadapt.feed import Feed, blocks
from multiadapt.types import Inputs

__all__ = ["CellFeed", "Excerpt", "PairFeed", "Pairs", "SharedFeed", "distinct", "paired"]


@dataclass(frozen=True)
class Excerpt:
    """Rows of a table."""

    frame: pd.DataFrame
    places: Int[np.ndarray, " b"]
    """Where each stands in the caller's table, for reports."""

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, at: Int[np.ndarray, " k"]) -> "Excerpt":
        return Excerpt(self.frame.iloc[at], self.places[at])

    @staticmethod
    def whole(frame: pd.DataFrame) -> "Excerpt":
        return Excerpt(frame, np.arange(len(frame)))


@dataclass(frozen=True)
class Pairs:
    """A table of pairs as two lists of distinct cells, and which of each belongs to every row."""

    queries: pd.DataFrame
    targets: pd.DataFrame
    query: Int[np.ndarray, " b"]
    """Which query a row has, as a position in `queries`."""
    target: Int[np.ndarray, " b"]
    places: tuple[Int[np.ndarray, " q"], Int[np.ndarray, " t"]]
    """Where the first row of each query and of each target stands in the caller's table."""

    def __len__(self) -> int:
        return len(self.query)

    @property
    def ids(self) -> Int[Tensor, "b 2"]:
        return torch.from_numpy(np.stack([self.query, self.target], axis=1))

    @cached_property
    def groups(self) -> Int[np.ndarray, " b"]:
        """Rows that share a query or a target, however many steps away, have one number."""
        many = len(self.queries)
        ends = (self.query, self.target + many)
        whole = many + len(self.targets)
        graph = coo_array((np.ones(len(self)), ends), shape=(whole, whole))
        return connected_components(graph, directed=False)[1][self.query]

    @property
    def of_side(self) -> tuple[Int[np.ndarray, " q"], Int[np.ndarray, " t"]]:
        """The groups of the queries, and of the targets."""
        found = np.zeros(len(self.queries), np.int64), np.zeros(len(self.targets), np.int64)
        found[0][self.query], found[1][self.target] = self.groups, self.groups
        return found

    @property
    def relevant(self) -> list[list[int]]:
        """For each query the targets that belong to it."""
        order = np.argsort(self.query, kind="stable")
        ends = np.cumsum(np.bincount(self.query, minlength=len(self.queries)))[:-1]
        return [np.unique(part).tolist() for part in np.split(self.target[order], ends)]

    def take(self, at: Int[np.ndarray, " k"]) -> "Pairs":
        """The pairs of some rows, in order. Whatever shares a cell with one of them is among them too."""
        query, asked = pd.factorize(self.query[at])
        target, found = pd.factorize(self.target[at])
        places = (self.places[0][asked], self.places[1][found])
        return Pairs(self.queries.iloc[asked], self.targets.iloc[found], query, target, places)

    @property
    def several(self) -> bool:
        """Whether something can be mistaken: there are two queries and two targets."""
        return min(len(self.queries), len(self.targets)) > 1


def paired(rows: Excerpt, query: str, target: str) -> Pairs:
    """The distinct cells of both columns, in the order of their first rows, under these rows' labels."""
    frame, places = rows.frame, rows.places
    asked, query_of = distinct(frame[query])
    found, target_of = distinct(frame[target])
    first = (places[asked], places[found])
    queries, targets = frame.filter([query]).iloc[asked], frame.filter([target]).iloc[found]
    return Pairs(queries, targets, query_of, target_of, first)


def distinct(cells: Any) -> tuple[np.ndarray, np.ndarray]:
    """Positions of first rows of distinct values, and which of them each row has. Cells that cannot be
    compared, such as arrays, are all distinct."""
    keys = [_key(value, i) for i, value in enumerate(cells)]
    codes, found = pd.factorize(pd.Series(keys, dtype=object))
    first = np.zeros(len(found), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first, codes


def _key(value: Any, row: int) -> Any:
    if isinstance(value, (list, tuple)) and all(isinstance(v, (str, PathLike)) for v in value):
        return ";".join(fspath(v) for v in value)
    return fspath(value) if isinstance(value, (str, PathLike)) else (row,)


class SharedFeed:
    """Rows whose cells repeat: each different cell of a side is read and kept once."""

    def __init__(
        self,
        sides: Sequence[tuple[Feed, Int[np.ndarray, " b"]]],
        own: Mapping[str, Inputs] | None = None,
    ) -> None:
        """A feed of the different cells of each side, and which of them every row has; `own` holds what
        every row has for itself."""
        self.sides, self.own = tuple(sides), own or {}

    def __len__(self) -> int:
        return len(self.sides[0][1])

    @property
    def device(self) -> torch.device:
        return self.sides[0][0].device

    def in_order(self) -> list[np.ndarray]:
        return blocks(len(self), min(feed.block for feed, _ in self.sides))

    def batches(self, order: Sequence[np.ndarray]) -> Generator[dict[str, Inputs]]:
        """All sides of each array of rows."""
        parts = [feed.batches([which[rows] for rows in order]) for feed, which in self.sides]
        try:
            for rows, *sides in zip(order, *parts, strict=True):
                chosen = torch.from_numpy(rows)
                own = {s: i.select(chosen).to(self.device) for s, i in self.own.items()}
                yield {s: i for side in (*sides, own) for s, i in side.items()}
        finally:
            for part in parts:
                part.close()

    def flush(self) -> None:
        """As of a feed."""
        for feed, _ in self.sides:
            feed.flush()


class PairFeed(SharedFeed):
    """Batches of pairs."""

    def __init__(self, queries: Feed, targets: Feed, pairs: Pairs) -> None:
        super().__init__([(queries, pairs.query), (targets, pairs.target)])
        self.queries, self.targets, self.pairs = queries, targets, pairs


class CellFeed:
    """The different cells of both sides, queries first, each once: what compares all with all needs."""

    def __init__(self, pairs: PairFeed) -> None:
        self.queries, self.targets = pairs.queries, pairs.targets

    def __len__(self) -> int:
        return len(self.queries) + len(self.targets)

    @property
    def device(self) -> torch.device:
        return self.queries.device

    def in_order(self) -> list[np.ndarray]:
        """Blocks of one side each."""
        behind = len(self.queries)
        return [*self.queries.in_order(), *(rows + behind for rows in self.targets.in_order())]

    def batches(self, order: Sequence[np.ndarray]) -> Generator[dict[str, Inputs]]:
        """One side of each array, which holds cells of that side alone, queries before targets."""
        behind = len(self.queries)
        yield from self.queries.batches([rows for rows in order if rows[0] < behind])
        yield from self.targets.batches([rows - behind for rows in order if rows[0] >= behind])

    def flush(self) -> None:
        """As of a feed."""
        self.queries.flush()
        self.targets.flush()
