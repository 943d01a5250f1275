"""Files in object storage: s3://, gs:// and what else pyarrow opens, credentials as its libraries find them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from multiadapt.errors import SchemaError

__all__ = ["Stored", "is_stored"]


def is_stored(place: object) -> bool:
    """Whether a text names a file in storage."""
    return isinstance(place, str) and "://" in place


@dataclass(frozen=True)
class Stored:
    """A file in storage, as far as a table's file is used."""

    uri: str

    def __str__(self) -> str:
        return self.uri

    @property
    def suffix(self) -> str:
        return PurePosixPath(urlsplit(self.uri).path).suffix

    def is_file(self) -> bool:
        return self._found().type == fs.FileType.File

    def stamp(self) -> str:
        """By which it is known again, unless it is changed within its clock's tick at the same size."""
        found = self._found()
        return f"{self.uri} {found.size} {found.mtime_ns}"

    def open(self) -> pa.NativeFile:
        """For reading, at any place."""
        system, path = self._system()
        with self._reached():
            return system.open_input_file(path)

    def _found(self) -> Any:
        system, path = self._system()
        with self._reached():
            return system.get_file_info(path)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """SchemaError: the storage does not answer, or does not let this caller in."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise SchemaError(
                f"{self.uri} cannot be read: {error}; check the address, the network and the credentials"
            ) from error

    def _system(self) -> tuple[fs.FileSystem, str]:
        try:
            return fs.FileSystem.from_uri(self.uri)
        except (ValueError, OSError, pa.ArrowException) as error:
            raise SchemaError(f"{self.uri}: no storage that pyarrow opens: {error}") from error
