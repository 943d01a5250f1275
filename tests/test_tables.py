"""Tables in and out: every format gives the same cells, and a file is whole or absent."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiadapt.data.table_writer import TableWriter
from multiadapt.data.tables import did_you_mean, read_chunks, read_table
from multiadapt.errors import SchemaError

FRAME = pd.DataFrame(
    {
        "rooms": [3, 4, 5, 6],
        "price": [0.1, 1 / 3, np.nan, 1e-17],
        "town": ["Oslo", None, "Łódź", "a,b"],
        "sold": [True, False, True, True],
        "split": ["train", "test", "train", None],
    }
)


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_all(path: Path, *frames: pd.DataFrame) -> None:
    with TableWriter(path, {}) as writer:
        for frame in frames:
            writer.write(frame)


WRITERS = {
    "a.csv": lambda frame, path: frame.to_csv(path, index=False),
    "b.CSV": lambda frame, path: frame.to_csv(path, index=False, encoding="utf-8-sig"),
    "c.parquet": lambda frame, path: frame.to_parquet(path),
    "d.feather": lambda frame, path: frame.to_feather(path),
    "e.arrow": lambda frame, path: write_stream(pa.Table.from_pandas(frame), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_cells(name, tmp_path):
    WRITERS[name](FRAME, tmp_path / name)
    table = read_table(tmp_path / name)
    pd.testing.assert_frame_equal(table.frame, FRAME, check_dtype=False)
    assert table.root == tmp_path


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_chunks_are_the_table_in_order(name, rows, tmp_path):
    WRITERS[name](FRAME, tmp_path / name)
    chunks = list(read_chunks(tmp_path / name, rows))
    assert max(map(len, chunks)) <= rows
    assert [list(chunk) for chunk in chunks] == [list(FRAME)] * len(chunks)
    assert [label for chunk in chunks for label in chunk.index] == [0, 1, 2, 3]
    whole = pd.concat([chunk.astype(object) for chunk in chunks])
    pd.testing.assert_frame_equal(whole, read_table(tmp_path / name).frame.astype(object))


@pytest.mark.parametrize("name", WRITERS)
def test_chunks_that_are_passed_over_change_no_other(name, tmp_path):
    WRITERS[name](FRAME, tmp_path / name)
    whole = list(read_chunks(tmp_path / name, 3))
    (rest,) = read_chunks(tmp_path / name, 3, skip=1)
    pd.testing.assert_frame_equal(rest, whole[1])
    assert not list(read_chunks(tmp_path / name, 3, skip=2))


@pytest.mark.parametrize("name", WRITERS)
def test_a_table_in_storage_is_read_as_a_local_one(name, tmp_path):
    WRITERS[name](FRAME, tmp_path / name)
    table = read_table(f"file://{tmp_path / name}")
    pd.testing.assert_frame_equal(table.frame, read_table(tmp_path / name).frame)
    assert table.root is None
    stored, local = (
        list(read_chunks(p, 3)) for p in (f"file://{tmp_path / name}", tmp_path / name)
    )
    for one, other in zip(stored, local, strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file://FOLDER/none.csv", "none.csv: there is no such file"),
        ("file://FOLDER/none.xlsx", "a table must be one of .csv"),
        ("nowhere://bucket/table.csv", "no storage that pyarrow opens"),
        ("file://FOLDER/latin.csv", "latin.csv: a CSV file must be UTF-8; byte 6 is not"),
    ],
)
def test_storage_that_has_no_table_is_an_error(uri, message, tmp_path):
    (tmp_path / "latin.csv").write_bytes("name\nJ\u00fcrgen\n".encode("latin-1"))
    with pytest.raises(SchemaError, match=message):
        read_table(uri.replace("FOLDER", str(tmp_path)))


@pytest.mark.parametrize("name", WRITERS)
def test_no_rows_is_one_empty_chunk_with_the_columns(name, tmp_path):
    WRITERS[name](FRAME.iloc[:0], tmp_path / name)
    assert list(read_table(tmp_path / name).frame) == list(FRAME)
    (chunk,) = read_chunks(tmp_path / name, 10)
    assert (len(chunk), list(chunk)) == (0, list(FRAME))


def test_a_folder_that_says_split_adds_no_column(tmp_path):
    (tmp_path / "split=test").mkdir()
    FRAME[["rooms"]].to_parquet(tmp_path / "split=test" / "a.parquet")
    assert list(read_table(tmp_path / "split=test" / "a.parquet").frame) == ["rooms"]


@pytest.mark.parametrize(
    "source",
    [FRAME, pl.DataFrame(FRAME), pl.LazyFrame(FRAME), pa.Table.from_pandas(FRAME)],
    ids=["pandas", "polars", "polars lazy", "arrow"],
)
def test_frames_of_other_libraries_are_read(source):
    table = read_table(source)
    pd.testing.assert_frame_equal(table.frame, FRAME, check_dtype=False)
    assert table.root is None


def test_polars_lists_stay_several_files_in_a_cell():
    frame = read_table(pl.DataFrame({"photo": [["a.jpg", "b.jpg"], []]})).frame
    assert [list(cell) for cell in frame["photo"]] == [["a.jpg", "b.jpg"], []]


def test_the_callers_frame_is_taken_as_it_is():
    frame = FRAME.set_axis([7, 7, 7, 8])
    kept = frame.copy(deep=True)
    assert read_table(frame, root="photos").root == Path("photos")
    assert read_table(frame).frame is frame
    pd.testing.assert_frame_equal(frame, kept)


def test_column_names_become_text_without_touching_the_table():
    frame = pd.DataFrame(np.zeros((2, 2)))
    assert list(read_table(frame).frame) == ["0", "1"]
    assert list(frame) == [0, 1]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("split=train", [0, 2]),
        ("split!=train", [1, 3]),
        ("split=", [3]),
        (" rooms = 4.0 ", [1]),
        ("sold=false", [1]),
        ("town=a,b", [3]),
    ],
)
def test_where_keeps_rows_by_text(where, rows):
    assert read_table(FRAME, where=where).frame.index.tolist() == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("split=val", r"where='split=val' keeps no row; 'split' holds \['train', 'test', ''\]"),
        ("splt=test", "no column 'splt'; the table has .*'split'"),
        ("split", "where must be column=value or column!=value, got 'split'"),
    ],
)
def test_where_that_means_nothing_is_an_error(where, message):
    with pytest.raises(SchemaError, match=message):
        read_table(FRAME, where=where)


def test_a_source_of_another_kind_is_an_error():
    with pytest.raises(SchemaError, match=r"pyarrow Table, got builtins\.dict"):
        read_table({"a": [1]})  # type: ignore[arg-type]


READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ".ndjson"])
def test_written_chunks_come_back(suffix, tmp_path):
    path = tmp_path / "new" / f"out{suffix}"
    with TableWriter(path, {}) as writer:
        writer.write(FRAME.iloc[:1])
        writer.write(FRAME.iloc[1:])
        assert not path.exists()
    if suffix in READERS:
        found = READERS[suffix](path)
    else:
        found = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    pd.testing.assert_frame_equal(found, FRAME, check_dtype=False)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_json_lines_keep_every_bit(values):
    from multiadapt.data.table_writer import _json_lines

    lines = _json_lines(pd.DataFrame({"y": values})).splitlines()
    assert [json.loads(line)["y"] for line in lines] == values


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_an_error_leaves_the_older_file_and_what_was_written(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    path.write_text("older")
    with pytest.raises(ZeroDivisionError), TableWriter(path, {}):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SchemaError, match="got"):
        write_all(path, FRAME, FRAME[["rooms"]])
    assert path.read_text() == "older"
    assert sorted(tmp_path.iterdir()) == [tmp_path / f".out{suffix}.parts", path]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_nothing_written_is_an_empty_file(suffix, tmp_path):
    with TableWriter(tmp_path / f"out{suffix}", {}):
        pass
    assert (tmp_path / f"out{suffix}").exists()


def test_a_column_missing_in_the_first_chunk_may_hold_text_later(tmp_path):
    with TableWriter(tmp_path / "out.parquet", {}) as writer:
        writer.write(pd.DataFrame({"note": pd.Series([None], dtype=object)}))
        writer.write(pd.DataFrame({"note": ["late"]}))
    assert pd.read_parquet(tmp_path / "out.parquet")["note"].tolist()[1] == "late"


def test_chunks_that_do_not_fit_together_are_an_error(tmp_path):
    with pytest.raises(SchemaError, match=r"must have \['a'\], got \['b'\]"):
        write_all(tmp_path / "a.csv", pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}))
    with pytest.raises(SchemaError, match="every frame must have the types a: int64"):
        write_all(tmp_path / "a.parquet", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": ["x"]}))


def test_results_go_to_known_formats_only():
    with pytest.raises(SchemaError, match=r"results must go to .csv, .*, got '.xlsx'"):
        TableWriter("out.xlsx", {})


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_a_csv_file_of_another_separator_says_which(sign, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"size{sign}price\n1,5{sign}2\n")
    said = re.escape(f"seems to be by {sign!r}, its header is the one name {f'size{sign}price'!r}")
    for read in (read_table, lambda path: list(read_chunks(path, 5))):
        with pytest.raises(SchemaError, match=f"t.csv: .*{said}.*sep="):
            read(path)


def test_one_column_or_a_sign_in_one_of_several_names_is_a_table(tmp_path):
    (tmp_path / "one.csv").write_text("size\n1\n")
    (tmp_path / "two.csv").write_text("a;b,c\n1,2\n")
    assert list(read_table(tmp_path / "one.csv").frame) == ["size"]
    assert list(read_table(tmp_path / "two.csv").frame) == ["a;b", "c"]


@pytest.mark.parametrize(
    ("absent", "question"),
    [
        (["prize"], ": did you mean 'price'?"),
        (["PRICE", "nothing"], ": did you mean 'price'?"),
        (["prise", "gruop"], ": did you mean 'price' and 'group'?"),
        (["nothing"], ""),
        ([], ""),
    ],
)
def test_a_misspelt_name_is_asked_about(absent, question):
    assert did_you_mean(absent, ["size", "price", "group"]) == question


def test_a_misspelt_column_of_where_is_asked_about():
    with pytest.raises(SchemaError, match=r"no column 'sise'.*: did you mean 'size'"):
        read_table(pd.DataFrame({"size": [1]}), where="sise=1")
