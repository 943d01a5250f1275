"""Every vector is compared: the reference, and fast enough for some hundred thousand.

A saved index is mapped into memory, not read: what is searched is what the system keeps of the file.
Changed rows are copied as they change, and `save` writes all of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from multiadapt.errors import SpecError
from multiadapt.search._base import Found, Id, VectorIndex
from multiadapt.search._folder import Manifest, read_ids, replaced, write_ids
from multiadapt.search._names import Names

__all__ = ["ExactIndex"]

VECTORS = "vectors.npy"
BLOCK = 16_384
"""Rows that are compared at once."""
PARTS = 64
"""Most additions that are kept apart."""


class ExactIndex(VectorIndex):
    """Unit vectors as rows of float32, or of float16 at half the size."""

    kind = "exact"

    def __init__(self, dimension: int, made_by: str, *, dtype: str = "float32") -> None:
        if dtype not in ("float32", "float16"):
            raise SpecError(f"dtype must be float32 or float16, got {dtype!r}")
        self.dimension = dimension
        self.made_by = made_by
        self.dtype = np.dtype(dtype)
        self._parts: list[np.ndarray] = []
        self._alive: Bool[np.ndarray, " n"] = np.zeros(0, bool)
        self._names = Names()

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> "ExactIndex":
        found = cls(manifest.dimension, manifest.made_by, dtype=manifest.options["dtype"])
        found._names = Names(read_ids(folder))
        found._alive = found._names.alive()
        if manifest.count:
            found._parts.append(np.load(folder / VECTORS, mmap_mode="c"))  # c: changes stay here
        return found

    @property
    def ids(self) -> Sequence[Id]:
        return self._names.ids

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def save(self, folder: str | Path) -> None:
        replaced(Path(folder), self, {"dtype": self.dtype.name}, self._write)

    def _write(self, folder: Path) -> None:
        if len(self):  # an empty file cannot be mapped
            shape = (len(self), self.dimension)
            rows = np.lib.format.open_memmap(folder / VECTORS, "w+", self.dtype, shape)
            filled = 0
            for part in self._kept():
                rows[filled : filled + len(part)] = part
                filled += len(part)
            rows.flush()
        write_ids(folder, self._names.ids)

    def _kept(self) -> Iterator[np.ndarray]:
        for start, part in self._blocks():
            yield part[self._alive[start : start + len(part)]]

    def _add(self, ids: list[Id], vectors: Float[np.ndarray, "n d"]) -> None:
        self._parts.append(vectors.astype(self.dtype))
        self._names.add(ids)
        self._alive = np.concatenate([self._alive, np.ones(len(ids), bool)])
        if len(self._parts) > PARTS:
            self._parts[1:] = [np.concatenate(self._parts[1:])]

    def _remove(self, ids: list[Id]) -> None:
        self._alive[self._names.remove(ids)] = False
        if 2 * self._names.removed > len(self._alive):
            self._parts = [np.concatenate(list(self._kept()))]
            self._names = Names(self._names.ids)
            self._alive = self._names.alive()

    def _update(self, ids: list[Id], vectors: Float[np.ndarray, "n d"]) -> None:
        places, start = self._names.places(ids), 0
        for part in self._parts:
            here = (places >= start) & (places < start + len(part))
            part[places[here] - start] = vectors[here]
            start += len(part)

    def _search(self, vectors: Float[np.ndarray, "q d"], k: int) -> Found:
        scores = np.full((len(vectors), 0), -np.inf, np.float32)
        places = np.zeros((len(vectors), 0), np.int64)
        for start, part in self._blocks():
            near = vectors @ _single(part).T
            if self._names.removed:
                near[:, ~self._alive[start : start + len(part)]] = -np.inf
            scores, places = _best(scores, places, near, start, k)
        return Found([self._names.at(row) for row in places.tolist()], list(scores))

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows, in order, with the position of the first."""
        start = 0
        for part in self._parts:
            for row in range(0, len(part), BLOCK):
                yield start + row, part[row : row + BLOCK]
            start += len(part)


def _single(part: np.ndarray) -> Float[np.ndarray, "b d"]:
    """As float32; torch widens half precision ten times faster than numpy."""
    return part if part.dtype == np.float32 else torch.from_numpy(part).float().numpy()


def _best(
    scores: Float[np.ndarray, "q m"],
    places: np.ndarray,
    near: Float[np.ndarray, "q b"],
    start: int,
    k: int,
) -> tuple[Float[np.ndarray, "q n"], np.ndarray]:
    """The k best of what was found and a block, best first; of equal ones the first added."""
    worst = scores[:, -1] if scores.shape[1] == k else np.full(len(near), -np.inf, np.float32)
    if near.shape[1] > k:  # what is below the k-th best of its own block is out
        own = np.partition(near, -k, axis=1)[:, -k]
        keep = (near > worst[:, None]) & (near >= own[:, None])
    else:
        keep = near > worst[:, None]
    if not keep.any():
        return scores, places
    width = min(k, scores.shape[1] + int(keep.sum(1).max()))
    new_scores = np.full((len(near), width), -np.inf, np.float32)
    new_places = np.full((len(near), width), -1)
    for row, kept in enumerate(keep):
        held = places[row] >= 0
        found = np.flatnonzero(kept)
        both = np.concatenate([scores[row][held], near[row, found]])
        where = np.concatenate([places[row][held], start + found])
        order = np.argsort(-both, kind="stable")[:width]
        new_scores[row, : len(order)] = both[order]
        new_places[row, : len(order)] = where[order]
    return new_scores, new_places
