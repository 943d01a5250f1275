"""How well queries find their targets: best ranks, recall, median rank and reciprocal rank.

The rank of a query is that of its best relevant target: one more than the number of irrelevant targets
whose score is not lower. So a tie counts against us, and relevant targets do not push each other down.
Scores come as a matrix or as a function that makes some of its rows, which keeps large pools small in
memory; for both ways the function is called twice for every row.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from multiadapt.errors import SpecError, TargetError
from multiadapt.tasks._base import Comparison, Estimate
from multiadapt.tasks._grouped import difference, estimates, group_numbers, mean_of
from multiadapt.tasks._metrics import Metric

__all__ = [
    "LOWER",
    "Pairs",
    "Relevance",
    "Retrieved",
    "Scores",
    "best_ranks",
    "measured",
    "paired",
    "ranks_both_ways",
    "relevance",
    "versus",
]

LOWER = frozenset({"median_rank"})
"""Of these less is better."""
RECALLS = (1, 5, 10)

Scores: TypeAlias = np.ndarray | Callable[[int, int], np.ndarray]
"""(q, t) scores, higher is closer; or a function from a first and a last row (not included) to theirs."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """Which targets answer which query, by position. Every query has at least one."""

    starts: Int[np.ndarray, " bounds"]
    """Query i owns `hits[starts[i]:starts[i + 1]]`."""
    hits: Int[np.ndarray, " h"]
    """Positions of targets, each once for a query."""
    pool: int
    """How many targets there are, relevant to anyone or not."""

    @property
    def queries(self) -> int:
        return len(self.starts) - 1

    def turned(self, names: Sequence[Hashable] | None = None) -> "Relevance":
        """The other way: targets ask, and their queries are the pool. TargetError: a target has none."""
        order = np.argsort(self.hits, kind="stable")
        asked = np.repeat(np.arange(self.queries), np.diff(self.starts))[order]
        count = np.bincount(self.hits, minlength=self.pool)
        _refuse_empty(count, names, "target", "no query; take it out of the pool or score one way")
        return Relevance(np.concatenate([[0], np.cumsum(count)]), asked, self.queries)


def relevance(
    sets: Sequence[Collection[int]], pool: int, names: Sequence[Hashable] | None = None
) -> Relevance:
    """One set of target positions for each query. `names` are the queries' rows, for errors."""
    if not len(sets) or pool < 1:
        raise TargetError(f"there must be a query and a target, got {len(sets)} and {pool}")
    kept = [sorted(set(s)) for s in sets]
    count = np.array([len(s) for s in kept])
    _refuse_empty(count, names, "query", "no target; give it one or leave it out")
    hits = np.array([t for s in kept for t in s], dtype=np.int64)
    wrong = np.flatnonzero((hits < 0) | (hits >= pool))
    if len(wrong):
        row = int(np.repeat(np.arange(len(kept)), count)[wrong[0]])
        raise TargetError(
            f"{_named(row, names, 'query')} has target {hits[wrong[0]]}; there are {pool}, from 0"
        )
    return Relevance(np.concatenate([[0], np.cumsum(count)]), hits, pool)


@dataclass(frozen=True, eq=False)
class Pairs:
    """A table of queries and their targets as positions: a row is a query, equal targets are one."""

    relevance: Relevance
    first: Int[np.ndarray, " t"]
    """The row at which each target of the pool stands first."""
    target: Int[np.ndarray, " q"]
    """The target of each row: what its query is grouped by."""
    shared: int
    """How many queries are also asked of another target, which counts for them too."""


def paired(
    queries: Collection[Hashable],
    targets: Collection[Hashable],
    names: Sequence[Hashable] | None = None,
) -> Pairs:
    """Two columns of one table. Equal queries have all their targets in common.

    TargetError: a missing query or target, named by its row.
    """
    if len(queries) != len(targets) or not len(queries):
        raise TargetError(f"each query needs its target, got {len(queries)} and {len(targets)}")
    asked, found = _numbers(queries, names, "query"), _numbers(targets, names, "target")
    pool = int(found.max()) + 1
    of_query: list[set[int]] = [set() for _ in range(int(asked.max()) + 1)]
    for query, target in zip(asked.tolist(), found.tolist(), strict=True):
        of_query[query].add(target)
    sets = [of_query[query] for query in asked.tolist()]
    first = np.full(pool, len(found))
    np.minimum.at(first, found, np.arange(len(found)))
    shared = sum(len(s) > 1 for s in sets)
    return Pairs(relevance(sets, pool, names), first, found, shared)


