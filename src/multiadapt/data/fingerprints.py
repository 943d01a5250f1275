"""What a cell of files is known by before anything of it is decoded: the bytes of its files."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from multiadapt.data.reading import Reading, files, locate
from multiadapt.errors import CellError
from multiadapt.types import Stream

__all__ = ["Fingerprint", "fingerprints"]

_READ = 1
"""Raised when the same bytes are read as something else than before."""
_READERS = {"image": ("pillow",), "audio": ("soundfile", "scipy"), "video": ("av", "pillow")}
_BYTES = 64_000_000
"""Of a larger file a few frames are sooner decoded than all its bytes are read."""


@dataclass(frozen=True)
class Fingerprint:
    """The key of a cell, and the files that it was made of, as they were then."""

    key: bytes
    seen: tuple[tuple[Path, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(status[0] for _, status in self.seen)

    @property
    def holds(self) -> bool:
        """False where a file has been written since: what was decoded of it may be something else."""
        try:
            return all(_status(path) == status for path, status in self.seen)
        except OSError:
            return False


def fingerprints(
    cells: Iterable[object], stream: Stream, prepared: str, reading: Reading
) -> list[Fingerprint | None]:
    """One for each cell of a stream, whose encoder's way to prepare it is told by `prepared`.

    None: the cell is missing or bad, or holds something else than files, bytes and arrays of numbers.
    """
    readers = [f"{name} {_version(name)}" for name in _READERS.get(stream.modality, ())]
    salt = f"{_READ} {readers}\n{stream.modality} {stream.sampling} {stream.pixels}\n{prepared}\n".encode()
    return [_of_cell(cell, salt, reading, named=stream.modality == "video") for cell in cells]


def _of_cell(cell: object, salt: bytes, reading: Reading, *, named: bool) -> Fingerprint | None:
    told, seen, parts = hashlib.sha256(salt), [], files(cell)
    if not 0 < len(parts) <= reading.max_files:
        return None
    root = Path.cwd() if reading.root is None else reading.root
    try:
        for part in parts:
            if isinstance(part, (str, Path)):
                path = locate(part, root)
                status = _status(path)
                seen.append((path, status))
                told.update(_of_file(path, status[0]))
                # A film's name says whether it is one, and which of its frames are drawn.
                told.update(str(part).encode(errors="surrogatepass") if named else b"")
            else:
                told.update(_of_values(part))
    except (CellError, OSError):
        return None
    return Fingerprint(told.digest(), tuple(seen))


def _of_file(path: Path, size: int) -> bytes:
    """CellError: it is too large to be worth it."""
    if size > _BYTES:
        raise CellError("too large to be read for its digest alone")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _of_values(part: object) -> bytes:
    """CellError: it is neither bytes nor an array of numbers."""
    if isinstance(part, bytes):
        return hashlib.sha256(part).digest()
    if isinstance(part, np.ndarray) and part.dtype.kind in "biufc":
        array: Any = np.ascontiguousarray(part)
        told = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
        told.update(array.data)
        return told.digest()
    raise CellError("nothing that it could be known by")


@cache  # asked for every block of rows, and looked for on the disk
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _status(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
