"""Files of a downloaded copy: all there, or one error that says what is not and what to do."""

import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from multiadapt.data.bad_cells import BadCell, listing
from multiadapt.data.reading import files
from multiadapt.errors import CellError, SchemaError, SpecError

__all__ = [
    "OnError",
    "checked",
    "entries",
    "frames_in",
    "home",
    "in_one_split",
    "lines",
    "opened_json",
    "refuse",
    "split_lists",
    "tell",
    "why_unusable",
]

LOG = logging.getLogger("multiadapt")

OnError: TypeAlias = Literal["raise", "missing"]
"""What a file that is not there is: an error, or a missing cell and a line in the log."""

POINTER = b"version https://git-lfs"
"""What a file of a repository starts with that was fetched without Git's large files."""
PLAIN = re.compile(r"(?!\.)[^/\\;]+")
PICTURES = (".jpg", ".jpeg", ".png")


def home(folder: str | Path, needed: Mapping[str, str], advice: str) -> Path:
    """The folder, which must hold these entries. SchemaError: what must be there, what is, what to do."""
    path = Path(folder).expanduser()
    lacking = [name for name in needed if not (path / name).exists()]
    if path.is_dir() and not lacking:
        return path
    must = "; ".join(f"{name} ({what})" for name, what in needed.items())
    there = sorted(p.name for p in path.iterdir())[:20] if path.is_dir() else None
    state = "it is no folder" if there is None else f"{lacking} are not there, it holds {there}"
    raise SchemaError(f"{path}: a copy must hold {must}; {state}. {advice}")


def opened_json(path: Path) -> Any:
    """SchemaError: not there, or cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path}: not a whole JSON file: {error}; fetch it again") from error


def lines(path: Path) -> list[str]:
    """The lines that are not blank, without their ends."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path}: not a readable list: {error}; fetch it again") from error
    return [line for line in text.splitlines() if line.strip()]


def split_lists(path: Path) -> dict[str, list[str]]:
    """The lists of a split.json under the names train, val and test. SchemaError: it holds others."""
    held = opened_json(path)
    lists = isinstance(held, dict) and all(
        isinstance(ids, list) and all(isinstance(name, str) for name in ids)
        for ids in held.values()
    )
    if not (lists and {"train", "test"} <= set(held) <= {"train", "dev", "val", "test"}):
        raise SchemaError(
            f"{path}: it must hold lists of names under train, dev (or val) and test, got "
            f"{list(held) if isinstance(held, dict) else type(held).__name__}: fetch it again"
        )
    return {"val" if mark == "dev" else mark: names for mark, names in held.items()}


def in_one_split(path: Path, splits: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Each name and its split, in order. SchemaError: a name stands in two places."""
    found: dict[str, str] = {}
    for mark, names in splits.items():
        for name in names:
            if not PLAIN.fullmatch(name):
                raise SchemaError(
                    f"{path}: a name must be that of a file, without folders and semicolons, got {name!r} in "
                    f"{mark!r}: repair the lists or fetch them again"
                )
            if name in found:
                raise SchemaError(
                    f"{path}: a name must stand in one split once; {name!r} stands in {found[name]!r} "
                    f"and again in {mark!r}: repair the lists or fetch them again"
                )
            found[name] = mark
    return found


def why_unusable(path: Path) -> str | None:
    """Why a file of a copy is not a file of the data set; None where it is one."""
    if not path.is_file():
        return "no such file"
    size = path.stat().st_size
    if size == 0:
        return "0 bytes"
    if size < 1000:
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                return "a pointer of git-lfs, not the file: run `git lfs pull`"
    return None


def checked(
    frame: pd.DataFrame, columns: Collection[str], root: Path, on_error: OnError
) -> pd.DataFrame:
    """The table, every file cell of which names files that are there; or is empty, if that is asked."""
    bad: list[BadCell] = []
    for column in columns:
        for position, (label, cell) in enumerate(frame[column].items()):
            for part in files(cell):
                if why := why_unusable(root / str(part)):
                    bad.append(BadCell(label, position, column, str(part), why))
                    break
    if not bad:
        return frame
    tell(bad, int(frame[list(columns)].notna().to_numpy().sum()), root, on_error)
    frame = frame.copy()
    for column in columns:
        at = [b.position for b in bad if b.column == column]
        frame.iloc[at, frame.columns.get_loc(column)] = None  # type: ignore[index]
    return frame


def tell(bad: Collection[BadCell], of: int, root: Path, on_error: OnError) -> None:
    """CellError about files that are not there, or a line in the log with on_error="missing"."""
    report = f"{len(bad)} of {of} files:\n{listing(bad, lambda b: f'{b.value}: {b.reason}')}"
    if on_error == "missing":
        LOG.warning("%s: taken as missing, %s", root, report)
        return
    raise CellError(
        f"{root}: every file that the lists name must be there; not so {report}\n"
        'Fetch them, or pass on_error="missing" to go without'
    )


def refuse(bad: Collection[BadCell], of: int, root: Path, what: str) -> None:
    """CellError where anything is bad that no row can do without."""
    if bad:
        rest = listing(bad, lambda b: f"{b.value}: {b.reason}")
        raise CellError(f"{root}: {what}; {len(bad)} of {of} do not:\n{rest}\nFetch or repair them")


def frames_in(folder: Path, root: Path, at_most: int) -> str | None:
    """The pictures in a folder, evenly chosen in the order of their names, as one cell; None: none."""
    if at_most < 1:
        raise SpecError(f"frames must be at least 1, got {at_most}")
    found = entries(folder, PICTURES)
    if not found:
        return None
    n = min(at_most, len(found))
    chosen = (found[(2 * i + 1) * len(found) // (2 * n)] for i in range(n))
    return ";".join(path.relative_to(root).as_posix() for path in chosen)


def entries(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of these kinds in a folder, by name, hidden ones aside; [] where there is no folder."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))
