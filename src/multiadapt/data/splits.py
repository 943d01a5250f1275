"""Training and validation rows: seeded, stratified, groups whole; and a warning where parts overlap."""

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multiadapt.data.reading import files, locate
from multiadapt.data.values import absent, text
from multiadapt.errors import CellError, SpecError

if TYPE_CHECKING:
    from multiadapt.data.schema import Schema

__all__ = ["LeakWarning", "folds", "group_codes", "holdout", "warn_straddling"]


class LeakWarning(UserWarning):
    """Rows that tell of each other stand on both sides of a split: scores will be too good."""


def holdout(
    n: int,
    *,
    fraction: float = 0.2,
    seed: int = 0,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the training and of the validation rows, both in ascending order.

    Every class of `strata` keeps its share within one row, or within a group, and is never lost from
    training. Rows with equal `groups` stay together; a missing group is a group of its own. The
    validation part is empty where nothing can be spared: one row, one group.
    """
    if not 0 < fraction < 1:
        raise SpecError(f"fraction must be between 0 and 1, got {fraction}")
    classes, rng = _codes(strata, n), np.random.default_rng(seed)
    if groups is None:
        held = _hold_rows(classes, fraction, rng)
    else:
        held = _hold_groups(classes, _codes(groups, n, alone=True), fraction, rng)
    return np.flatnonzero(~held), np.flatnonzero(held)


def folds(
    n: int,
    k: int,
    *,
    seed: int = 0,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`k` pairs of training and validation positions; every row is validated once.

    Folds differ by at most one row, in all and within a class of `strata`; with `groups` as little as
    whole groups allow. A class with one row is absent from training where that row is validated.
    """
    units = n if groups is None else _codes(groups, n, alone=True).max(initial=-1) + 1
    if not 2 <= k <= units:
        raise SpecError(f"k must be between 2 and the number of rows or groups, {units}; got {k}")
    classes, rng = _codes(strata, n), np.random.default_rng(seed)
    if groups is None:
        fold = np.empty(n, dtype=np.int64)
        fold[_by_class(classes, rng)] = np.arange(n) % k
    else:
        fold = _deal_groups(classes, _codes(groups, n, alone=True), k, rng)
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def group_codes(values: np.ndarray) -> np.ndarray:
    """(b,) whole numbers from 0, equal where groups are; each missing group has one of its own."""
    return _codes(values, len(values), alone=True)


def _codes(values: np.ndarray | None, n: int, *, alone: bool = False) -> np.ndarray:
    """(n,) numbers of the distinct values; missing ones share a number or, `alone`, have their own."""
    if values is None:
        return np.zeros(n, dtype=np.int64)
    if len(values) != n:
        raise SpecError(f"strata and groups must have one value per row, {n}; got {len(values)}")
    codes, distinct = pd.factorize(np.asarray(values), use_na_sentinel=True)
    missing = (codes < 0) | absent(pd.Series(values))
    codes[missing] = len(distinct) + (np.arange(missing.sum()) if alone else 0)
    return np.unique(codes, return_inverse=True)[1]


def _by_class(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All positions, class after class, each class in random order."""
    return np.lexsort((rng.permutation(len(classes)), classes))


def _hold_rows(classes: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    order, n = _by_class(classes, rng), len(classes)
    wanted = min(max(round(n * fraction), 1), n - 1)
    held = np.zeros(n, dtype=bool)
    if wanted < 1:
        return held
    # evenly spaced over the sorted classes: each gives its share, rounded up or down
    held[order[(np.arange(wanted) * n + n // 2) // wanted]] = True
    lost = np.setdiff1d(classes, classes[~held])
    held[np.isin(classes, lost) & _first(classes)] = False
    return held


def _first(codes: np.ndarray) -> np.ndarray:
    """(n,) True at the first row of each value."""
    mark = np.zeros(len(codes), dtype=bool)
    mark[np.unique(codes, return_index=True)[1]] = True
    return mark


def _counts(classes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(groups, classes) numbers of rows."""
    counts = np.zeros((groups.max(initial=-1) + 1, classes.max(initial=-1) + 1), dtype=np.int64)
    np.add.at(counts, (groups, classes), 1)
    return counts


def _hold_groups(
    classes: np.ndarray, groups: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Take groups in random order while that brings the class counts nearer to their share."""
    counts = _counts(classes, groups)
    left, lack = counts.sum(0), counts.sum(0) * fraction
    held = np.zeros(len(counts), dtype=bool)
    for g in rng.permutation(len(counts)):
        keeps = (left > counts[g])[counts[g] > 0].all()
        if keeps and np.square(lack - counts[g]).sum() < np.square(lack).sum():
            held[g], left, lack = True, left - counts[g], lack - counts[g]
    if not held.any():  # every group is large: the smallest that can be spared
        spare = [g for g in range(len(counts)) if (left > counts[g])[counts[g] > 0].all()]
        held[sorted(spare, key=lambda g: counts[g].sum())[:1]] = True
    return held[groups]


def _deal_groups(
    classes: np.ndarray, groups: np.ndarray, k: int, rng: np.random.Generator
) -> np.ndarray:
    """The largest group first, each to the fold that has least of its classes, then least rows."""
    counts = _counts(classes, groups)
    share = counts / counts.sum(0)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    filled, fold = np.zeros((k, counts.shape[1])), np.empty(len(counts), dtype=np.int64)
    for at, g in enumerate(order):
        empty = np.flatnonzero(filled.sum(1) == 0)
        must = len(order) - at <= len(empty)  # no fold may stay empty
        load = (filled * (share[g] > 0)).sum(1) + 1e-3 * filled.sum(1)
        fold[g] = empty[0] if must else load.argmin()
        filled[fold[g]] += share[g]
    return fold[groups]


def warn_straddling(
    parts: Mapping[str, pd.DataFrame], schema: "Schema", root: Path | None, groups: str | None
) -> None:
    """Warn with counts where two parts share a group or files with the same bytes.

    Reads only files that the given frames name, and only those whose size occurs in more than one
    part; files that cannot be read are left to `Reading`. Images held in the table are not compared.
    """
    home = Path.cwd() if root is None else root
    columns = [c.name for c in schema.columns if c.kind == "image"]
    held = {name: _hashes(paths) for name, paths in _comparable(parts, columns, home).items()}
    for (one, first), (other, second) in combinations(held.items(), 2):
        both = first.keys() & second.keys()
        if both:
            example = min(first[h] for h in both)
            warnings.warn(
                f"{len(both)} files stand in both {one} and {other}, byte for byte, for example "
                f"{example}: scores on {other} will be too good",
                LeakWarning,
                stacklevel=2,
            )
    if groups is not None:
        _warn_groups(parts, groups)


def _comparable(
    parts: Mapping[str, pd.DataFrame], columns: list[str], root: Path
) -> dict[str, set[Path]]:
    """The files of each part that have the size of a file in another part."""
    sizes: dict[str, dict[int, set[Path]]] = {name: defaultdict(set) for name in parts}
    for name, frame in parts.items():
        for column in columns:
            held: Any = frame[column]
            for part in held.map(files).explode().dropna().drop_duplicates():
                if isinstance(part, (str, Path)) and (path := _readable(part, root)):
                    sizes[name][path.stat().st_size].add(path)
    times = Counter(size for by_size in sizes.values() for size in by_size)
    return {
        name: {path for size, paths in held.items() if times[size] > 1 for path in paths}
        for name, held in sizes.items()
    }


def _readable(part: str | Path, root: Path) -> Path | None:
    try:
        return locate(part, root)
    except CellError:
        return None


def _hashes(paths: set[Path]) -> dict[str, str]:
    """SHA-256 of each file's bytes to its name; the first name where several files are equal."""
    return {hashlib.sha256(p.read_bytes()).hexdigest(): str(p) for p in sorted(paths, reverse=True)}


def _warn_groups(parts: Mapping[str, pd.DataFrame], groups: str) -> None:
    held = {name: [text(value) for value in frame[groups]] for name, frame in parts.items()}
    for one, other in combinations(held, 2):
        both = set(held[one]) & set(held[other]) - {None}
        if both:
            rows = sum(value in both for name in (one, other) for value in held[name])
            warnings.warn(
                f"{len(both)} values of {groups!r} stand in both {one} and {other}, in {rows} rows, "
                f"for example {min(map(str, both))!r}: scores on {other} will be too good",
                LeakWarning,
                stacklevel=3,
            )
