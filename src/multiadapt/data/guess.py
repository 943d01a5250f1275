"""The rules by which a column's kind is guessed. The first that holds decides.

1. All cells missing, or all others equal: ignore.
2. Type datetime, or all cells ISO 8601 dates: datetime.
3. Type boolean, or categorical and not the names of files: categorical.
4. All cells numbers: identifier if they are whole, all differ and either the name says id or there are
   20 or more in equal steps; else numeric, however few the values. 95 % numbers, but not all: numeric,
   so that `guess_schema` refuses the others.
5. All cells lists of as many numbers, or names of .npy files: vector.
6. All of up to 50 sampled cells open as images: image. All have a sound's, or a film's, suffix and first
   bytes: audio, video. All have such a suffix, but not all are such a file: an error. Some cells are such
   files and others are not even named so: ignore, with a warning. Folders of frames must be declared:
   their names may as well be classes.
7. Words: identifier if all differ, none has a blank, and the name says id or there are 20 or more;
   categorical if at most half of the values differ (fewer than 5 words on average, or at most 20
   distinct), or at most 20 of fewer than 3 words; else text.
"""

import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from multiadapt.data.images import opens
from multiadapt.data.reading import files, locate
from multiadapt.data.values import absent, plain, stamps, text
from multiadapt.data.vectors import is_vector
from multiadapt.errors import CellError, SchemaError
from multiadapt.types import Kind

__all__ = ["FILMS", "guess"]

LOG = logging.getLogger("multiadapt")
SAMPLE, SEED, MANY = 50, 0, 20
NUMBERS = 0.95
ID = re.compile(r"(?i:(^|[_\W])(id|uid|uuid|guid)$|^index$)|[a-z](Id|ID)$|^Unnamed: \d+$")
CODE = re.compile(r"zip|postal|postcode|(^|_)(code|plz)$", re.I)
PICTURES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".ppm",
    ".jp2",
    ".avif",
)
SOUNDS = {
    ".wav": re.compile(rb"RIFF....WAVE", re.S),
    ".flac": re.compile(rb"fLaC"),
    ".ogg": re.compile(rb"OggS"),
    ".opus": re.compile(rb"OggS"),
    ".mp3": re.compile(rb"ID3|\xff[\xe2-\xff]"),
    ".m4a": re.compile(rb"....ftyp", re.S),
    ".aac": re.compile(rb"\xff[\xf0-\xff]"),
}
FILMS = {
    ".mp4": re.compile(rb"....ftyp", re.S),
    ".mov": re.compile(rb"....(ftyp|moov|wide|mdat)", re.S),
    ".m4v": re.compile(rb"....ftyp", re.S),
    ".avi": re.compile(rb"RIFF....AVI ", re.S),
    ".mkv": re.compile(rb"\x1a\x45\xdf\xa3"),
    ".webm": re.compile(rb"\x1a\x45\xdf\xa3"),
    ".mpg": re.compile(rb"\x00\x00\x01"),
    ".mpeg": re.compile(rb"\x00\x00\x01"),
    ".flv": re.compile(rb"FLV"),
}
Answer: TypeAlias = tuple[Kind, str]
Marks: TypeAlias = dict[str, re.Pattern[bytes]]


def _marked(marks: Marks, part: object, root: Path) -> str | None:
    """None if a file begins as its suffix promises, else the reason why not."""
    suffix = Path(part).suffix.lower() if isinstance(part, (str, Path)) else ""
    if suffix not in marks:
        return f"its name ends in none of {', '.join(marks)}"
    try:
        with locate(str(part), root).open("rb") as file:
            start = file.read(12)
    except (CellError, OSError) as error:
        return str(error)
    return None if marks[suffix].match(start) else f"it does not begin as a {suffix} file does"


@dataclass(frozen=True)
class _Family:
    """Files of one kind."""

    kind: Kind
    files: str
    are: str
    suffixes: Collection[str]
    why_not: Callable[[object, Path], str | None]
    """None where an item of a cell is such a file."""


FAMILIES = (
    _Family("image", "pictures", "open as images", PICTURES, opens),
    _Family("audio", "sounds", "are audio files", SOUNDS, partial(_marked, SOUNDS)),
    _Family("video", "films", "are video files", FILMS, partial(_marked, FILMS)),
)


def guess(cells: pd.Series, root: Path) -> Answer:
    """The kind of a column and one line that says why."""
    present = cells.loc[~absent(cells)]
    if present.empty:
        return "ignore", "all values are missing" if len(cells) else "the table has no rows"
    for rule in (_of_type, _of_numbers, _of_dates, _of_vectors, _of_files):
        if answer := rule(present, root):
            return answer
    return _of_words(present)


def _of_type(cells: pd.Series, root: Path) -> Answer | None:
    n = len(cells)
    if pd.api.types.is_datetime64_any_dtype(cells):
        return _constant(cells) or ("datetime", f"{n} of {n} values are dates")
    if pd.api.types.is_bool_dtype(cells):
        return _constant(cells) or ("categorical", "values are true or false")
    if isinstance(cells.dtype, pd.CategoricalDtype):
        answer = _of_files(cells.astype(object), root) or _constant(cells)
        return answer or ("categorical", f"the table's own type; {cells.nunique()} distinct values")
    if not (
        cells.dtype == object
        or pd.api.types.is_numeric_dtype(cells)
        or isinstance(cells.dtype, pd.StringDtype)
    ) or pd.api.types.is_complex_dtype(cells):
        return (
            "ignore",
            f"values of type {cells.dtype} are not supported: turn them into numbers or words",
        )
    return None


