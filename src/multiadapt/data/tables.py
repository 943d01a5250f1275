"""Tables in: CSV, Parquet, Arrow and data frames become pandas frames.

Missing cells of a CSV are the words pandas reads as such ("", NA, NaN, null, ...); a line with fewer
fields than the header has missing cells at its end, one with more is an error.
"""

import codecs
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool
from pyarrow import ipc, parquet

from multiadapt.data.storage import Stored, is_stored
from multiadapt.data.values import text
from multiadapt.errors import SchemaError

if TYPE_CHECKING:
    import polars

__all__ = [
    "Source",
    "Table",
    "as_written",
    "did_you_mean",
    "matching",
    "read_chunks",
    "read_table",
]

Source: TypeAlias = "str | Path | pd.DataFrame | polars.DataFrame | pa.Table"
_File: TypeAlias = Path | Stored

SUFFIXES = (".csv", ".parquet", ".arrow", ".feather", ".ipc")
UNREADABLE = (ValueError, OSError, pa.ArrowException, pd.errors.ParserWarning)
CSV_OPTIONS: dict[str, Any] = {
    "encoding": "utf-8",
    "index_col": False,  # else a longer line turns the first column into row labels
    "low_memory": False,  # else one column may mix numbers and their texts
}


@dataclass(frozen=True)
class Table:
    """A table and the folder that its file cells are relative to (None: the current folder)."""

    frame: pd.DataFrame
    root: Path | None


def read_table(
    source: Source, *, where: str | None = None, root: str | Path | None = None
) -> Table:
    """Read a file by its suffix, or take a frame as it is; it is not copied and never written to.

    `where` keeps the rows with `column=value` or `column!=value`, compared as text; an empty value
    stands for missing cells. File cells are relative to `root`, by default the table file's folder; of a
    file in object storage, such as s3://bucket/table.parquet, the current folder.

    Raises:
        SchemaError: the file cannot be read, has no or repeated columns, or `where` matches no row.
    """
    if isinstance(source, (str, Path)):
        path = _existing(source)
        home = None if isinstance(path, Stored) else path.parent
        frame, root = _read(path), home if root is None else root
    else:
        frame = _frame(source)
    frame = named(frame)
    return Table(
        frame if where is None else _filter(frame, where), None if root is None else Path(root)
    )


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The same cells under column names that are text; Arrow's text and lists as Python's.

    SchemaError: no column, or one name twice.
    """
    names = [str(name) for name in frame.columns]
    _check_names(names)
    frame = frame if list(frame.columns) == names else frame.set_axis(names, axis=1)
    arrow = [
        n
        for n, t in frame.dtypes.items()
        if isinstance(t, pd.ArrowDtype) and t.kind not in "biufmM"
    ]
    return frame.astype(dict.fromkeys(arrow, object)) if arrow else frame


def _check_names(names: list[str]) -> None:
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise SchemaError(
            f"column names must differ; repeated: {repeated}: rename or drop one of each"
        )
    if not names:
        raise SchemaError("a table must have at least one column, got none")


def did_you_mean(absent: Iterable[str], names: Iterable[str]) -> str:
    """A question for each absent name that is like one of these, to end an error with; else ""."""
    plain = {str(name).casefold(): str(name) for name in names}
    found = [get_close_matches(name.casefold(), plain, n=1) for name in absent]
    close = [repr(plain[match[0]]) for match in found if match]
    return f": did you mean {' and '.join(close)}?" if close else ""


def _existing(source: str | Path) -> _File:
    path = Stored(str(source)) if is_stored(source) else Path(source).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise SchemaError(
            f"{path}: a table must be one of {', '.join(SUFFIXES)}, got {path.suffix!r}"
        )
    if path.is_file():
        return path
    if isinstance(path, Stored):
        raise SchemaError(f"{path}: there is no such file")
    what = "is a folder, not a file" if path.is_dir() else "there is no such file"
    raise SchemaError(f"{path}: {what} (the current folder is {Path.cwd()})")


def _opened(path: _File) -> Any:
    """As pandas and pyarrow take it."""
    return path.open() if isinstance(path, Stored) else path


def _read(path: _File) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            _check_header(_csv_names(path))
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # fields would be lost
                return pd.read_csv(_opened(path), **CSV_OPTIONS)
        return _frame(_arrow(path))
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _arrow(path: _File) -> pa.Table:
    if path.suffix.lower() == ".parquet":
        with parquet.ParquetFile(
            _opened(path)
        ) as file:  # read_table would add columns named in the path
            return file.read()
    with _mapped(path) as mapped, _ipc(mapped) as reader:
        return reader.read_all()


def _mapped(path: _File) -> pa.NativeFile:
    return path.open() if isinstance(path, Stored) else pa.memory_map(str(path))


def _ipc(mapped: Any) -> Any:
    """A reader of the Arrow file format or, where its mark is absent, of the stream format."""
    mark = mapped.read(6)
    mapped.seek(0)
    return ipc.open_file(mapped) if mark == b"ARROW1" else ipc.open_stream(mapped)


def _csv_names(path: _File) -> list[str]:
    """The header as it is written: pandas renames a repeated column."""
    one: dict[str, Any] = {"header": None, "nrows": 1, "dtype": str, "na_filter": False}
    try:
        head = pd.read_csv(_opened(path), encoding="utf-8", **one)
    except pd.errors.EmptyDataError:
        return []
    return [name for name in head.iloc[0].tolist() if name]


def _check_header(names: list[str]) -> None:
    """The names of a CSV file; a header that was not taken apart is one of another separator."""
    _check_names(names)
    other = next((sign for sign in ";\t|" if sign in names[0]), None)
    if len(names) == 1 and other is not None:
        raise SchemaError(
            f"a CSV file must be separated by commas; this one seems to be by {other!r}, its header is "
            f"the one name {names[0]!r}. Save it with commas, or pass a frame: "
            f"pd.read_csv(path, sep={other!r})"
        )


def _unreadable(path: _File, error: BaseException) -> SchemaError:
    if isinstance(error, SchemaError):
        return SchemaError(f"{path}: {error}")
    if isinstance(error, UnicodeDecodeError):
        return SchemaError(
            f"{path}: a CSV file must be UTF-8; byte {_bad_byte(path)} is not. Save it as UTF-8, or "
            'pass a frame: pd.read_csv(path, encoding="latin-1")'
        )
    return SchemaError(f"{path}: not a readable {path.suffix} table: {error}")


def _bad_byte(path: _File) -> int:
    """Offset of the first byte that is not UTF-8; the error's own counts from pandas' buffer."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open() if isinstance(path, Stored) else path.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return done - held + error.start
            done += len(block)


