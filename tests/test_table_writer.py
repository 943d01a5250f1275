"""A file of results is whole or absent, and what was written before a break is never written again."""

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from multiadapt.data.bad_cells import BadCell
from multiadapt.data.table_writer import TableWriter
from multiadapt.errors import SchemaError, SpecError

SUFFIXES = [".csv", ".parquet", ".jsonl"]
FRAMES = [
    pd.DataFrame({"row": [i, i + 1], "said": [1 / (i + 1), np.nan], "word": ["Łódź", None]})
    for i in range(0, 8, 2)
]


class BreakError(Exception):
    """What ends a run."""


def broken(path: Path, frames: list[pd.DataFrame], bad: Sequence[Sequence[BadCell]] = ()) -> None:
    """A run that is broken off after these frames."""
    with TableWriter(path, {}) as writer:
        for frame, cells in zip_longest(frames, bad, fillvalue=()):
            writer.write(frame, bad=cells)
        raise BreakError


def write(path: Path, identity: dict[str, str], until: int = len(FRAMES)) -> int:
    """How many frames were there; a run that does not come to its end is broken off."""
    with TableWriter(path, identity) as writer:
        found = writer.parts
        for frame in FRAMES[found:until]:
            writer.write(frame)
        if until < len(FRAMES):
            raise BreakError
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_broken_run_is_continued_to_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    write(whole, {})
    for until in (1, 3):
        with pytest.raises(BreakError):
            write(path, {"the table": "1"}, until)
        assert not path.exists()
    assert write(path, {"the table": "1"}) == 3
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([whole, path])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_a_part_is_written_again(suffix: str, tmp_path: Path) -> None:
    """A kill may come between the bytes of a part and the note that it is whole."""
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    write(whole, {})
    with pytest.raises(BreakError):
        write(path, {}, 2)
    for name in ("rows", "unreadable", "done.part", "whole"):
        with (tmp_path / f".out{suffix}.parts" / name).open("ab") as file:
            file.write(b"half a part")
    assert write(path, {}) == 2
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([whole, path])


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"the table": "1"}, {"the table": "2"}, ("the table",)),
        ({"the table": "1", "--proba": "false"}, {"the table": "1"}, ("--proba",)),
        ({}, {"the mask": "1"}, ("the mask",)),
    ],
)
def test_another_run_begins_anew_and_says_what_is_other(
    before: dict[str, str], after: dict[str, str], changed: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(BreakError):
        write(path, before, 2)
    with TableWriter(path, after) as writer:
        assert (writer.changed, writer.parts) == (changed, 0)
        writer.write(FRAMES[0])
    assert pd.read_csv(path)["row"].tolist() == [0, 1]


@pytest.mark.parametrize("damage", ["rows", "unreadable", "done.json"])
def test_what_is_damaged_is_not_continued(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    cells = [BadCell(1, 1, "photo", "a.png", "no such file")]
    with pytest.raises(BreakError):
        broken(path, FRAMES[:1], [cells])
    (tmp_path / ".out.csv.parts" / damage).write_bytes(b"")
    assert write(path, {}) == 0
    assert len(pd.read_csv(path)) == 8


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_and_types_are_those_of_the_run_that_was_broken_off(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"out{suffix}"
    with pytest.raises(BreakError):
        write(path, {}, 1)
    with pytest.raises(SchemaError, match=r"must have \['row', 'said', 'word'\], got \['row'\]"):
        broken(path, [FRAMES[1][["row"]]])
    if suffix == ".parquet":
        with pytest.raises(SchemaError, match="must have the types row: int64"):
            broken(path, [FRAMES[1].assign(row=["x", "y"])])
    assert write(path, {}) == 1


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "out.csv"
    with TableWriter(path, {}) as writer:
        writer.write(FRAMES[0])
        with pytest.raises(SpecError, match=r"out.csv is being written by another run; wait"):
            write(path, {})
        writer.write(FRAMES[1])
    assert pd.read_csv(path)["row"].tolist() == [0, 1, 2, 3]


def test_unreadable_cells_outlive_a_break(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    cells = [BadCell(np.int64(i), i, "photo", f"{i}.png", "no such file") for i in range(4)]
    with pytest.raises(BreakError):
        broken(path, FRAMES[:2], [cells[:1], cells[1:3]])
    with TableWriter(path, {}) as writer:
        writer.write(FRAMES[2], bad=cells[3:])
        assert writer.bad == 4
        assert list(writer.bad_cells()) == cells


def test_lists_of_one_length_stay_that_and_may_be_missing(tmp_path: Path) -> None:
    flat = pa.array(np.arange(6, dtype=np.float32))
    lists = pa.FixedSizeListArray.from_arrays(flat, 3, mask=pa.array([False, True]))
    frame = pd.DataFrame({"row": [0, 1], "vector": pd.arrays.ArrowExtensionArray(lists)})
    with TableWriter(tmp_path / "v.parquet", {}) as writer:
        writer.write(frame)
    found = parquet.ParquetFile(tmp_path / "v.parquet").schema_arrow.field("vector").type
    assert (found.list_size, found.value_type) == (3, pa.float32())
    read = pd.read_parquet(tmp_path / "v.parquet")["vector"]
    assert read.iloc[1] is None
    np.testing.assert_array_equal(read.iloc[0], np.arange(3, dtype=np.float32))


def test_somebody_elses_file_in_the_folder_is_left(tmp_path: Path) -> None:
    (tmp_path / ".out.csv.parts").mkdir()
    (tmp_path / ".out.csv.parts" / "notes.txt").write_text("mine")
    write(tmp_path / "out.csv", {})
    assert (tmp_path / ".out.csv.parts" / "notes.txt").read_text() == "mine"


def test_what_is_noted_of_a_part_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(BreakError):
        write(tmp_path / "out.csv", {"the table": "1"}, 1)
    done = json.loads((tmp_path / ".out.csv.parts" / "done.json").read_text())
    assert (done["parts"], done["rows"], done["identity"]) == (1, 2, {"the table": "1"})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parts_without_rows_count_and_fix_no_types(suffix: str, tmp_path: Path) -> None:
    path, none = tmp_path / f"out{suffix}", FRAMES[0].iloc[:0].astype(object)
    with pytest.raises(BreakError):
        broken(path, [none, none])
    with TableWriter(path, {}) as writer:
        assert (writer.parts, writer.rows) == (2, 0)
        writer.write(FRAMES[0])
    write_alone = tmp_path / f"alone{suffix}"
    with TableWriter(write_alone, {}) as writer:
        writer.write(FRAMES[0])
    assert path.read_bytes() == write_alone.read_bytes()


def broken_off(out: Path, identity: dict[str, str], frame: pd.DataFrame) -> None:
    with TableWriter(out, identity) as writer:
        writer.write(frame)
        raise ZeroDivisionError


def no_note(*_: object) -> None:
    raise OSError("no room")


def test_bytes_of_another_run_are_never_taken_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, one, other = tmp_path / "a.csv", {"a": "1"}, {"a": "2"}
    frame = pd.DataFrame({"row": [0, 1], "x": ["A", "A"]})
    with pytest.raises(ZeroDivisionError):
        broken_off(out, one, frame)
    with monkeypatch.context() as patched:
        patched.setattr(TableWriter, "_save", no_note)
        with pytest.raises(OSError, match="no room"):
            broken_off(out, other, frame.assign(x="B"))
    with TableWriter(out, one) as writer:
        assert writer.read == 0
        writer.write(frame)
    assert pd.read_csv(out)["x"].tolist() == ["A", "A"]


def test_a_parquet_file_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    out, empty = tmp_path / "a.parquet", pd.DataFrame({"row": pd.Series([], dtype="int64")})
    with pytest.raises(ZeroDivisionError):
        broken_off(out, {}, empty)
    with TableWriter(out, {}) as writer:
        assert writer.parts == 1
    assert list(pd.read_parquet(out)) == ["row"]