def _constant(cells: pd.Series) -> Answer | None:
    if cells.nunique() > 1:
        return None
    return "ignore", f"constant: all {len(cells)} values present are {text(cells.iloc[0])}"


def _of_numbers(cells: pd.Series, root: Path) -> Answer | None:
    values, bad = plain(cells)
    n, good = len(cells), int((~bad).sum())
    if good < NUMBERS * n or all(isinstance(v, bool) for v in cells):
        return None
    if good < n or np.isinf(values).any():
        return "numeric", f"{good} of {n} values are numbers, not all of them finite"
    return _constant(cells) or _identifier(cells, values) or ("numeric", _numeric(cells, values))


def _numeric(cells: pd.Series, values: np.ndarray) -> str:
    n, name = len(cells), str(cells.name)
    coded = CODE.search(name) and not (values % 1).any()
    remark = f'; if they are codes, column_types={{"{name}": "categorical"}}' if coded else ""
    return f"{n} of {n} values are numbers{remark}"


def _identifier(cells: pd.Series, values: np.ndarray) -> Answer | None:
    n, steps = len(values), np.diff(np.sort(values))
    if (values % 1).any() or not steps.all():
        return None
    if ID.search(str(cells.name)):
        return "identifier", f"all {n} values differ and are whole numbers, and the name says id"
    if n >= MANY and (steps == steps[0]).all():
        return "identifier", f"all {n} values differ and are whole numbers in steps of {steps[0]:g}"
    return None


def _of_dates(cells: pd.Series, root: Path) -> Answer | None:
    bad = stamps(cells)[1]
    if bad.any():
        return None
    return _constant(cells) or (
        "datetime",
        f"{len(cells)} of {len(cells)} values are ISO 8601 dates",
    )


def _of_vectors(cells: pd.Series, root: Path) -> Answer | None:
    n = len(cells)
    if isinstance(cells.dtype, pd.CategoricalDtype) or not all(
        is_vector(v) or str(v).strip().lower().endswith(".npy") for v in cells
    ):
        return None
    lengths = {len(v) for v in cells if is_vector(v)}
    if len(lengths) > 1:
        return "ignore", f"lists of numbers of {len(lengths)} lengths are not supported"
    return "vector", f"{n} of {n} values are vectors, or name .npy files"


def _of_files(cells: pd.Series, root: Path) -> Answer | None:
    """Image, audio or video by a seeded sample; None where nothing looks like a file."""
    chosen = np.random.default_rng(SEED).permutation(len(cells))[:SAMPLE]
    sample = cells.iloc[np.sort(chosen)]
    n, counted = len(sample), f"of {len(sample)} sampled values (seed {SEED})"
    for family in FAMILIES:
        reasons = [_first_reason(value, root, family.why_not) for value in sample]
        good = reasons.count(None)
        if good == n:
            return family.kind, f"{n} {counted} {family.are}"
        named = all(_ends(value, family.suffixes) for value in sample)
        if good or named:
            first = next(i for i, reason in enumerate(reasons) if reason)
            bad = f"{sample.iloc[first]!r}: {reasons[first]}"
            return _doubtful(
                cells, family, f"{good} {counted} {family.are}; not {bad}", named=named
            )
    return None


def _doubtful(cells: pd.Series, family: _Family, why: str, *, named: bool) -> Answer:
    """Left out with a warning, never words: a file's name may hold the label."""
    kind = family.kind
    why += f'; if it is a column of {family.files}, column_types={{"{cells.name}": "{kind}"}}'
    if named:  # leaving it out would train on the table alone and look as if it had worked
        raise SchemaError(
            f"column {cells.name!r} holds names of {family.files}, but {why}. Pass root= (--root) "
            f'with the folder of the files; or declare it "{kind}", which reports or, with '
            f'on_error="missing" (--on-error missing), lists the bad ones; or declare it "ignore"'
        )
    LOG.warning("column %r is left out: %s", cells.name, why)
    return "ignore", why


def _first_reason(
    value: object, root: Path, read: Callable[[object, Path], str | None]
) -> str | None:
    """Why the first bad file of a cell is bad; None if all are good."""
    return next((why for part in files(value) if (why := read(part, root))), None)


def _ends(value: object, suffixes: Collection[str]) -> bool:
    parts = files(value)
    return all(isinstance(p, (str, Path)) and Path(p).suffix.lower() in suffixes for p in parts)


def _of_words(cells: pd.Series) -> Answer:
    other = next((v for v in cells if isinstance(v, bytes) or not pd.api.types.is_scalar(v)), None)
    if other is not None:
        return "ignore", f"values such as {type(other).__name__} are not supported"
    times: Any = cells.astype(object).value_counts(sort=False)
    words = times.groupby([text(value) for value in times.index]).sum()
    n, distinct = len(cells), len(words)
    length = sum(len(word.split()) * count for word, count in words.items()) / n
    if distinct == 1:
        return "ignore", f"constant: all {n} values present are {words.index[0]}"
    if distinct == n and length == 1 and (n >= MANY or ID.search(str(cells.name))):
        return "identifier", f"all {n} values differ and are single words"
    some = n - int(plain(cells)[1].sum())
    why = f"{length:.1f} words on average" + (
        f"; {some} are numbers, the others not" if some else ""
    )
    short = length < 5 or distinct <= MANY
    if (distinct <= n / 2 and short) or (distinct <= MANY and length < 3):
        return "categorical", f"{distinct} distinct values in {n}, {why}"
    return "text", f"{distinct} of {n} values differ, {why}"
