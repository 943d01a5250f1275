"""Tables in and out: CSV, Parquet, Arrow and data frames become pandas frames; results go to files.

Missing cells of a CSV are the words pandas reads as such ("", NA, NaN, null, ...); a line with fewer
fields than the header has missing cells at its end, one with more is an error.
"""

import codecs
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import pandas as pd
import pyarrow as pa
from pyarrow import ipc, parquet

from multiadapt.data.values import text
from multiadapt.errors import SchemaError

if TYPE_CHECKING:
    import polars

__all__ = ["Source", "Table", "TableWriter", "did_you_mean", "read_chunks", "read_table"]

Source: TypeAlias = "str | Path | pd.DataFrame | polars.DataFrame | pa.Table"

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
    stands for missing cells. File cells are relative to `root`, by default the table file's folder.

    Raises:
        SchemaError: the file cannot be read, has no or repeated columns, or `where` matches no row.
    """
    if isinstance(source, (str, Path)):
        path = _existing(source)
        frame, root = _read(path), path.parent if root is None else root
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


def _existing(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise SchemaError(
            f"{path}: a table must be one of {', '.join(SUFFIXES)}, got {path.suffix!r}"
        )
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "there is no such file"
        raise SchemaError(f"{path}: {what} (the current folder is {Path.cwd()})")
    return path


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            _check_header(_csv_names(path))
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # fields would be lost
                return pd.read_csv(path, **CSV_OPTIONS)
        return _frame(_arrow(path))
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _arrow(path: Path) -> pa.Table:
    if path.suffix.lower() == ".parquet":
        with parquet.ParquetFile(path) as file:  # read_table would add columns named in the path
            return file.read()
    with pa.memory_map(str(path)) as mapped, _ipc(mapped) as reader:
        return reader.read_all()


def _ipc(mapped: Any) -> Any:
    """A reader of the Arrow file format or, where its mark is absent, of the stream format."""
    mark = mapped.read(6)
    mapped.seek(0)
    return ipc.open_file(mapped) if mark == b"ARROW1" else ipc.open_stream(mapped)


def _csv_names(path: Path) -> list[str]:
    """The header as it is written: pandas renames a repeated column."""
    try:
        head = pd.read_csv(path, encoding="utf-8", header=None, nrows=1, dtype=str, na_filter=False)
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


def _unreadable(path: Path, error: BaseException) -> SchemaError:
    if isinstance(error, SchemaError):
        return SchemaError(f"{path}: {error}")
    if isinstance(error, UnicodeDecodeError):
        return SchemaError(
            f"{path}: a CSV file must be UTF-8; byte {_bad_byte(path)} is not. Save it as UTF-8, or "
            'pass a frame: pd.read_csv(path, encoding="latin-1")'
        )
    return SchemaError(f"{path}: not a readable {path.suffix} table: {error}")


def _bad_byte(path: Path) -> int:
    """Offset of the first byte that is not UTF-8; the error's own counts from pandas' buffer."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
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
    parts = re.fullmatch(r"([^=]+?)\s*(!?=)\s*(.*)", where.strip(), re.DOTALL)
    if parts is None:
        raise SchemaError(f"where must be column=value or column!=value, got {where!r}")
    column, relation, value = parts.groups()
    if column not in frame:
        meant = did_you_mean([column], list(frame))
        raise SchemaError(
            f"where={where!r}: no column {column!r}; the table has {list(frame)}{meant}"
        )
    names = frame[column].map(text).astype(object)
    names = names.where(names.notna(), "")
    equal = (names == (text(value) or "")).to_numpy()
    keep = equal if relation == "=" else ~equal
    if not keep.any():
        held = names.unique().tolist()
        raise SchemaError(f"where={where!r} keeps no row; {column!r} holds {held[:20]}")
    return frame.loc[keep]


