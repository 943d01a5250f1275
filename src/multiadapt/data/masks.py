"""Which row loses which modality: drawn once, kept in a file, the same holes for every method.

"Rate r of modality m" is the share of all rows, drawn once with a stored seed, whose modality m is
removed; they are drawn among those that have m and something else. "Rate r, both" is the share of rows
that lose exactly one modality, chosen evenly; no row loses all. A row that has only one modality keeps
it, whatever the rate. The holes of a rate are among those of a larger one with the same seed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Int
from pyarrow import parquet

from multiadapt.data.bad_cells import BadCell, listing
from multiadapt.data.schema import Schema
from multiadapt.data.tables import named, read_table
from multiadapt.data.values import absent
from multiadapt.errors import SchemaError, SpecError

__all__ = ["BOTH", "Mask", "Source", "apply", "check_left", "draw", "emptied", "opened", "present"]

BOTH = "both"
"""In place of a modality's name: each drawn row loses one of its own."""

_KEY = b"multiadapt mask"


@dataclass(frozen=True, eq=False)
class Mask:
    """What is removed from the rows of a table."""

    removed: pd.DataFrame
    """A row for each row of the table and a column of booleans for each modality: True is removed."""
    modality: str | None = None
    """The one that was drawn, or "both"; None where nobody knows."""
    rate: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        wrong = {
            str(c): str(t) for c, t in self.removed.dtypes.items() if t not in ("bool", "boolean")
        }
        if wrong or self.removed.isna().to_numpy().any():
            given = f"got {wrong}" if wrong else "some cells are empty"
            raise SchemaError(
                "a mask must hold a column of True (removed) and False for each modality, and nothing "
                f"else; {given}: draw one with `multiadapt mask`"
            )

    def __len__(self) -> int:
        return len(self.removed)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.removed)

    @property
    def reached(self) -> float:
        """Share of rows that lose something; below the rate where too few rows have something left."""
        return float(self._bits.any(1).mean()) if len(self) else 0.0

    @property
    def remark(self) -> str:
        """A sentence where fewer rows lose something than the rate asks for; else ""."""
        if self.rate is None:
            return ""
        wanted, drawn = round(self.rate * len(self)), int(self._bits.any(1).sum())
        if drawn >= wanted:
            return ""
        which, others = ("one modality", "have nothing else")
        if self.modality != BOTH:
            which, others = repr(self.modality), "lack it or have nothing else"
        return (
            f"rate {self.rate:g} of {self.modality}: {drawn} of {len(self)} rows lose {which} (a share of "
            f"{self.reached:.3g}); the others {others}"
        )

    @property
    def digest(self) -> str:
        """A hash of the holes and the modalities' names: masks with the same one are the same."""
        shape = json.dumps([len(self), self.modalities]).encode()
        return hashlib.sha256(shape + np.packbits(self._bits).tobytes()).hexdigest()[:16]

    @property
    def description(self) -> str:
        """One line to print beside a number that was measured under it."""
        drawn = (
            ""
            if self.rate is None
            else f"rate {self.rate:g} of {self.modality}, seed {self.seed}; "
        )
        return f"mask: {drawn}{self.reached:.3g} of {len(self)} rows lose something; digest {self.digest}"

    def check_rows(self, rows: int, *, more: bool = False) -> None:
        """SchemaError where it is not for a table of so many rows, or at least so many with `more`."""
        if len(self) < rows or (len(self) > rows and not more):
            least = "at least " if more else ""
            raise SchemaError(
                f"a mask must have one row for each of the {least}{rows} rows of the table, got "
                f"{len(self)}: draw it for the same rows"
            )

    def save(self, path: str | Path) -> None:
        """Write a .parquet file, or a .csv file and a .csv.json beside it that says how it was drawn."""
        path = Path(path).expanduser()
        _check_suffix(path)
        facts = {"modality": self.modality, "rate": self.rate, "seed": self.seed, "rows": len(self),
                 "digest": self.digest}  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
        try:
            if path.suffix.lower() == ".csv":
                self.removed.to_csv(part, index=False)
                _facts_beside(path).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            else:
                table = pa.Table.from_pandas(self.removed, preserve_index=False)
                kept = {**(table.schema.metadata or {}), _KEY: json.dumps(facts).encode()}
                parquet.write_table(table.replace_schema_metadata(kept), part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @property
    def _bits(self) -> Bool[np.ndarray, "b m"]:
        return self.removed.to_numpy(bool)


Source: TypeAlias = Mask | pd.DataFrame | str | Path
"""A mask, a frame of booleans, or the file of either."""


def opened(source: Any) -> Mask:
    """A mask from any `Source`.

    SchemaError: it is none, no such file, not boolean, changed since it was drawn.
    """
    if isinstance(source, Mask):
        return source
    if isinstance(source, pd.DataFrame):
        return Mask(named(source))
    if not isinstance(source, (str, Path)):
        raise SchemaError(
            "a mask must be a Mask, a pandas DataFrame with a column of booleans for each modality, or "
            f"the file of either; got {type(source).__name__}"
        )
    path = Path(source).expanduser()
    _check_suffix(path)
    frame, facts = read_table(path).frame, _facts(path)
    mask = Mask(frame, *(facts.get(name) for name in ("modality", "rate", "seed")))
    if facts.get("digest", mask.digest) != mask.digest:
        raise SchemaError(
            f"{path}: a mask must be as it was drawn, {facts.get('rows')} rows with the digest "
            f"{facts['digest']}; it has {len(mask)} rows and {mask.digest}: draw it again"
        )
    return mask


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise SchemaError(f"{path}: a mask is kept as .parquet or .csv, got {path.suffix!r}")


def _facts_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _facts(path: Path) -> dict[str, Any]:
    """How the mask was drawn; {} where another program wrote it."""
    if path.suffix.lower() == ".parquet":
        held = (parquet.read_schema(path).metadata or {}).get(_KEY, b"{}")
        return json.loads(held)
    beside = _facts_beside(path)
    try:
        return json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    except ValueError as error:
        raise SchemaError(f"{beside} is not JSON: {error}; delete it or draw it again") from error


def present(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """A row for each row and a column of booleans for each modality: whether the row has it."""
    frame = named(frame)
    found: dict[str, np.ndarray] = {}
    for stream in schema.streams():
        there = np.zeros(len(frame), bool)
        for column in stream.columns:
            if column.name in frame:
                cells: Any = frame[column.name]
                there |= ~absent(cells)
        found[stream.name] = there
    return pd.DataFrame(found)


def draw(there: pd.DataFrame, rate: float, modality: str = BOTH, seed: int = 0) -> Mask:
    """A mask for rows that have these modalities, as `present` tells. Exactly round(rate * rows) rows lose
    one that they have, or all that have another.

    Raises:
        SpecError: the rate is not in 0..1, or the modality is none of these.
        SchemaError: there are fewer than two modalities, or one is called "both".
    """
    names = [str(name) for name in there]
    _check_draw(names, rate, modality, seed)
    has = there.to_numpy(bool)
    can = has.sum(1) >= 2
    if modality != BOTH:
        can &= has[:, names.index(modality)]
    order = np.random.default_rng(seed).permutation(len(has))
    order = order[can[order]]
    chosen = order[: round(rate * len(has))]
    which = _evenly(has[chosen]) if modality == BOTH else names.index(modality)
    removed = np.zeros_like(has)
    removed[chosen, which] = True
    return Mask(pd.DataFrame(removed, columns=names), modality, float(rate), seed)


def _check_draw(names: Sequence[str], rate: float, modality: str, seed: int) -> None:
    if not 0 <= rate <= 1:
        raise SpecError(f"a rate must be in 0..1, got {rate}")
    if seed < 0:
        raise SpecError(f"seed must be at least 0, got {seed}")
    if len(names) < 2:
        raise SchemaError(
            f"a mask takes one of several modalities away; the table has {list(names)} alone"
        )
    if BOTH in names:
        raise SchemaError(
            f"{BOTH!r} stands for any of the modalities {list(names)}: rename the one"
        )
    if modality not in (BOTH, *names):
        raise SpecError(f"modality must be {BOTH!r} or one of {list(names)}, got {modality!r}")


def _evenly(has: Bool[np.ndarray, "k m"]) -> Int[np.ndarray, " k"]:
    """One of its own modalities for each row, in turn: the one that was taken least before."""
    counts, which = np.zeros(has.shape[1]), np.zeros(len(has), np.int64)
    for i, own in enumerate(has):
        which[i] = np.where(own, counts, np.inf).argmin()
        counts[which[i]] += 1
    return which


def apply(
    frame: pd.DataFrame, schema: Schema, mask: Mask, start: int | None = None
) -> pd.DataFrame:
    """The table with the removed cells empty; the caller's is not written to.

    `start`: the frame is a part of the table that begins at this row of the mask.

    SchemaError: the mask does not fit: another number of rows, modalities that the table does not have,
    another index, a row that loses all it has.
    """
    frame, begin = named(frame), start or 0
    mask.check_rows(begin + len(frame), more=start is not None)
    removed = mask.removed.iloc[begin : begin + len(frame)]
    _check_index(removed.index, frame.index)
    _check_fit(frame, schema, removed, begin)
    return emptied(frame, schema, {str(m): removed[m].to_numpy(bool) for m in removed})


def emptied(
    frame: pd.DataFrame, schema: Schema, removed: Mapping[str, Bool[np.ndarray, " b"]]
) -> pd.DataFrame:
    """The table with the cells of these modalities empty where True, even where a row then has none."""
    frame = named(frame)
    found: dict[str, pd.Series] = {}
    for stream in schema.streams():
        gone = removed.get(stream.name)
        if gone is None or not gone.any():
            continue
        for column in stream.columns:
            if column.name in frame:
                found[column.name] = _without(frame[column.name], gone)
    return frame.assign(**found)


def _without(cells: Any, gone: Bool[np.ndarray, " b"]) -> pd.Series:
    """The cells, empty where `gone`. Whole numbers and booleans stay what they are beside the holes."""
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "iub":
        cells = cells.astype(object)
    return cells.where(~gone)


def _check_index(given: pd.Index, index: pd.Index) -> None:
    """A mask goes by position; a frame in another order would take the wrong cells."""
    by_position = isinstance(given, pd.RangeIndex) and given.step == 1
    if not (by_position or given.equals(index)):
        raise SchemaError(
            "a mask must have the index of the table, or count its rows from the first; its index is "
            f"{list(given[:3])} ... and the table's {list(index[:3])} ...: pass mask.loc[table.index], or "
            "mask.reset_index(drop=True) if its rows are in the table's order"
        )


def _check_fit(frame: pd.DataFrame, schema: Schema, removed: pd.DataFrame, begin: int) -> None:
    names = [stream.name for stream in schema.streams()]
    if unknown := [name for name in removed if name not in names]:
        raise SchemaError(
            f"a mask must name modalities of the table, {names}; it has {unknown} too: draw one for this "
            "table with `multiadapt mask`"
        )
    check_left(present(frame, schema), removed, frame.index, begin)


def check_left(there: pd.DataFrame, removed: pd.DataFrame, index: pd.Index, begin: int = 0) -> None:
    """SchemaError: rows that have something lose all; they are told by the table's `index`."""
    left = there.assign(**{m: there[m].to_numpy() & ~removed[m].to_numpy(bool) for m in removed})
    lost = np.flatnonzero(there.any(axis=1) & ~left.any(axis=1))
    if len(lost):
        bad = [BadCell(index[i], begin + i, "", "", "loses all") for i in lost.tolist()]
        lines = listing(bad, lambda b: b.where)
        raise SchemaError(
            f"a mask must leave every row something; {len(bad)} rows lose all they have:\n{lines}\n"
            "Draw one for this table with `multiadapt mask`"
        )
