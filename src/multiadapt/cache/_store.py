"""A folder of shelves, with a limit to its size."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from multiadapt.cache._shelf import ABOUT, DRAFT, PART, Shelf, discard, told
from multiadapt.errors import SpecError

__all__ = ["Store"]

_PLACE, _LIMIT = "MULTIADAPT_CACHE", "MULTIADAPT_CACHE_GB"
_DTYPE, _DTYPES = "MULTIADAPT_CACHE_DTYPE", ("float32", "float16")
_GIGABYTES = 10.0
_RECENT = 3600
"""Seconds for which a file that was used is safe: a run that still goes on may want it."""
_AGAIN = 64_000_000
"""Bytes after which the folder is looked at again."""
_FULL, _EASED = 0.9, 0.5
"""From which share of the limit on files are thrown away, and down to which."""


@dataclass
class Store:
    """Frozen computation in a folder, kept from run to run; the least recently used goes first."""

    folder: Path
    limit: int
    """Bytes. Nothing is kept beyond them; what was kept is not thrown away for it while a run goes on."""
    dtype: str = "float32"
    """float16: rows take half the room, rounded to 11 bits."""
    _held: int | None = field(default=None, init=False)
    """Bytes; None until something is to be kept, for most tables are only read."""
    _added: int = field(default=0, init=False)
    """Of them, what was taken since the folder was last looked at."""

    @staticmethod
    def usual() -> "Store | None":
        """Where the environment says: MULTIADAPT_CACHE is a folder, or "off"; MULTIADAPT_CACHE_GB its limit.

        Default: multiadapt in the user's folder of caches, 10 GB. MULTIADAPT_CACHE_DTYPE is the precision of
        rows, float32 or float16. None: nothing is kept.
        """
        limit, dtype = _gigabytes(), os.environ.get(_DTYPE) or _DTYPES[0]
        if dtype not in _DTYPES:
            raise SpecError(f"{_DTYPE} must be one of {_DTYPES}, got {dtype!r}")
        place = os.environ.get(_PLACE, "")
        if place == "off" or limit == 0:
            return None
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Store(Path(place or Path(home, "multiadapt")), int(limit * 1e9), dtype)

    def shelf(self, about: Mapping[str, str | int]) -> Shelf:
        """That of one encoder at one cut, which `about` tells from all others."""
        return Shelf(*self._place(about), self.take)

    def glance(self, about: Mapping[str, str | int], files: int, *, writes: bool) -> Shelf | None:
        """The same, to be read and without `writes` not to be added to; None: it has more than so many files,
        which are opened one by one."""
        folder, about = self._place(about)
        if sum(1 for _ in folder.glob(f"*{PART}")) > files:
            return None
        return Shelf(folder, about, self.take if writes else None, logging.DEBUG)

    def _place(self, about: Mapping[str, str | int]) -> tuple[Path, Mapping[str, str | int]]:
        about = {**about, "dtype": self.dtype}
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / name, about

    def take(self, size: int) -> bool:
        """Whether so many bytes more may be kept; they count then. The first call makes room."""
        if self._held is None:
            self._held = self._eased()
        if self._added > _AGAIN:  # others write too
            self._held, self._added = sum(held for _, held, _ in self._parts()), 0
        if self._held + size > self.limit:
            return False
        self._held += size
        self._added += size
        return True

    def clear(self) -> int:
        """Throw away what is held, and nothing else that lies in the folder; the bytes that were held."""
        parts = self._parts()
        for folder in {path.parent for path, _, _ in parts}:
            for own in (*folder.glob(f"*{PART}"), *folder.glob(f"*{DRAFT}"), folder / ABOUT):
                discard(own)
            with suppress(OSError):  # something of somebody else's is in it
                folder.rmdir()
        self._held = None
        return sum(size for _, size, _ in parts)

    def contents(self) -> list[dict[str, str | int | float]]:
        """What each shelf is of, its rows and bytes, and the seconds since it was used."""
        shelves: dict[Path, list[tuple[Path, int, float]]] = {}
        for part in self._parts():
            shelves.setdefault(part[0].parent, []).append(part)
        return [
            {
                **told(folder),
                "rows": Shelf(folder, {}, self.take).rows,
                "bytes": sum(size for _, size, _ in parts),
                "idle": time.time() - max(used for _, _, used in parts),
            }
            for folder, parts in sorted(shelves.items())
        ]

    def _parts(self) -> list[tuple[Path, int, float]]:
        """Files with their sizes and when they were last used."""
        found: list[tuple[Path, int, float]] = []
        for path in self.folder.glob(f"*/*{PART}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # thrown away by another process
                continue
            found.append((path, status.st_size, status.st_mtime))
        return found

    def _eased(self) -> int:
        """Make room for a new run where the store is nearly full; the bytes that it holds then."""
        parts = sorted(self._parts(), key=lambda part: part[2])
        held = sum(size for _, size, _ in parts)
        if held <= _FULL * self.limit:
            return held
        for path, size, used in parts:
            if held <= _EASED * self.limit or time.time() - used < _RECENT:
                break
            discard(path)
            held -= size
        return held


def _gigabytes() -> float:
    given = os.environ.get(_LIMIT, "")
    try:
        found = float(given or _GIGABYTES)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise SpecError(f"{_LIMIT} must be a number of gigabytes, at least 0, got {given!r}")
    return found
