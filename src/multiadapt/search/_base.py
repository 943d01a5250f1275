"""What an index of vectors does, whatever searches it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from multiadapt.errors import ArtifactError, CellError, SpecError

__all__ = [
    "Found",
    "Id",
    "Sources",
    "VectorIndex",
    "plain_cell",
    "plain_id",
    "plain_ids",
    "unit_vectors",
]

Id: TypeAlias = str | int
UNIT = 1e-2
"""How far a length may be from 1: half precision rounds."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found, best first; a list for each vector that was searched for."""

    ids: list[list[Id]]
    scores: list[Float[np.ndarray, " k"]]
    """Inner products, from -1 to 1."""


@dataclass(frozen=True)
class Sources:
    """What the vectors of an index were made of, so that some can be read again."""

    side: str
    """Of the pairs that the model was fitted on: "query" or "target"."""
    root: str
    """Folder that file paths are relative to."""
    cells: dict[Id, str | list[str]]
    """By id a text, a path, or the paths of one cell's files."""


class VectorIndex(ABC):
    """Unit vectors of one width under the user's ids, searched by inner product.

    `made_by` is a hash of what made the vectors: a model and its adapter. Changes are in memory until
    `save` writes them.
    """

    kind: str
    """The name under which `build_index` makes it, such as "exact"."""
    dimension: int
    made_by: str
    metric = "inner product of unit vectors"
    sources: Sources | None = None
    """What stands behind the ids; None: the index does not know."""

    @property
    @abstractmethod
    def ids(self) -> Sequence[Id]:
        """All ids; where nothing was updated, in the order in which they were added."""

    @abstractmethod
    def __contains__(self, name: object) -> bool: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def count(self) -> int:
        return len(self)

    def add(
        self,
        ids: Sequence[Id],
        vectors: Float[np.ndarray, "n d"],
        cells: Sequence[Any] | None = None,
    ) -> None:
        """`cells`: what the vectors were made of (a text, a path or several), where the index has `sources`.

        CellError: an id is there already or stands here twice, a vector is no unit vector, or a cell is
        something else.
        """
        keys = plain_ids(ids)
        rows = self._rows(keys, vectors)
        known = [key for key in keys if key in self]
        if known:
            raise CellError(
                f"{len(known)} of {len(keys)} ids are in the index already, such as {known[0]!r}: use update"
            )
        told = self._told(keys, cells)
        if keys:
            self._add(keys, rows)
            self._tell(keys, told)

    def remove(self, ids: Sequence[Id]) -> None:
        """CellError: an id is not there."""
        keys = self._known(ids)
        if keys:
            self._remove(keys)
            self._tell(keys, {})

    def update(
        self,
        ids: Sequence[Id],
        vectors: Float[np.ndarray, "n d"],
        cells: Sequence[Any] | None = None,
    ) -> None:
        """Put other vectors in place of those of these ids; what they were made of is forgotten unless
        `cells` tell. CellError: an id is not there."""
        keys = self._known(ids)
        rows = self._rows(keys, vectors)
        told = self._told(keys, cells)
        if keys:
            self._update(keys, rows)
            self._tell(keys, told)

    def _told(self, ids: list[Id], cells: Sequence[Any] | None) -> dict[Id, str | list[str]]:
        if cells is None:
            return {}
        if self.sources is None:
            raise SpecError("this index keeps no cells: leave cells out")
        if len(cells) != len(ids):
            raise CellError(f"each id needs its cell, got {len(ids)} ids, {len(cells)} cells")
        told: dict[Id, str | list[str]] = {}
        for name, cell in zip(ids, cells, strict=True):
            if (kept := plain_cell(cell)) is None:
                raise CellError(
                    f"the cell of id {name!r} must be a text, a path or several paths, got "
                    f"{type(cell).__name__}"
                )
            told[name] = kept
        return told

    def _tell(self, ids: list[Id], told: dict[Id, str | list[str]]) -> None:
        if self.sources is not None:
            for name in ids:
                self.sources.cells.pop(name, None)
            self.sources.cells.update(told)

    def search(self, vectors: Float[np.ndarray, "q d"], k: int = 10) -> Found:
        """The k nearest of each vector, all where there are fewer. ArtifactError: the index is empty."""
        if k < 1:
            raise SpecError(f"k must be at least 1, got {k}")
        rows = unit_vectors(vectors, self.dimension)
        if not len(self):
            raise ArtifactError("the index is empty: add vectors before you search it")
        return self._search(rows, min(k, len(self))) if len(rows) else Found([], [])

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the index; an index that is there is replaced as a whole, any other folder refused."""

    def _known(self, ids: Sequence[Id]) -> list[Id]:
        keys = plain_ids(ids)
        unknown = [key for key in keys if key not in self]
        if unknown:
            raise CellError(
                f"{len(unknown)} of {len(keys)} ids are not in the index, such as {unknown[0]!r}: add them"
            )
        return keys

    def _rows(
        self, ids: Sequence[Id], vectors: Float[np.ndarray, "n d"]
    ) -> Float[np.ndarray, "n d"]:
        if len(ids) != len(vectors):
            raise CellError(f"each vector needs an id, got {len(ids)} ids, {len(vectors)} vectors")
        return unit_vectors(vectors, self.dimension, ids)

    @abstractmethod
    def _add(self, ids: list[Id], vectors: Float[np.ndarray, "n d"]) -> None: ...

    @abstractmethod
    def _remove(self, ids: list[Id]) -> None: ...

    @abstractmethod
    def _update(self, ids: list[Id], vectors: Float[np.ndarray, "n d"]) -> None: ...

    @abstractmethod
    def _search(self, vectors: Float[np.ndarray, "q d"], k: int) -> Found:
        """`k` is at most the count, which is not 0."""


def plain_cell(cell: Any) -> str | list[str] | None:
    """A text, a path or several paths as JSON holds them; None: it is something else."""
    if isinstance(cell, (str, PathLike)):
        return fspath(cell)
    several = isinstance(cell, (list, tuple)) and cell
    if several and all(isinstance(part, (str, PathLike)) for part in cell):
        return [fspath(part) for part in cell]
    return None


def plain_id(given: object, place: int) -> Id:
    """An id as Python's own. CellError: neither text nor a whole number; `place` says which it is."""
    if isinstance(given, str):
        return str(given)
    if isinstance(given, Integral) and not isinstance(given, bool):
        return int(given)
    raise CellError(f"id {place}: an id must be text or a whole number, got {type(given).__name__}")


