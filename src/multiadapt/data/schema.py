"""Which column holds what: guessed by strict rules that are stated with each answer, or declared."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast, get_args

import pandas as pd

from multiadapt.data.batches import calendar_names
from multiadapt.data.guess import guess
from multiadapt.data.tables import named
from multiadapt.data.values import CONVERT, converted, side_by_side
from multiadapt.errors import SchemaError
from multiadapt.types import Column, Kind, Stream

__all__ = ["Schema", "guess_schema"]

LOG = logging.getLogger("multiadapt")

ITEMS = ("image", "text", "audio", "video", "vector")
"""Kinds whose columns are streams of their own."""


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in its order."""

    columns: tuple[Column, ...]
    max_files: int = 8
    """Most files that one cell may hold."""
    join_text: bool = False
    """All text columns are read as one text, with their names."""

    def streams(self) -> tuple[Stream, ...]:
        """One stream of all numeric, categorical and datetime columns, then one for each column of
        images, texts, sounds, clips or vectors, in the table's order; joined texts come last."""
        tabular = tuple(c for c in self.columns if c.kind in CONVERT)
        texts = tuple(c for c in self.columns if c.kind == "text")
        joined = texts if self.join_text and len(texts) > 1 else ()
        found = [Stream("tabular", "tabular", tabular)] if tabular else []
        single = (c for c in self.columns if c.kind in ITEMS and c not in joined)
        found += [Stream(c.name, c.kind, (c,)) for c in single]
        return (*found, *([Stream("text", "text", joined)] if joined else []))

    def lines(self) -> list[str]:
        """One line per column: its name, its kind and why."""
        width = max((len(c.name) for c in self.columns), default=0)
        return [f"{c.name:<{width}}  {c.kind}: {c.reason}" for c in self.columns]

    def to_dict(self) -> dict[str, Any]:
        return {
            "columns": [asdict(c) for c in self.columns],
            "max_files": self.max_files,
            "join_text": self.join_text,
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Schema":
        columns = tuple(Column(**c) for c in values["columns"])
        return Schema(columns, values["max_files"], values.get("join_text", False))

    def conform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns that streams read, in order, each of one type whatever the reader made of it.

        Further columns are left out without a word. numeric: float64; categorical: str or None;
        datetime: datetime64 in UTC; others as given. Index and row order are the frame's. A column
        that is absent is missing in every row, and a warning names it.

        Raises:
            SchemaError: all columns are absent, or an absent one seems to have been renamed; cells are
                no number, infinite or no date: all are told.
        """
        frame = named(frame)
        used = [c for stream in self.streams() for c in stream.columns]
        lacking = [c.name for c in used if c.name not in frame]
        if lacking:
            unknown = {*frame} - {c.name for c in self.columns}
            _check_absent(lacking, list(frame), unknown, nothing_left=len(lacking) == len(used))
            nothing = {
                name: pd.Series([None] * len(frame), frame.index, dtype=object) for name in lacking
            }
            frame = frame.assign(**nothing)
        return side_by_side(converted(frame, used), frame.index)


def _check_absent(
    lacking: list[str], given: list[str], unknown: set[str], *, nothing_left: bool
) -> None:
    """`unknown`: given columns that have no role in the schema; only these can be renamed ones."""
    extra = [name for name in given if name in unknown]
    close = {name: get_close_matches(name, extra, n=1) for name in lacking}
    hints = [f"{name!r} may be {match[0]!r}, renamed" for name, match in close.items() if match]
    if hints or nothing_left:
        hint = f" ({'; '.join(hints)})" if hints else ""
        raise SchemaError(
            f"columns {lacking} are declared but absent; the table has {given}{hint}: add or rename them"
        )
    LOG.warning("columns %s are absent: they are taken as missing in every row", lacking)


def guess_schema(
    frame: pd.DataFrame,
    *,
    root: Path | None,
    reserved: Mapping[str, str] = {},
    column_types: Mapping[str, str] | None = None,
    max_files: int = 8,
    join_text: bool = False,
) -> Schema:
    """Say what each column holds, by the rules in `data/guess.py`, or as `column_types` declares.

    File cells are relative to `root`; None is the current folder. `reserved` columns have another
    role, such as {"price": "label"}, and no stream reads them.

    Raises:
        SchemaError: `column_types` names an unknown column or kind; a column
            holds cells that are not of its kind, such as a few words among numbers; names collide.
    """
    frame, declared = named(frame), dict(column_types or {})
    _check_declared(declared, list(frame), reserved)
    home = Path.cwd() if root is None else root
    columns: list[Column] = []
    for name in frame:
        cells: Any = frame[name]
        if name in reserved:
            columns.append(Column(name, "ignore", f"used as {reserved[name]}"))
        elif name in declared:
            columns.append(Column(name, cast(Kind, declared[name]), "declared in column_types"))
        else:
            columns.append(Column(name, *guess(cells, home)))
    # What may hold bad cells: they are an error now, all together, not after an epoch.
    converted(frame, [c for c in columns if c.name in declared or c.kind == "numeric"])
    schema = Schema(tuple(columns), max_files, join_text)
    _check_usable(schema)
    return schema


def _check_declared(
    declared: Mapping[str, str], names: Sequence[str], reserved: Mapping[str, str]
) -> None:
    if unknown := [name for name in declared if name not in names]:
        raise SchemaError(
            f"column_types names {unknown}, which are absent; the table has {list(names)}"
        )
    if taken := {name: reserved[name] for name in declared if name in reserved}:
        raise SchemaError(f"column_types names {list(taken)}, which have another role: {taken}")
    for name, kind in declared.items():
        if kind not in get_args(Kind):
            raise SchemaError(
                f"column_types[{name!r}] must be one of {get_args(Kind)}, got {kind!r}"
            )


def _check_usable(schema: Schema) -> None:
    streams = schema.streams()
    taken = {"tabular": "the numbers and categories are"} | (
        {"text": "the joined texts are"} if any(len(s.columns) > 1 for s in streams[1:]) else {}
    )
    for stream in streams:
        if stream.modality != "tabular" and len(stream.columns) == 1 and stream.name in taken:
            raise SchemaError(
                f"a column of kind {stream.modality} may not be called {stream.name!r}, "
                f"{taken[stream.name]}: rename it"
            )
    tabular = [c for c in schema.columns if c.kind in CONVERT]
    plain = {c.name for c in tabular if c.kind != "datetime"}
    for column in tabular:
        both = plain.intersection(calendar_names(column.name)) if column.kind == "datetime" else ()
        for name in sorted(both):
            raise SchemaError(
                f"column {name!r} has the name of a part of the datetime column {column.name!r}: "
                "rename one of the two"
            )
