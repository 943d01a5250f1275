"""Rows of one encoder at one cut, in files that are written once and read where they lie."""

import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from multiadapt.cache._rows import TOKENS, checksum, halved, lengths_of, packed, unpacked
from multiadapt.types import Inputs

__all__ = ["ABOUT", "DRAFT", "PART", "Shelf", "discard", "told"]

PART = ".frozen"
"""A name of its own for files of safetensors: what is thrown away must never be somebody's network."""
DRAFT, ABOUT = ".draft", "about.json"
_KEYS, _ITEMS, _CHECKS, _LENGTHS = "#keys", "#items", "#checks", "#lengths"
_BYTES = 16_000_000
"""Size of a file: of many small ones, opening would take longer than computing."""
_TOUCHED = 600
"""Seconds after which a file that is read says again that it is in use."""
_log = logging.getLogger("multiadapt")


@dataclass
class _Part:
    """An open file of rows, mapped into memory."""

    path: Path
    file: Any
    names: tuple[str, ...]
    starts: list[int]
    """Number of the first item of each row, and of all items."""
    checks: list[int]
    lengths: Tensor | None
    """(f,) real tokens of each item."""
    tokens: list[int]
    """Number of the first token of each item, and of all tokens."""
    used: float = 0.0
    """When its file was last told that it is in use."""

    @staticmethod
    def open(path: Path) -> "tuple[_Part, list[bytes]]":
        """With the keys of its rows. SafetensorError, OSError: it is damaged or gone."""
        file: Any = safe_open(path, "pt")
        told = {name: file.get_tensor(name) for name in file.keys() if name.startswith("#")}  # noqa: SIM118
        names = tuple(name for name in file.keys() if not name.startswith("#"))  # noqa: SIM118
        lengths = told.get(_LENGTHS)
        ends = [] if lengths is None else lengths.tolist()
        part = _Part(
            path, file, names, [0, *accumulate(told[_ITEMS].tolist())], told[_CHECKS].tolist(),
            lengths, [0, *accumulate(ends)],
        )  # fmt: skip
        return part, [row.tobytes() for row in told[_KEYS].numpy()]

    def row(self, row: int, cut: int) -> Inputs | None:
        """None: its bytes are not those that were written."""
        if time.time() - self.used > _TOUCHED:
            self.used = time.time()
            with suppress(OSError):  # of a folder that may only be read, or thrown away meanwhile
                os.utime(self.path)
        start, end = self.starts[row], self.starts[row + 1]
        found = {name: self._slice(name, start, end) for name in self.names}
        if checksum(found) != self.checks[row]:
            return None
        length = None if self.lengths is None else self.lengths[start:end]
        return unpacked(found, length, end - start, cut)

    def _slice(self, name: str, start: int, end: int) -> Tensor:
        if name.startswith(TOKENS):
            start, end = self.tokens[start], self.tokens[end]
        return self.file.get_slice(name)[start:end]