def best_ranks(scores: Scores, relevance: Relevance, *, block: int = 256) -> Int[np.ndarray, " q"]:
    """The rank of every query's best target, from 1. TargetError: a score is NaN.

    `block`: rows that are ranked at once; 256 are 50 MB of scores in a pool of 25,000.
    """
    ranks = np.empty(relevance.queries, np.int64)
    for start, part in _blocks(scores, relevance, block):
        ranks[start : start + len(part)] = _ranks(part, *_own(part, relevance, start)[:2])
    return ranks


def ranks_both_ways(
    scores: Scores, relevance: Relevance, *, block: int = 1024
) -> tuple[Int[np.ndarray, " q"], Int[np.ndarray, " t"]]:
    """The ranks of the queries' best targets, and of the targets' best queries."""
    relevance.turned()  # every target must have a query
    forward = np.empty(relevance.queries, np.int64)
    best = np.full(relevance.pool, -np.inf)
    for start, part in _blocks(scores, relevance, block):
        own, offsets, hits = _own(part, relevance, start)
        forward[start : start + len(part)] = _ranks(part, own, offsets)
        np.maximum.at(best, hits, own)
    backward = np.ones(relevance.pool, np.int64)
    for start, part in _blocks(scores, relevance, block):
        own, _, hits = _own(part, relevance, start)
        backward += (part >= best).sum(0)
        np.subtract.at(backward, hits, (own >= best[hits]).astype(np.int64))
    return forward, backward


@dataclass(frozen=True, eq=False)
class Retrieved:
    """How well queries find their targets, one way."""

    way: str
    """What asks and what is found, such as "caption to image"."""
    queries: int
    pool: int
    groups: int
    protocol: str
    """In words, what the numbers are of."""
    estimates: Mapping[str, Estimate]
    """r@1, r@5, r@10, median_rank and mrr, with their 95 % intervals."""
    ranks: Int[np.ndarray, " q"]

    @property
    def table(self) -> pd.DataFrame:
        """A row for each metric; every row tells the pool and the protocol."""
        return pd.DataFrame([
            {"way": self.way, "metric": name, "value": e.value, "low": e.low, "high": e.high,
             "queries": self.queries, "pool": self.pool, "protocol": self.protocol}
            for name, e in self.estimates.items()
        ])  # fmt: skip

    def __str__(self) -> str:
        lines = [
            f"  {name:<12}{e.value:9.3f} [{e.low:.3f}, {e.high:.3f}] of {self.pool:,} targets"
            for name, e in self.estimates.items()
        ]
        return "\n".join([f"{self.way}: {self.protocol}", *lines])


def measured(
    ranks: Int[np.ndarray, " q"],
    pool: int,
    *,
    way: str = "query to target",
    groups: Collection[Hashable] | None = None,
    note: str = "",
    seed: int = 0,
) -> Retrieved:
    """The metrics of these ranks among `pool` targets; intervals are over groups of queries.

    `note` is what else the protocol must say, such as how the scores came about.
    """
    _check_ranks(ranks, pool)
    numbers = group_numbers(groups, len(ranks))
    parts = int(numbers.max()) + 1
    told = (
        f"{len(ranks):,} queries, each against all {pool:,} targets; the rank is that of the best relevant "
        f"target, ties count against; 95 % intervals by bootstrap over {parts:,} groups of queries"
    )
    return Retrieved(
        way=way,
        queries=len(ranks),
        pool=pool,
        groups=parts,
        protocol=f"{told}; {note}" if note else told,
        estimates=estimates(_metrics(ranks), numbers, seed),
        ranks=ranks,
    )


def versus(
    ranks_a: Int[np.ndarray, " q"],
    ranks_b: Int[np.ndarray, " p"],
    *,
    metric: str = "r@1",
    groups: Collection[Hashable] | None = None,
    seed: int = 0,
) -> Comparison:
    """What a is above b in a metric on the same queries, by paired bootstrap over groups."""
    if len(ranks_a) != len(ranks_b):
        raise TargetError(
            f"a comparison needs the same queries, got {len(ranks_a)} and {len(ranks_b)} ranks"
        )
    a, b = _metrics(ranks_a), _metrics(ranks_b)
    if metric not in a:
        raise SpecError(f"no metric of retrieval is named {metric!r}; there are {', '.join(a)}")
    return difference(a[metric], b[metric], group_numbers(groups, len(ranks_a)), seed)


