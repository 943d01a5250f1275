"""LanceDB: vectors in files of columns on disk, for more than memory holds; https://lancedb.com.

A saved index is read where it lies, so do not replace it while it is open elsewhere. At the first change it
is linked or copied to a folder of its own, and `save` puts it in order and brings it to the named one.
Vectors that no list holds yet are all compared, and from 50,000 of them on lists are made before the
next search.
"""

import datetime
import importlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from multiadapt.errors import ExtraError, SpecError
from multiadapt.search._base import Found, Id, VectorIndex
from multiadapt.search._folder import Manifest, read_ids, replaced, write_ids
from multiadapt.search._names import Names

__all__ = ["LanceIndex"]

TABLE = "vectors"
FOLDER = f"{TABLE}.lance"
LOOSE = 50_000
"""Vectors in no list from which on lists are made."""
WRITTEN_ONCE = (".lance", ".idx")
"""Large files that LanceDB never changes; links to them are safe."""


class LanceIndex(VectorIndex):
    """`effort` is how many lists a search looks through; None is an eighth of them."""

    kind = "lance"

    def __init__(self, dimension: int, made_by: str, *, effort: int | None = None) -> None:
        if effort is not None and effort < 1:
            raise SpecError(f"effort must be at least 1, got {effort}")
        self._lancedb = _lancedb()
        self.dimension = dimension
        self.made_by = made_by
        self.effort = effort
        self._names = Names()
        self._home: Path | None = None
        """The folder of the table."""
        self._ours = False
        """Whether nobody else reads from it."""
        self._table: Any = None
        self._lists = 0

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> "LanceIndex":
        found = cls(manifest.dimension, manifest.made_by, effort=manifest.options["effort"])
        found._names = Names(read_ids(folder))
        found._lists = manifest.options["lists"]
        if manifest.count:
            found._home = folder.resolve()
            found._table = found._lancedb.connect(found._home).open_table(TABLE)
        return found

    @property
    def ids(self) -> Sequence[Id]:
        return self._names.ids

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def save(self, folder: str | Path) -> None:
        home = self._own()
        if len(self):
            self._keep_lists()
            # 0 would warn of other processes; there are none.
            self._table.optimize(cleanup_older_than=datetime.timedelta(milliseconds=1))
        options = {"effort": self.effort, "lists": self._lists}
        replaced(Path(folder), self, options, lambda place: self._write(home, place))

    def _write(self, home: Path, folder: Path) -> None:
        if len(self):
            _put(home / FOLDER, folder / FOLDER)
        write_ids(folder, self._names.all if len(self) else [])

    def _own(self) -> Path:
        """A folder that may be changed."""
        if self._ours and self._home is not None:
            return self._home
        home = Path(tempfile.mkdtemp(prefix="multiadapt-index-"))
        weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
        if self._home is not None:
            _put(self._home / FOLDER, home / FOLDER)
            self._table = self._lancedb.connect(home).open_table(TABLE)
        self._home, self._ours = home, True
        return home

    def _add(self, ids: list[Id], vectors: Float[np.ndarray, "n d"]) -> None:
        home = self._own()
        rows = _rows(self._names.add(ids), vectors)
        if self._table is None:
            self._table = self._lancedb.connect(home).create_table(TABLE, rows)
        else:
            self._table.add(rows)

    def _remove(self, ids: list[Id]) -> None:
        self._own()
        places = self._names.remove(ids).tolist()
        for start in range(0, len(places), 1000):
            chosen = ", ".join(map(str, places[start : start + 1000]))
            self._table.delete(f"place IN ({chosen})")

    def _update(self, ids: list[Id], vectors: Float[np.ndarray, "n d"]) -> None:
        self._own()
        rows = _rows(self._names.places(ids), vectors)
        self._table.merge_insert("place").when_matched_update_all().execute(rows)

    def _search(self, vectors: Float[np.ndarray, "q d"], k: int) -> Found:
        self._keep_lists()
        near, scores = zip(*(self._nearest(vector, k) for vector in vectors), strict=True)
        return Found(list(near), list(scores))

    def _nearest(
        self, vector: Float[np.ndarray, " d"], k: int
    ) -> tuple[list[Id], Float[np.ndarray, " k"]]:
        asked = self._table.search(vector).distance_type("dot").limit(k)
        asked = asked.select(["place", "_distance"])
        if self._lists:
            asked = asked.nprobes(min(self.effort or max(1, self._lists // 8), self._lists))
        found = asked.to_arrow()
        if len(found) < k:  # what was looked through holds fewer
            found = asked.nprobes(self._lists).to_arrow()
        places, apart = (found[name].to_numpy() for name in ("place", "_distance"))
        order = np.lexsort((places, apart))  # of equal ones the first added
        return self._names.at(places[order].tolist()), (1 - apart[order]).astype(np.float32)

    def _keep_lists(self) -> None:
        """Make lists where many vectors are in none; some are cheaper to compare."""
        held = self._table.index_stats(f"{TABLE[:-1]}_idx") if self._lists else None
        loose = len(self) if held is None else held.num_unindexed_rows
        if loose < LOOSE:
            return
        self._own()
        self._lists = max(1, int(np.sqrt(len(self))))
        config = importlib.import_module("lancedb.index").IvfFlat
        self._table.create_index(
            "vector", config=config(distance_type="dot", num_partitions=self._lists)
        )


def _rows(places: Int[np.ndarray, " n"], vectors: Float[np.ndarray, "n d"]) -> pa.Table:
    flat = pa.array(vectors.reshape(-1))
    return pa.table({
        "place": pa.array(places),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    })  # fmt: skip


def _put(source: Path, target: Path) -> None:
    """Link the large files, copy the others."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            if path.suffix in WRITTEN_ONCE:
                os.link(path, place)
                continue
        except OSError:  # another file system, or one without links
            pass
        shutil.copy2(path, place)


def _lancedb() -> ModuleType:
    try:
        return importlib.import_module("lancedb")
    except ImportError as error:
        raise ExtraError(
            "an index of kind lance needs LanceDB: pip install multiadapt[search]; the exact one needs "
            "nothing"
        ) from error