def plain_ids(ids: Sequence[Id]) -> list[Id]:
    """The ids as Python's own. CellError: neither text nor a whole number, or one stands twice."""
    keys = [plain_id(given, place) for place, given in enumerate(ids)]
    if len(set(keys)) < len(keys):
        seen: set[Id] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))
        raise CellError(f"an id must stand once; {twice!r} stands {keys.count(twice)} times")
    return keys


def unit_vectors(
    vectors: Float[np.ndarray, "n d"], dimension: int, ids: Sequence[Id] | None = None
) -> Float[np.ndarray, "n d"]:
    """The vectors as float32. CellError: another width, not finite, or not of length 1."""
    if vectors.ndim != 2 or vectors.shape[1] != dimension or vectors.dtype.kind != "f":
        raise CellError(
            f"vectors must be floats of shape (n, {dimension}), got {vectors.dtype} of {vectors.shape}"
        )
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    bad = np.flatnonzero(~(np.abs(length - 1) <= UNIT))  # nan is bad too
    if len(bad):
        name = f"vector {bad[0]}" if ids is None else f"the vector of id {ids[bad[0]]!r}"
        raise CellError(
            f"{name} has length {length[bad[0]]:.4g}, {len(bad)} of {len(rows)} are not of length 1: divide "
            "each by its length, and leave out those of zeros or NaN"
        )
    return rows