def read_chunks(path: str | Path, rows: int) -> Iterator[pd.DataFrame]:
    """The rows of a table file in order, at most `rows` at a time, in memory that does not grow.

    A column may be numbers in one chunk and text in the next; `Schema.conform` makes them one. A table
    without rows is one empty chunk.
    """
    path, start, chunk = _existing(path), 0, None
    try:
        chunks = (
            _csv_chunks(path, rows) if path.suffix.lower() == ".csv" else _arrow_chunks(path, rows)
        )
        for chunk in chunks:
            if isinstance(chunk.index, pd.RangeIndex):
                chunk = chunk.set_axis(pd.RangeIndex(start, start + len(chunk)), axis=0)
            start += len(chunk)
            yield named(chunk)
        if chunk is None:
            yield named(_read(path))
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _csv_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    _check_header(_csv_names(path))
    chunks: Any = pd.read_csv(path, chunksize=rows, **CSV_OPTIONS)
    with chunks as reader:
        while True:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # fields would be lost
                chunk = next(reader, None)
            if chunk is None:
                return
            yield chunk


def _arrow_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    if path.suffix.lower() == ".parquet":
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(rows):
                yield batch.to_pandas()
        return
    with pa.memory_map(str(path)) as mapped, _ipc(mapped) as reader:
        counted = hasattr(reader, "num_record_batches")
        batches = map(reader.get_batch, range(reader.num_record_batches)) if counted else reader
        for batch in batches:
            for start in range(0, len(batch), rows):
                yield batch.slice(start, rows).to_pandas()


class TableWriter:
    """Appends frames to a .csv, .parquet, .jsonl or .ndjson file that appears only when it is whole.

    Row labels are not written; missing values are empty fields, nulls and nulls. The first frame
    fixes the columns. Leaving the `with` block by an error leaves nothing, and an older file as it was.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._part = self.path.with_name(f".{self.path.name}.{uuid4().hex[:8]}.part")
        self._suffix = self.path.suffix.lower()
        self._columns: list[str] | None = None
        self._parquet: parquet.ParquetWriter | None = None
        if self._suffix not in (".csv", ".parquet", ".jsonl", ".ndjson"):
            raise SchemaError(
                f"{path}: results must go to .csv, .parquet, .jsonl or .ndjson, got {self.path.suffix!r}"
            )

    def __enter__(self) -> "TableWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = self._part.open("xb")
        return self

    def write(self, frame: pd.DataFrame) -> None:
        """Append the rows. SchemaError: other columns, or other types, than the first frame's."""
        frame, first = named(frame), self._columns is None
        if self._columns is None:
            self._columns = list(frame)
        if list(frame) != self._columns:
            raise SchemaError(
                f"{self.path}: every frame must have {self._columns}, got {list(frame)}"
            )
        if self._suffix == ".parquet":
            self._write_parquet(frame)
        elif self._suffix == ".csv":
            frame.to_csv(self._file, index=False, header=first)
        else:
            self._file.write(_json_lines(frame).encode())

    def _write_parquet(self, frame: pd.DataFrame) -> None:
        writer = self._parquet
        if writer is None:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            writer = self._parquet = parquet.ParquetWriter(self._file, _typed(table.schema))
        schema = writer.schema
        try:
            writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))
        except pa.ArrowException as error:
            raise SchemaError(
                f"{self.path}: every frame must have the types {schema}: {error}"
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._suffix == ".parquet" and self._parquet is None:
                self._write_parquet(pd.DataFrame())
            if self._parquet is not None:
                self._parquet.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                self._part.replace(self.path)
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)


def _typed(schema: pa.Schema) -> pa.Schema:
    """The schema with text where the first frame held only missing values."""
    fields = [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema]
    return pa.schema(fields, schema.metadata)


def _json_lines(frame: pd.DataFrame) -> str:
    """One JSON object a row; pandas' own writer would round numbers to fifteen digits."""
    columns = [_json_values(frame[name]) for name in frame]
    lines = (
        json.dumps(dict(zip(frame, row, strict=True)), ensure_ascii=False)
        for row in zip(*columns, strict=True)
    )
    return "".join(f"{line}\n" for line in lines)


def _json_values(cells: Any) -> list[Any]:
    if pd.api.types.is_datetime64_any_dtype(cells):
        cells = cells.map(pd.Timestamp.isoformat, na_action="ignore")
    return cells.astype(object).where(cells.notna(), None).tolist()
