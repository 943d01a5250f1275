"""Results to files: whole or absent, and a run that was broken off goes on where it stopped."""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pandas as pd
import pyarrow as pa
from pyarrow import ipc, parquet

from multiadapt.data.bad_cells import BadCell, plain
from multiadapt.errors import SchemaError, SpecError

__all__ = ["TableWriter", "check_results"]

SUFFIXES = (".csv", ".parquet", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class _Done:
    """What is whole in the folder: numbers of bytes tell where a part that was broken off begins."""

    identity: dict[str, str]
    parts: int = 0
    rows: int = 0
    """Rows that are written."""
    read: int = 0
    """Rows of the table that they were made of."""
    size: int = 0
    bad: int = 0
    bad_size: int = 0
    columns: list[str] | None = None


def check_results(path: str | Path) -> Path:
    """SchemaError where results cannot be written to a file of this name."""
    found = Path(path).expanduser()
    if found.suffix.lower() in SUFFIXES:
        return found
    raise SchemaError(
        f"{path}: results must go to .csv, .parquet, .jsonl or .ndjson, got {found.suffix!r}"
    )


class TableWriter:
    """Appends frames to a .csv, .parquet, .jsonl or .ndjson file that appears only when it is whole.

    Row labels are not written; missing values are empty fields, nulls and nulls. The first frame
    fixes the columns.

    Until the file is whole, its rows lie in the folder `.NAME.parts` beside it. What is broken off, even by
    kill -9, leaves that folder, and a writer of the same `identity` goes on after the `parts` that are
    whole; one of another identity begins anew and names what has changed.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, str]) -> None:
        self.path = check_results(path)
        self.folder = self.path.with_name(f".{self.path.name}.parts")
        self._suffix = self.path.suffix.lower()
        self._done = _Done(dict(identity))
        self._schema: pa.Schema | None = None
        self._empty = pd.DataFrame()
        self.changed: tuple[str, ...] = ()
        """Parts of the identity by which a run that was broken off differs."""

    @property
    def parts(self) -> int:
        """Frames that are written, those of a run that was broken off included."""
        return self._done.parts

    @property
    def rows(self) -> int:
        """Their rows."""
        return self._done.rows

    @property
    def read(self) -> int:
        """Rows of the table that they were made of."""
        return self._done.read

    @property
    def bad(self) -> int:
        """Cells that could not be read."""
        return self._done.bad

    def bad_cells(self) -> Iterator[BadCell]:
        """Those, in order."""
        with (self.folder / "unreadable").open(encoding="utf-8") as file:
            for _, line in zip(range(self.bad), file, strict=False):
                yield BadCell(**json.loads(line))

    def __enter__(self) -> "TableWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("wb")
        try:
            _lock(self._lock.fileno(), self.path)
            self._find()
            self._rows = _opened(self.folder / "rows", self._done.size)
            self._unreadable = _opened(self.folder / "unreadable", self._done.bad_size)
        except BaseException:
            self._lock.close()
            raise
        return self

    def write(self, frame: pd.DataFrame, read: int | None = None, bad: Sequence[BadCell] = ()) -> None:  # fmt: skip
        """Append the rows, made of `read` rows of a table with these unreadable cells. They are safe then.

        SchemaError: other columns, or other types, than the first frame's.
        """
        done = self._done
        if list(frame) != (done.columns or list(frame)):
            raise SchemaError(
                f"{self.path}: every frame must have {done.columns}, got {list(frame)}"
            )
        lines = "".join(f"{json.dumps(asdict(cell), default=plain)}\n" for cell in bad)
        size = _append(self._rows, self._encoded(frame))
        bad_size = _append(self._unreadable, lines.encode()) if lines else done.bad_size
        after = _Done(
            done.identity,
            done.parts + 1,
            done.rows + len(frame),
            done.read + (len(frame) if read is None else read),
            size,
            done.bad + len(bad),
            bad_size,
            list(frame),
        )
        self._save(after)
        self._done = after

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._unreadable.close()
            if kind is None:
                self._finish()
            self._rows.close()
            if kind is None or self.parts == 0:
                self._remove()
        finally:
            self._rows.close()
            self._lock.close()

    def _find(self) -> None:
        """What a run that was broken off has left."""
        try:
            found = _Done(**json.loads((self.folder / "done.json").read_text(encoding="utf-8")))
            rows, bad = (self.folder / name for name in ("rows", "unreadable"))
            whole = rows.stat().st_size >= found.size and bad.stat().st_size >= found.bad_size
        except (OSError, ValueError, TypeError):  # there is none, or it is another version's
            self._forget()
            return
        own = self._done.identity
        names = dict.fromkeys([*own, *found.identity])
        self.changed = tuple(n for n in names if own.get(n) != found.identity.get(n))
        if whole and not self.changed:
            self._done, self._empty = found, pd.DataFrame(columns=found.columns)
        else:
            self._forget()

    def _forget(self) -> None:
        """Before another run's bytes are written over, nobody may take them for that run's."""
        (self.folder / "done.json").unlink(missing_ok=True)

    def _save(self, done: _Done) -> None:
        part = self.folder / "done.part"
        with part.open("wb") as file:
            _append(file, json.dumps(asdict(done)).encode())
        part.replace(self.folder / "done.json")

    def _encoded(self, frame: pd.DataFrame) -> bytes:
        if self._suffix == ".csv":
            return frame.to_csv(index=False, header=self.parts == 0).encode()
        return self._stream(frame) if self._suffix == ".parquet" else _json_lines(frame).encode()

    def _stream(self, frame: pd.DataFrame) -> bytes:
        """An Arrow stream of its own: a Parquet file that is not whole has no end to go on from."""
        if len(frame) == 0:  # its columns have no types yet
            self._empty = frame
            return b""
        if self._schema is None:
            self._schema = self._first_schema(frame)
        try:
            table = pa.Table.from_pandas(frame, self._schema, preserve_index=False)
        except pa.ArrowException as error:
            raise SchemaError(
                f"{self.path}: every frame must have the types {self._schema}: {error}"
            ) from error
        kept = io.BytesIO()
        with ipc.new_stream(kept, self._schema) as stream:
            stream.write_table(table)
        return kept.getvalue()

    def _first_schema(self, frame: pd.DataFrame) -> pa.Schema:
        if self._done.size == 0:
            return _typed(frame)
        with pa.OSFile(str(self.folder / "rows")) as file, ipc.open_stream(file) as stream:
            return stream.schema

    def _finish(self) -> None:
        """The file in its place."""
        if self._suffix == ".parquet":
            self._join(self.folder / "whole")
            (self.folder / "whole").replace(self.path)
        else:
            (self.folder / "rows").replace(self.path)

    def _join(self, path: Path) -> None:
        """The streams as a Parquet file, one after the other."""
        if self._done.size == 0:
            parquet.ParquetWriter(path, _typed(self._empty)).close()
            return
        with pa.OSFile(str(self.folder / "rows")) as file, contextlib.ExitStack() as stack:
            writer: parquet.ParquetWriter | None = None
            while file.tell() < self._done.size:
                table = ipc.open_stream(file).read_all()
                if writer is None:
                    made = parquet.ParquetWriter(path, table.schema, use_dictionary=_words(table))
                    writer = stack.enter_context(made)
                writer.write_table(table)

    def _remove(self) -> None:
        for name in ("rows", "unreadable", "done.json", "done.part", "whole", "lock"):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's file lies in it
            self.folder.rmdir()


def _opened(path: Path, size: int) -> IO[bytes]:
    """The file, cut where its last whole part ends."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file


def _append(file: IO[bytes], held: bytes) -> int:
    """The file's size, when all of it is on the disk."""
    file.write(held)
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _lock(file: int, path: Path) -> None:
    """Until the file is closed, or the process dies. SpecError: another process holds it."""
    try:
        import fcntl
    except ImportError:  # not on Windows, where nobody keeps two runs apart
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SpecError(
            f"{path} is being written by another run; wait for it, or name another file with --out"
        ) from error
    except OSError:  # a file system without locks
        return


def _typed(frame: pd.DataFrame) -> pa.Schema:
    """The frame's, with text where it holds only missing values."""
    schema = pa.Table.from_pandas(frame, preserve_index=False).schema
    fields = [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema]
    # What pandas notes of Arrow's own lists, it cannot read again.
    arrow = [n for n, t in frame.dtypes.items() if isinstance(t, pd.ArrowDtype)]
    plain = frame.iloc[:0].astype(dict.fromkeys(arrow, object))
    return pa.schema(fields, pa.Schema.from_pandas(plain, preserve_index=False).metadata)


def _words(table: pa.Table) -> Any:
    """Columns whose values may repeat: a dictionary of a vector's numbers is larger than the vectors."""
    return [f.name for f in table.schema if not pa.types.is_fixed_size_list(f.type)]


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
