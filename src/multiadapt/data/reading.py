"""Cells that name files, or hold what files hold, to items; and a report of those that cannot be read."""

import logging
from collections.abc import Callable, Hashable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from multiadapt.data.bad_cells import BadCell, in_order, unreadable_cells
from multiadapt.errors import CellError

__all__ = ["Read", "Reading", "content", "files", "locate"]

LOG = logging.getLogger("multiadapt")
BYTES = 1_000_000_000
"""Largest file: it is read into memory as a whole, by several threads at once."""

Item = TypeVar("Item")
Read: TypeAlias = Callable[[object, Path], Item]
"""From one part of a cell and the folder that relative paths start from; CellError where it cannot."""


class Reading:
    """Reads cells of files in any number of threads and remembers the bad ones.

    Relative paths start from `root`, and no path may leave it; None is the current folder. A cell
    with one bad file, or with more than `max_files`, is missing as a whole; `finish` then raises one
    error about all of them or, with on_error="missing", logs them, or hands them to `take`.
    """

    def __init__(
        self,
        root: Path | None,
        max_files: int = 8,
        on_error: Literal["raise", "missing"] = "raise",
        take: Callable[[list[BadCell]], None] | None = None,
    ) -> None:
        self.root = root
        self.max_files = max_files
        self.on_error = on_error
        self.take = take
        self._bad: dict[tuple[int, str, str], BadCell] = {}

    @property
    def bad(self) -> list[BadCell]:
        """The bad cells since the last `finish`, each once however often it was read."""
        return list(self._bad.values())

    def items(
        self,
        cells: pd.Series,
        read: Read[Item],
        positions: Sequence[int] | np.ndarray | None = None,
    ) -> list[list[Item]]:
        """One list of items per cell, in order; [] where the cell is missing or bad.

        `positions` tells where each cell stands in the caller's table, for the report.
        """
        column = str(cells.name)
        places = range(len(cells)) if positions is None else positions
        rows = zip(cells.index, cells, places, strict=True)
        return [self._cell(value, (label, int(at), column), read) for label, value, at in rows]

    def _cell(
        self, value: object, place: tuple[Hashable, int, str], read: Read[Item]
    ) -> list[Item]:
        parts, root = files(value), Path.cwd() if self.root is None else self.root
        if len(parts) > self.max_files:
            reason = (
                f"a cell may hold at most {self.max_files} files, got {len(parts)}: shorten it or "
                "raise max_files"
            )
            self.note(BadCell(*place, _shown(value), reason))
            return []
        found: list[Item] = []
        for part in parts:
            try:
                found.append(read(part, root))
            except CellError as error:
                self.note(BadCell(*place, _shown(part), str(error)))
                return []
        return found

    def note(self, cell: BadCell) -> None:
        """Remember a bad cell until `finish`."""
        self._bad[cell.position, cell.column, cell.value] = cell  # atomic, so safe in threads

    def finish(self) -> None:
        """Report the bad cells, if any, and forget them. CellError where `on_error` is "raise"."""
        bad, self._bad = in_order(self.bad), {}
        if not bad:
            return
        if self.on_error == "missing" and self.take is not None:
            self.take(bad)
            return
        lines = unreadable_cells(iter(bad), len(bad))
        if self.on_error == "missing":
            LOG.warning("%d unreadable cells are taken as missing:\n%s", len(bad), lines)
            return
        raise CellError(
            f"every cell of files must be readable or missing; {len(bad)} are neither:\n{lines}\n"
            'Repair or empty these cells, or pass on_error="missing"'
        )


def files(value: object) -> list[object]:
    """The files of a cell: the items of a list, or of text between semicolons; [] where missing.

    Numbers are one item: an array of them, or a tuple of such an array and a rate.
    """
    if isinstance(value, str):
        return [part.strip() for part in value.split(";") if part.strip()]
    several = isinstance(value, (list, tuple)) and not _with_rate(value)
    if several or (
        isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind not in "biufc"
    ):
        return [part for part in value if not _missing(part)]  # type: ignore[attr-defined]
    return [] if _missing(value) else [value]


def _with_rate(value: list[object] | tuple[object, ...]) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2
    return pair and isinstance(value[0], np.ndarray) and isinstance(value[1], Integral)


def _missing(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, np.ndarray):  # an empty array of one part is no item either
        return value.ndim == 1 and len(value) == 0
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _shown(part: object) -> str:
    return repr(str(part)[:200]) if isinstance(part, (str, Path)) else f"<{type(part).__name__}>"


def locate(part: str | Path, root: Path, *, folder: bool = False) -> Path:
    """The file that a cell names, or with `folder` the folder. CellError: it leaves the root, or there
    is none."""
    home = root.resolve()
    try:
        path = (home / part).resolve()
        if not path.is_relative_to(home):
            raise CellError(f"the path leads out of {home}: pass root= with a folder that holds it")
        if path.is_file() or (folder and path.is_dir()):
            return path
        a_clip = "a folder, as cells of kind video may be,"
        what = a_clip if path.is_dir() else "no such file"
    except CellError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a loop of links
        what = f"no file name: {error}"
    raise CellError(
        f"{what} in {home}: correct the path, or pass root= with the folder it is relative to"
    )


def content(part: str | Path | bytes, root: Path) -> bytes:
    """The bytes of a file, which must be some and not too many."""
    try:
        held = part if isinstance(part, bytes) else _bytes(locate(part, root))
    except OSError as error:
        raise CellError(f"the file cannot be read: {error}") from error
    if not held:
        raise CellError("the file is empty (0 bytes)")
    return held


def _bytes(path: Path) -> bytes:
    if (size := path.stat().st_size) > BYTES:
        raise CellError(f"the file has {size} bytes, more than {BYTES}: make it smaller")
    return path.read_bytes()
