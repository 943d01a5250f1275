"""What an index of vectors does, whatever searches it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from multiadapt.errors import ArtifactError, CellError, SpecError

__all__ = ["Found", "Id", "VectorIndex", "plain_ids", "unit_vectors"]

Id: TypeAlias = str | int
UNIT = 1e-2
"""How far a length may be from 1: half precision rounds."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found, best first; a list for each vector that was searched for."""

    ids: list[list[Id]]
    scores: list[Float[np.ndarray, " k"]]
    """Inner products, from -1 to 1."""


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

    def add(self, ids: Sequence[Id], vectors: Float[np.ndarray, "n d"]) -> None:
        """CellError: an id is there already or stands here twice, or a vector is no unit vector."""
        keys = plain_ids(ids)
        rows = self._rows(keys, vectors)
        known = [key for key in keys if key in self]
        if known:
            raise CellError(
                f"{len(known)} of {len(keys)} ids are in the index already, such as {known[0]!r}: use update"
            )
        if keys:
            self._add(keys, rows)

    def remove(self, ids: Sequence[Id]) -> None:
        """CellError: an id is not there."""
        keys = self._known(ids)
        if keys:
            self._remove(keys)

    def update(self, ids: Sequence[Id], vectors: Float[np.ndarray, "n d"]) -> None:
        """Put other vectors in place of those of these ids. CellError: an id is not there."""
        keys = self._known(ids)
        rows = self._rows(keys, vectors)
        if keys:
            self._update(keys, rows)

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


def plain_ids(ids: Sequence[Id]) -> list[Id]:
    """The ids as Python's own. CellError: neither text nor a whole number, or one stands twice."""
    keys: list[Id] = []
    for place, given in enumerate(ids):
        if isinstance(given, str):
            keys.append(str(given))
        elif isinstance(given, Integral) and not isinstance(given, bool):
            keys.append(int(given))
        else:
            raise CellError(
                f"id {place}: an id must be text or a whole number, got {type(given).__name__}"
            )
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
