"""Pictures or clips with several texts each, to a table with a row for each text."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from multiadapt.data.bad_cells import BadCell
from multiadapt.datasets._files import OnError, checked, entries, refuse
from multiadapt.errors import SchemaError

__all__ = ["film_of", "listed", "one_row_a_text"]

FILM_FOLDERS = ("videos/all", "videos", "video", "MSRVTT_Videos", "TrainValVideo", "TestVideo", ".")
FILMS = (".mp4", ".avi", ".mkv", ".mov", ".webm")


def listed(held: Any, path: Path, fields: Sequence[str], name: str | None = None) -> list[dict]:
    """The entries of a list in a JSON file, each with these fields. SchemaError: otherwise."""
    found = held.get(name) if name is not None and isinstance(held, dict) else held
    if not isinstance(found, list):
        where = "it" if name is None else f"{name!r} in it"
        raise SchemaError(f"{path}: {where} must be a list, got {type(found).__name__}")
    wrong = [e for e in found if not (isinstance(e, dict) and all(f in e for f in fields))]
    if wrong:
        raise SchemaError(
            f"{path}: every entry must have {', '.join(fields)}; {len(wrong)} of {len(found)} have not, for "
            f"example {str(wrong[0])[:200]}: fetch it again"
        )
    return found


def one_row_a_text(
    items: pd.DataFrame,
    texts: str,
    columns: Sequence[str],
    root: Path,
    on_error: OnError,
) -> pd.DataFrame:
    """A row for each text of each item, after its files were looked for once.

    `texts` holds a list of texts in every row of `items`. CellError: an item without text, or a blank one.
    """
    blank = [
        BadCell(label, position, texts, str(cell)[:100], f"no {texts}, or a blank one")
        for position, (label, cell) in enumerate(items[texts].items())
        if not cell or not all(isinstance(t, str) and t.strip() for t in cell)
    ]
    refuse(blank, len(items), root, f"every {columns[0]} must have its {texts}")
    return checked(items, columns, root, on_error).explode(texts, ignore_index=True)


def film_of(root: Path, names: Iterable[str]) -> Mapping[str, str]:
    """Where the film of each name lies; of one that is nowhere, where the first folder would have it."""
    folders = [folder for folder in FILM_FOLDERS if (root / folder).is_dir()]
    there: dict[str, str] = {}
    for folder in reversed(folders):
        there |= {p.stem: p.relative_to(root).as_posix() for p in entries(root / folder, FILMS)}
    first = "" if folders[0] == "." else f"{folders[0]}/"
    return {name: there.get(name, f"{first}{name}.mp4") for name in names}
