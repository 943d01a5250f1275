"""FAISS: graphs (HNSW) or lists (IVF) of the vectors themselves, in memory, searched in part.

Johnson et al., "Billion-scale similarity search with GPUs", https://arxiv.org/abs/1702.08734, and
https://faiss.ai. What is removed is left out of searches, and taken out when it is a fifth of all;
the lists are made anew when there are four times the vectors they were made for.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from multiadapt.errors import ExtraError, SpecError
from multiadapt.search._base import Found, Id, VectorIndex
from multiadapt.search._folder import Manifest, read_ids, replaced, write_ids
from multiadapt.search._names import Names

__all__ = ["FaissIndex"]

FILE = "index.faiss"
LINKS = 32
"""Neighbours of a vector in the graph."""
EFFORT = 64
"""Candidates that a search of the graph keeps, unless told."""


class FaissIndex(VectorIndex):
    """`kind` is hnsw (a graph) or ivf (lists). `effort` is how many candidates a search of the graph keeps
    (None: 64), or how many lists it looks through (None: an eighth of them)."""

    def __init__(
        self,
        dimension: int,
        made_by: str,
        *,
        kind: str = "hnsw",
        effort: int | None = None,
    ) -> None:
        if kind not in ("hnsw", "ivf"):
            raise SpecError(f"kind must be hnsw or ivf, got {kind!r}")
        if effort is not None and effort < 1:
            raise SpecError(f"effort must be at least 1, got {effort}")
        self._faiss = _faiss()
        self.kind = kind
        self.dimension = dimension
        self.made_by = made_by
        self.effort = effort
        self._names = Names()
        self._index: Any = None
        self._made_for = 0
        self._without: dict[str, Any] | None = None
        """Leaves removed vectors out of a search; None where it must be made."""

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> "FaissIndex":
        effort = manifest.options["effort"]
        found = cls(manifest.dimension, manifest.made_by, kind=manifest.kind, effort=effort)
        found._names = Names(read_ids(folder))
        found._made_for = manifest.options["made_for"]
        if manifest.count:
            found._index = found._faiss.read_index(str(folder / FILE))
        return found

    @property
    def ids(self) -> Sequence[Id]:
        return self._names.ids

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def save(self, folder: str | Path) -> None:
        options = {"effort": self.effort, "made_for": self._made_for}
        replaced(Path(folder), self, options, self._write)

    def _write(self, folder: Path) -> None:
        if len(self):
            self._faiss.write_index(self._index, str(folder / FILE))
        write_ids(folder, self._names.all if len(self) else [])

    def _add(self, ids: list[Id], vectors: Float[np.ndarray, "n d"]) -> None:
        if self._index is None:
            self._index = self._made(vectors)
        self._names.add(ids)
        self._index.add(vectors)
        if self.kind == "ivf" and len(self) > 4 * self._made_for:
            self._renew()

    def _remove(self, ids: list[Id]) -> None:
        self._names.remove(ids)
        self._without = None
        if 5 * self._names.removed > len(self._names.all):
            self._renew()

    def _update(self, ids: list[Id], vectors: Float[np.ndarray, "n d"]) -> None:
        self._remove(ids)
        self._add(ids, vectors)

    def _renew(self) -> None:
        kept = self._index.reconstruct_n(0, self._index.ntotal)[self._names.alive()]
        self._names = Names(self._names.ids)
        self._without = None
        self._index = self._made(kept) if len(kept) else None
        if len(kept):
            self._index.add(kept)

    def _made(self, vectors: Float[np.ndarray, "n d"]) -> Any:
        """An empty index, made for vectors such as these."""
        inner = self._faiss.METRIC_INNER_PRODUCT
        self._made_for = len(vectors)
        if self.kind == "hnsw":
            return self._faiss.IndexHNSWFlat(self.dimension, LINKS, inner)
        lists = max(1, min(int(4 * np.sqrt(len(vectors))), len(vectors) // 39))  # FAISS asks for 39
        flat = self._faiss.IndexFlatIP(self.dimension)
        index = self._faiss.IndexIVFFlat(flat, self.dimension, lists, inner)
        index.train(vectors)
        return index

    def _search(self, vectors: Float[np.ndarray, "q d"], k: int) -> Found:
        without = self._selector()
        scores, places = self._index.search(vectors, k, params=self._depth(k, without))
        short = np.flatnonzero((places < 0).any(1))
        if len(short):  # what was looked through holds fewer than k
            scores[short], places[short] = self._everywhere(vectors[short], k, without)
        return Found([self._names.at(row) for row in places.tolist()], list(scores))

    def _selector(self) -> dict[str, Any]:
        if self._without is None:
            dead = np.flatnonzero(~self._names.alive())
            batch = self._faiss.IDSelectorBatch(dead)
            self._without = {"sel": self._faiss.IDSelectorNot(batch)} if len(dead) else {}
        return self._without

    def _depth(self, k: int, without: dict[str, Any]) -> Any:
        if self.kind == "hnsw":
            breadth = max(self.effort or EFFORT, 2 * k)
            return self._faiss.SearchParametersHNSW(efSearch=breadth, **without)
        lists = min(self.effort or max(1, self._index.nlist // 8), self._index.nlist)
        return self._faiss.SearchParametersIVF(nprobe=lists, **without)

    def _everywhere(
        self, vectors: Float[np.ndarray, "q d"], k: int, without: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.kind == "hnsw":
            flat = self._faiss.downcast_index(self._index.storage)
            return flat.search(vectors, k, params=self._faiss.SearchParameters(**without))
        every = self._faiss.SearchParametersIVF(nprobe=self._index.nlist, **without)
        return self._index.search(vectors, k, params=every)


def _faiss() -> ModuleType:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ExtraError(
            "an index of kind hnsw or ivf needs FAISS: pip install multiadapt[search]; the exact one "
            "needs nothing"
        ) from error