def _frame(source: Any) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, pa.Table):
        _check_names(source.column_names)
        return source.to_pandas()
    if type(source).__module__.startswith("polars"):
        eager = source.collect() if hasattr(source, "collect") else source
        return eager.to_pandas()
    raise SchemaError(
        "a table must be a path, a pandas or polars DataFrame or a pyarrow Table, "
        f"got {type(source).__module__}.{type(source).__qualname__}"
    )


def _filter(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    keep = matching(frame, where)
    if not keep.any():
        column = re.split(r"\s*!?=", where.strip(), maxsplit=1)[0]
        held = _texts(frame[column]).unique().tolist()
        raise SchemaError(f"where={where!r} keeps no row; {column!r} holds {held[:20]}")
    return frame.loc[keep]


def matching(frame: pd.DataFrame, where: str) -> Bool[np.ndarray, " b"]:
    """Which rows `column=value` or `column!=value` keeps. SchemaError: there is no such column."""
    parts = re.fullmatch(r"([^=]+?)\s*(!?=)\s*(.*)", where.strip(), re.DOTALL)
    if parts is None:
        raise SchemaError(f"where must be column=value or column!=value, got {where!r}")
    column, relation, value = parts.groups()
    if column not in frame:
        meant = did_you_mean([column], list(frame))
        raise SchemaError(
            f"where={where!r}: no column {column!r}; the table has {list(frame)}{meant}"
        )
    equal = (_texts(frame[column]) == (text(value) or "")).to_numpy()
    return equal if relation == "=" else ~equal


def _texts(cells: Any) -> Any:
    names = cells.map(text).astype(object)
    return names.where(names.notna(), "")


def read_chunks(path: str | Path, rows: int, skip: int = 0) -> Iterator[pd.DataFrame]:
    """The rows of a table file in order, at most `rows` at a time, in memory that does not grow.

    `path` may name a file in object storage, such as s3://bucket/table.parquet. A column may be numbers in
    one chunk and text in the next; `Schema.conform` makes them one. A table without rows is one empty chunk.
    The first `skip` chunks are passed over.
    """
    file, start, part = _existing(path), 0, None
    try:
        parts = (
            _csv_chunks(file, rows) if file.suffix.lower() == ".csv" else _arrow_chunks(file, rows)
        )
        for i, part in enumerate(parts):
            start, first = start + len(part), start
            if i < skip:
                continue
            chunk = part if isinstance(part, pd.DataFrame) else part.to_pandas()
            if isinstance(chunk.index, pd.RangeIndex):
                chunk = chunk.set_axis(pd.RangeIndex(first, start), axis=0)
            yield named(chunk)
        if part is None and skip == 0:
            yield named(_read(file))
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def as_written(
    path: str | Path, names: Sequence[str], rows: int, skip: int = 0
) -> Iterator[pd.DataFrame] | None:
    """The texts of some columns in the chunks of `read_chunks`, where they would be read as something else:
    007 of a CSV as 7. None: the file tells the types of its columns. An empty cell is missing."""
    file = _existing(path)
    if file.suffix.lower() != ".csv":
        return None
    options: Any = {"dtype": str, "keep_default_na": False, "na_values": [""]}
    chunks = _csv_chunks(file, rows, usecols=list(names), **options)
    return (chunk.loc[:, list(names)] for chunk in islice(chunks, skip, None))


def _csv_chunks(path: _File, rows: int, **options: Any) -> Iterator[pd.DataFrame]:
    _check_header(_csv_names(path))
    chunks: Any = pd.read_csv(_opened(path), chunksize=rows, **CSV_OPTIONS, **options)
    with chunks as reader:
        while True:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # fields would be lost
                chunk = next(reader, None)
            if chunk is None:
                return
            yield chunk


def _arrow_chunks(path: _File, rows: int) -> Iterator[pa.RecordBatch]:
    if path.suffix.lower() == ".parquet":
        with parquet.ParquetFile(_opened(path)) as file:
            yield from file.iter_batches(rows)
        return
    with _mapped(path) as mapped, _ipc(mapped) as reader:
        counted = hasattr(reader, "num_record_batches")
        batches = map(reader.get_batch, range(reader.num_record_batches)) if counted else reader
        for batch in batches:
            for start in range(0, len(batch), rows):
                yield batch.slice(start, rows)
