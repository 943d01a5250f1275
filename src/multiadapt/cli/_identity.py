"""What a run over a table depends on, by which one that was broken off is known again."""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from multiadapt.data.storage import Stored
from multiadapt.folders import digest

__all__ = ["identity"]

_LIBRARIES = ("multiadapt", "torch", "transformers", "pandas", "numpy", "pillow", "tokenizers")


def identity(model: Path, table: Path | str, options: Mapping[str, Any]) -> dict[str, str]:
    """By what each part of it is called.

    The table is known by path, size and time of its last change, as reading it all would take as long as
    using it; files that an option names, such as a mask, likewise. Files that cells name are not looked at.
    """
    files = {k: v for k, v in options.items() if isinstance(v, Path) and v.is_file()}
    return {
        "the model": digest(model),
        "the table": _stamp(table),
        **{f"the {name}": _stamp(path) for name, path in files.items()},
        **{_option(n): _told(v) for n, v in options.items() if n not in files},
        "the version": " ".join(f"{n} {metadata.version(n)}" for n in _LIBRARIES),
    }


def _stamp(path: Path | str) -> str:
    """Of no file nothing: reading it says that there is none."""
    if isinstance(path, str):
        return Stored(path).stamp()
    if not path.is_file():
        return ""
    found = path.resolve().stat()
    return f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _told(value: Any) -> str:
    return str(value.resolve()) if isinstance(value, Path) else json.dumps(value, sort_keys=True)