def _metrics(ranks: Int[np.ndarray, " q"]) -> dict[str, Metric]:
    recalls: dict[str, Metric] = {f"r@{k}": mean_of((ranks <= k).astype(float)) for k in RECALLS}
    order = np.argsort(ranks, kind="stable")
    ordered = ranks[order].astype(float)

    def median(w: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
        below = w[:, order].cumsum(1)
        half = below[:, -1:] / 2
        # The middle two differ where the weight up to a rank is exactly half.
        return (ordered[(below >= half).argmax(1)] + ordered[(below > half).argmax(1)]) / 2

    return recalls | {"median_rank": median, "mrr": mean_of(1 / ranks)}


def _blocks(
    scores: Scores, relevance: Relevance, block: int
) -> Iterator[tuple[int, Float[np.ndarray, "b t"]]]:
    if block < 1:
        raise SpecError(f"block must be at least 1 row, got {block}")
    if not callable(scores) and scores.shape != (relevance.queries, relevance.pool):
        raise TargetError(
            f"scores must be one for each of {relevance.queries} queries and {relevance.pool} targets, "
            f"got the shape {scores.shape}"
        )
    for start in range(0, relevance.queries, block):
        stop = min(start + block, relevance.queries)
        part = scores(start, stop) if callable(scores) else scores[start:stop]
        if part.shape != (stop - start, relevance.pool) or part.dtype.kind != "f":
            raise TargetError(
                f"rows {start} to {stop} of the scores must be floats of shape "
                f"{(stop - start, relevance.pool)}, got {part.dtype} of {part.shape}"
            )
        if np.isnan(part).any():
            row, column = np.argwhere(np.isnan(part))[0]
            raise TargetError(
                f"the score of query {start + row} and target {column} is NaN, {np.isnan(part).sum()} of "
                f"{part.size} in its block are: a vector has zero length, or training diverged"
            )
        yield start, part


def _own(
    part: Float[np.ndarray, "b t"], relevance: Relevance, start: int
) -> tuple[Float[np.ndarray, " h"], Int[np.ndarray, " b"], Int[np.ndarray, " h"]]:
    """Scores of the relevant targets, where each query's begin, and which targets they are."""
    bounds = relevance.starts[start : start + len(part) + 1]
    hits = relevance.hits[bounds[0] : bounds[-1]]
    rows = np.repeat(np.arange(len(part)), np.diff(bounds))
    return part[rows, hits], bounds[:-1] - bounds[0], hits


def _ranks(
    part: Float[np.ndarray, "b t"], own: Float[np.ndarray, " h"], offsets: Int[np.ndarray, " b"]
) -> Int[np.ndarray, " b"]:
    best = np.maximum.reduceat(own, offsets)
    count = np.diff(np.append(offsets, len(own)))
    mine = np.add.reduceat((own >= np.repeat(best, count)).astype(np.int64), offsets)
    return (part >= best[:, None]).sum(1) - mine + 1


def _check_ranks(ranks: Int[np.ndarray, " q"], pool: int) -> None:
    if not len(ranks) or ranks.min() < 1 or ranks.max() > pool:
        shown = f"{ranks.min()} to {ranks.max()}" if len(ranks) else "none"
        raise TargetError(f"ranks must be from 1 to the {pool} targets, got {shown}")


def _numbers(
    cells: Collection[Hashable], names: Sequence[Hashable] | None, what: str
) -> Int[np.ndarray, " n"]:
    held = np.empty(len(cells), dtype=object)
    held[:] = list(cells)
    numbers, _ = pd.factorize(held)
    _refuse_empty(numbers + 1, names, "row", f"no {what}; fill it in or leave the row out")
    return numbers


def _refuse_empty(
    count: Int[np.ndarray, " n"], names: Sequence[Hashable] | None, kind: str, what: str
) -> None:
    empty = np.flatnonzero(count == 0)
    if len(empty):
        rest = f" ({len(empty)} of {len(count)} have none)" if len(empty) > 1 else ""
        raise TargetError(f"{_named(int(empty[0]), names, kind)} has {what}{rest}")


def _named(position: int, names: Sequence[Hashable] | None, kind: str) -> str:
    return f"{kind} {position}" if names is None else f"{kind} {names[position]!r}"
