"""The folder of a saved index: its files, their lengths and checksums, and what made the vectors."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiadapt.errors import ArtifactError
from multiadapt.search._base import Id, Sources, VectorIndex

__all__ = ["IDS", "Manifest", "opened", "read_ids", "read_sources", "replaced", "write_ids"]

FORMAT = 1
"""Bumped when the layout changes; the last one stays readable."""
MANIFEST = "index.json"
IDS = "ids.json"
SOURCES = "sources.json"
"""Only there where the index knows what its vectors were made of."""
BLOCK = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """What index.json says."""

    kind: str
    dimension: int
    count: int
    made_by: str
    options: Mapping[str, Any]
    """What the kind of index needs besides."""


def replaced(
    folder: Path, index: VectorIndex, options: Mapping[str, Any], write: Callable[[Path], None]
) -> None:
    """Let `write` fill a new folder, describe it, and put it in place of the old one at once."""
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as part:
        new, old = Path(part) / "new", Path(part) / "old"
        new.mkdir()
        write(new)
        if index.sources is not None:
            _write_sources(new, index.sources)
        (new / MANIFEST).write_text(
            json.dumps(
                {
                    "format": FORMAT,
                    "kind": index.kind,
                    "dimension": index.dimension,
                    "metric": index.metric,
                    "count": len(index),
                    "made_by": index.made_by,
                    "options": dict(options),
                    "files": _described(new),
                },
                indent=1,
            ),
            encoding="utf-8",
        )
        if folder.exists():
            folder.rename(old)  # a kill between the two leaves both in `part`
        try:
            new.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise


def opened(folder: Path, made_by: str) -> Manifest:
    """Check a saved index. ArtifactError: none, altered, cut short, or of another model."""
    told = _told(folder)
    try:
        found = Manifest(
            kind=str(told["kind"]),
            dimension=int(told["dimension"]),
            count=int(told["count"]),
            made_by=str(told["made_by"]),
            options=dict(told["options"]),
        )
        files = {str(k): (int(v["bytes"]), str(v["sha256"])) for k, v in told["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST} is damaged: {error!r}; build the index again"
        ) from error
    if found.made_by != made_by:
        raise ArtifactError(
            f"{folder} was built by another model or adapter ({_short(found.made_by)}) than this one "
            f"({_short(made_by)}), so its vectors do not compare: build it again with this one, or load the "
            "model that built it"
        )
    for name, (size, digest) in files.items():
        _check_file(folder / name, size, digest)
    return found


def write_ids(folder: Path, ids: Sequence[Id | None]) -> None:
    (folder / IDS).write_text(json.dumps(list(ids)), encoding="utf-8")


def read_ids(folder: Path) -> list[Id | None]:
    return json.loads((folder / IDS).read_text(encoding="utf-8"))


def read_sources(folder: Path) -> Sources | None:
    """What the vectors of an opened index were made of; None: it does not know."""
    if not (folder / SOURCES).is_file():
        return None
    told = json.loads((folder / SOURCES).read_text(encoding="utf-8"))
    cells = {name: name if cell is None else cell for name, cell in told["cells"]}
    return Sources(told["side"], told["root"], cells)


def _write_sources(folder: Path, sources: Sources) -> None:
    """None stands for a cell that is its own id."""
    cells = [[n, None if cell == n else cell] for n, cell in sources.cells.items()]
    told = {"side": sources.side, "root": sources.root, "cells": cells}
    (folder / SOURCES).write_text(json.dumps(told), encoding="utf-8")


def _told(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder} is no saved index: it has no {MANIFEST}")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}; build the index again") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        got = told.get("format") if isinstance(told, dict) else type(told).__name__
        raise ArtifactError(f"{path} has format {got!r}; this version reads {FORMAT}")
    return told


def _described(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": _digest(path),
        }
        for path in files
    }


def _check_file(path: Path, size: int, digest: str) -> None:
    have = path.stat().st_size if path.is_file() else None
    if have is None or have != size:
        state = "is gone" if have is None else f"has {have} bytes of {size}"
        raise ArtifactError(f"{path} {state}: copy the index again, or build it again")
    if _digest(path) != digest:
        raise ArtifactError(
            f"{path} was altered, its checksum is another: copy the index again, or build it again"
        )


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def _check_place(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if folder.is_dir() and (folder / MANIFEST).is_file() and "kind" in _told(folder):
        return
    raise ArtifactError(
        f"{folder} holds something that is no index; name a new folder or that of an earlier index"
    )


def _short(digest: str) -> str:
    return f"{digest[:12]}…" if len(digest) > 12 else digest