class Shelf:
    """Rows of one encoder at one cut, by their keys.

    Files appear whole or not at all, so that several processes may write and read at once; what others
    write is seen by the next that opens the shelf. A row, once there, is the same for every reader.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        take: Callable[[int], bool] | None,
        level: int = logging.WARNING,
    ) -> None:
        """`about` is written beside the files, for people, its "cut" is the rows', with "dtype": "float16"
        they are kept in half precision; `take` tells whether so many bytes more may be kept, None: none are;
        `level` is how loudly it says that it cannot write."""
        self._level = level
        self.folder, self.about, self._take = folder, about, take
        self._half = about.get("dtype") == "float16"
        self.hits, self.refused, self.beyond = 0, 0, 0
        """Rows that were here when they were asked for, that there was no room for, and that hold a number
        beyond half precision."""
        self._rows: dict[bytes, tuple[_Part, int]] = {}
        self._waiting: dict[bytes, Inputs] = {}
        self._waiting_bytes = 0
        for path in sorted(folder.glob(f"*{PART}")):
            self._open(path)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows or key in self._waiting

    def through(
        self,
        keys: Sequence[bytes | None],
        fetch: Callable[[list[int]], Inputs],
        compute: Callable[[Inputs], Inputs],
    ) -> Inputs:
        """What `compute` says of the rows that the keys stand for, on the CPU; only those that are not
        here are fetched, by their positions, and computed.

        What is here counts also where a row has just been computed again: in another batch its last bits
        differ, and a run that is broken off and resumed must not.
        """
        found = self._read_all(keys)
        self.hits += sum(row is not None for row in found)
        lacking = [i for i, row in enumerate(found) if row is None]
        if lacking:
            asked = fetch(lacking)
            if len(lacking) == len(found) and not asked.items:  # no row has any item
                return compute(asked).to(torch.device("cpu"))
            held = np.flatnonzero(asked.count).tolist()
            if held:
                new = compute(asked.select(torch.tensor(held)))
                places = [lacking[i] for i in held]
                self._put(found, places, keys, new.to(torch.device("cpu")))
        some = next(row for row in found if row is not None)
        empty = {name: tensor[:0] for name, tensor in some.tensors.items()}
        nothing = replace(some, tensors=empty, count=torch.tensor([0]))
        return Inputs.join([nothing if row is None else row for row in found])

    def _put(
        self,
        found: list[Inputs | None],
        places: Sequence[int],
        keys: Sequence[bytes | None],
        new: Inputs,
    ) -> None:
        """Rows that have just been computed, kept and put in their places."""
        own = [keys[place] for place in places]
        self.add(own, new)
        for i, (place, key) in enumerate(zip(places, own, strict=True)):
            # Of equal rows the first counts.
            kept = self.read(key) if key and key in own[:i] else None
            found[place] = self._rounded(new.select(torch.tensor([i]))) if kept is None else kept

    def _rounded(self, row: Inputs) -> Inputs:
        """As it would be read back: what a row is must not depend on whether it was kept."""
        half = halved(row) if self._half else None
        return row if half is None else _whole(half)

    def _read_all(self, keys: Sequence[bytes | None]) -> list[Inputs | None]:
        """Again where a file turned out to be damaged: its other rows go with it, and are to be kept anew."""
        while True:
            known = len(self._rows)
            found = [self.read(key) if key else None for key in keys]
            if len(self._rows) == known:
                return found

    def read(self, key: bytes) -> Inputs | None:
        """One row at the cut; None: it is not there, or is damaged and now thrown away."""
        if key not in self._rows:
            waiting = self._waiting.get(key)
            return waiting and _whole(waiting)
        part, row = self._rows[key]
        try:
            found = part.row(row, self.about["cut"])
        except (OSError, SafetensorError):  # another process threw it away, or the disk fails
            found = None
        if found is None:
            self._drop(part)
            return None
        return _whole(found)

    def add(self, keys: Sequence[bytes | None], inputs: Inputs) -> None:
        """Keep those rows that have a key and are not there yet, where there is room.

        They are written together with others, at the latest by `flush`.
        """
        if self._take is None:
            return
        for i, key in enumerate(keys):
            if not key or key in self._rows or key in self._waiting:
                continue
            row = inputs.select(torch.tensor([i]))
            row = halved(row) if self._half else row
            if row is None:
                self.beyond += 1
                continue
            if not self._take(row.nbytes):
                self.refused += 1
                continue
            self._waiting[key] = row
            self._waiting_bytes += row.nbytes
        if self._waiting_bytes >= _BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        if not waiting:
            return
        alone = [packed(row) for row in waiting.values()]
        tensors = {name: torch.cat([row[name] for row in alone]) for name in alone[0]}
        keys = torch.frombuffer(bytearray(b"".join(waiting)), dtype=torch.uint8)
        tensors[_KEYS] = keys.view(len(waiting), -1)
        tensors[_ITEMS] = torch.tensor([row.items for row in waiting.values()])
        tensors[_CHECKS] = torch.tensor([checksum(row) for row in alone])
        lengths = [lengths_of(row) for row in waiting.values()]
        if known := [length for length in lengths if length is not None]:
            tensors[_LENGTHS] = torch.cat(known)
        try:
            self._open(self._written(tensors))
        except (OSError, SafetensorError) as error:  # a full disk is the latter
            _log.log(self._level, "the cache in %s cannot be written: %s", self.folder, error)
            self._take = None

    def _written(self, tensors: dict[str, Tensor]) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{uuid.uuid4().hex}{PART}"
        draft = path.with_suffix(DRAFT)
        try:
            if not (self.folder / ABOUT).exists():
                draft.write_text(json.dumps(self.about, indent=1), encoding="utf-8")
                draft.replace(self.folder / ABOUT)
            save_file({n: t.contiguous() for n, t in tensors.items()}, draft)
            draft.replace(path)
        finally:
            discard(draft)
        return path

    def _open(self, path: Path) -> None:
        try:
            part, keys = _Part.open(path)
        except OSError as error:  # thrown away meanwhile, or a disk that fails for once
            _log.debug("a file of the cache is passed over: %s (%s)", path, error)
            return
        except (SafetensorError, KeyError) as error:
            _log.warning("a damaged file of the cache is thrown away: %s (%s)", path, error)
            discard(path)
            return
        for row, key in enumerate(keys):
            self._rows.setdefault(key, (part, row))

    def _drop(self, part: _Part) -> None:
        self._rows = {key: place for key, place in self._rows.items() if place[0] is not part}
        if part.path.exists():
            _log.warning("a damaged file of the cache is thrown away: %s", part.path)
            discard(part.path)


def _whole(row: Inputs) -> Inputs:
    """In the precision that networks compute in."""
    if not any(t.dtype == torch.float16 for t in row.tensors.values()):
        return row
    tensors = {k: t.float() if t.dtype == torch.float16 else t for k, t in row.tensors.items()}
    return replace(row, tensors=tensors)


def discard(path: Path) -> None:
    """Throw a file away, where that is allowed."""
    with suppress(OSError):
        path.unlink()


def told(folder: Path) -> dict[str, Any]:
    """What a shelf says that it is of; nothing where it does not."""
    try:
        return json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
