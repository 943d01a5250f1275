"""Bad tables end in an error that names row, column, value and remedy; nothing is guessed or dropped."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from multiadapt.data.batches import tabular_cells
from multiadapt.data.images import read_image
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema, guess_schema
from multiadapt.data.tables import read_chunks, read_table
from multiadapt.errors import SchemaError
from multiadapt.types import Column

SCHEMA = Schema(
    (
        Column("area", "numeric", ""),
        Column("town", "categorical", ""),
        Column("day", "datetime", ""),
        Column("photo", "image", ""),
        Column("note", "ignore", ""),
    )
)
GOOD = {"area": [1, 2], "town": ["a", "b"], "day": ["2026-01-01", ""], "photo": ["", None]}


def table(**changes) -> pd.DataFrame:
    """A table that fits the schema, but for the changes."""
    return pd.DataFrame(GOOD | changes, index=["r1", "r2"])


# Files


def both(path: Path) -> None:
    """Read it whole and in chunks: the first error is the caller's."""
    try:
        read_table(path)
    finally:
        with pytest.raises(SchemaError):
            list(read_chunks(path, 10))


@pytest.mark.parametrize("name", ["absent.csv", "absent.parquet", "absent.arrow"])
def test_a_missing_file_is_an_error(name, tmp_path):
    with pytest.raises(
        SchemaError, match=rf"{name}: there is no such file \(the current folder is"
    ):
        both(tmp_path / name)


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(SchemaError, match=r"a\.csv: is a folder, not a file"):
        both(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.csv.gz"])
def test_an_unknown_suffix_is_an_error(name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(SchemaError, match=r"a table must be one of \.csv, \.parquet, .*, got '"):
        both(tmp_path / name)


@pytest.mark.parametrize("lines", [0, 400_000], ids=["small", "over a block"])
def test_a_csv_that_is_not_utf8_names_the_byte_and_the_remedy(lines, tmp_path):
    start = b"a,b\n" + b"x,y\n" * lines + "Łódź,".encode()
    (tmp_path / "a.csv").write_bytes(start + "Gdańsk\n".encode("iso8859-2"))
    at = len(start) + len("Gda")
    with pytest.raises(SchemaError, match=rf'UTF-8; byte {at} is not.*encoding="latin-1"'):
        read_table(tmp_path / "a.csv")
    with pytest.raises(SchemaError, match=rf"UTF-8; byte {at} is not"):
        list(read_chunks(tmp_path / "a.csv", 100_000))


def test_utf16_is_not_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(SchemaError, match="a CSV file must be UTF-8; byte 0 is not"):
        both(tmp_path / "a.csv")


def test_an_empty_csv_has_no_column(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\n")
    with pytest.raises(
        SchemaError, match=r"a\.csv: a table must have at least one column, got none"
    ):
        both(tmp_path / "a.csv")


def test_a_table_without_columns_is_an_error():
    with pytest.raises(SchemaError, match="a table must have at least one column, got none"):
        read_table(pd.DataFrame(index=[0, 1]))


@pytest.mark.parametrize("line", [b"1,2,3\n4,5,6\n", b"1,2\n4,5,6\n"], ids=["all", "one"])
def test_a_line_with_too_many_fields_is_an_error(line, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + line)
    with pytest.raises(SchemaError, match=r"a\.csv: not a readable .csv table: .*"):
        both(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
@pytest.mark.parametrize("content", [b"", b"not a table at all", b"ARROW1\0\0cut", b"PAR1cut"])
def test_a_malformed_file_is_an_error(suffix, content, tmp_path):
    (tmp_path / f"a.{suffix}").write_bytes(content)
    with pytest.raises(SchemaError, match=rf"a\.{suffix}: not a readable \.{suffix} table: "):
        both(tmp_path / f"a.{suffix}")


def test_duplicate_column_names_are_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(SchemaError, match=r"a\.csv: column names must differ; repeated: \['a'\]"):
        both(tmp_path / "a.csv")
    with pytest.raises(SchemaError, match=r"repeated: \['a'\]: rename or drop one of each"):
        read_table(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(SchemaError, match=r"repeated: \['1'\]"):
        read_table(pd.DataFrame([[1, 2]], columns=[1, "1"]))
    with pytest.raises(SchemaError, match=r"repeated: \['a'\]"):
        read_table(pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(SchemaError, match=r"repeated: \['area'\]"):
        SCHEMA.conform(pd.DataFrame([[1, 2]], columns=["area", "area"]))


# Columns


def test_absent_columns_are_missing_and_named(caplog):
    found = SCHEMA.conform(table().drop(columns=["town", "photo"]))
    assert found[["town", "photo"]].isna().all(axis=None)
    assert "columns ['town', 'photo'] are absent" in caplog.text


def test_a_table_without_any_known_column_is_an_error():
    with pytest.raises(
        SchemaError,
        match=r"columns \['area', 'town', 'day', 'photo'\] are declared but absent; the table has",
    ):
        SCHEMA.conform(table()[["note"]] if "note" in table() else pd.DataFrame({"x": [1]}))


def test_a_renamed_column_is_suggested():
    with pytest.raises(SchemaError, match=r"\('photo' may be 'photos', renamed\): add or rename"):
        SCHEMA.conform(table().rename(columns={"photo": "photos"}))


def test_an_extra_column_and_an_absent_unused_one_change_nothing():
    found = SCHEMA.conform(table(extra=[1, 2]))
    pd.testing.assert_frame_equal(found, SCHEMA.conform(table(note=[1, 2])))


def test_a_column_all_nan_or_constant_is_left_out_and_said():
    frame = pd.DataFrame({"nan": [np.nan] * 3, "same": [4] * 3, "a": [1, 2, 2]})
    schema = guess_schema(frame, root=None)
    assert schema.lines() == [
        "nan   ignore: all values are missing",
        "same  ignore: constant: all 3 values present are 4",
        "a     numeric: 3 of 3 values are numbers",
    ]


def test_a_column_all_nan_at_predict_is_missing():
    assert (
        SCHEMA.conform(table(area=[np.nan] * 2, town=None))[["area", "town"]].isna().all(axis=None)
    )


def test_one_row_and_no_rows_have_a_schema():
    for rows in (1, 0):
        assert [c.kind for c in guess_schema(table()[:rows], root=None).columns] == ["ignore"] * 4
        assert len(SCHEMA.conform(table()[:rows])) == rows


def test_a_duplicate_index_keeps_every_row_in_place():
    frame = table(area=[5, 6]).set_axis(["r", "r"])
    found = SCHEMA.conform(frame)
    assert found["area"].tolist() == [5, 6]
    assert found.index.tolist() == ["r", "r"]
    with pytest.raises(SchemaError, match=r"row 'r' \(position 1\): column 'area' .* got 'x'"):
        SCHEMA.conform(frame.assign(area=[5, "x"]))


# Values


@pytest.mark.parametrize("value", [np.inf, -np.inf, "inf"])
def test_infinities_name_row_and_column(value):
    frame = table(area=[1.0, value])
    message = (
        r"1 are neither:\n  row 'r2' \(position 1\): column 'area' must hold finite numbers, got '?-?inf'?"
        r"\nRepair them, or leave them empty \(missing\)$"
    )
    stream = SCHEMA.streams()[0]
    for check in (
        SCHEMA.conform,
        lambda f: tabular_cells(f, stream),
        lambda f: guess_schema(f, root=None),
        lambda f: guess_schema(f, root=None, column_types={"area": "numeric"}),
    ):
        with pytest.raises(SchemaError, match=message):
            check(frame)


def test_a_few_words_among_numbers_are_an_error_not_nan():
    values = [*range(97), "n/a", "?", *range(3)]
    with pytest.raises(
        SchemaError,
        match=r"2 are neither:\n  row 97: column 'x' must hold numbers, got 'n/a'\n  row 98: column 'x' "
        r"must hold numbers, got '\?'\nRepair them.*column_types=\{\"x\": \"categorical\"\}",
    ):
        guess_schema(pd.DataFrame({"x": values}), root=None)
    frame = pd.DataFrame({"x": values})
    schema = guess_schema(frame, root=None, column_types={"x": "categorical"})
    assert schema.conform(frame)["x"].tolist()[96:99] == ["96", "n/a", "?"]


def test_many_words_among_numbers_make_words():
    (column,) = guess_schema(pd.DataFrame({"x": [1, 2, 3, "many"] * 9}), root=None).columns
    assert column.kind == "categorical"


def test_a_word_among_numbers_at_predict_names_row_column_and_value():
    with pytest.raises(
        SchemaError,
        match=r"1 are neither:\n  row 'r2' \(position 1\): column 'area' must hold numbers, got 'x'\n",
    ):
        SCHEMA.conform(table(area=[1, "x"]))


def test_all_bad_cells_of_all_columns_are_one_report_of_which_ten_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    n = 12
    frame = pd.DataFrame({"area": ["x"] * n, "town": "a", "day": "soon", "photo": ""})
    frame.loc[0, "area"] = "inf"
    with pytest.raises(SchemaError) as caught:
        SCHEMA.conform(frame)
    text = str(caught.value)
    assert text.startswith(
        f"every cell must be of its column's kind or missing; {2 * n} are neither:\n"
        "  row 0: column 'area' must hold finite numbers, got 'inf'\n"
        "  row 0: column 'day' must hold dates as YYYY-MM-DD, with or without a time, got 'soon'\n"
        "  row 1: column 'area' must hold numbers, got 'x'\n"
    )
    assert text.count("\n  row ") == 10
    assert 'or fit with column_types={"area": "categorical", "day": "categorical"}' in text
    (kept,) = tmp_path.iterdir()
    assert f"\n  and 14 more; all 24 are listed in {kept}\n" in text
    listed = pd.read_csv(kept)
    assert list(listed) == ["row", "position", "column", "value", "reason"]
    assert listed["row"].tolist() == np.arange(n).repeat(2).tolist()
    assert listed["column"].tolist() == ["area", "day"] * n


def test_bad_cells_of_all_columns_at_fit_are_one_report_by_their_place_in_the_table():
    words = [None, *range(97), "n/a", "?"]
    frame = pd.DataFrame({"words": words, "large": [np.nan, np.inf, *range(98)], "day": "soon"})
    with pytest.raises(
        SchemaError,
        match=r"103 are neither:\n  row 0: column 'day' .*\n  row 1: column 'day' .*\n  row 1: column "
        r"'large' must hold finite numbers, got inf\n",
    ):
        guess_schema(frame, root=None, column_types={"day": "datetime"})
    with pytest.raises(SchemaError, match=r"\n  row 98: column 'words' .* got 'n/a'\n  row 99: "):
        guess_schema(frame[["words"]], root=None)


def test_ten_bad_cells_or_fewer_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SchemaError, match=r"10 are neither:(\n  row \d: .*){10}\nRepair"):
        Schema((Column("area", "numeric", ""),)).conform(pd.DataFrame({"area": ["x"] * 10}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["31/12/2026", "2026-13-01", "soon", 20_260_101])
def test_a_cell_that_is_no_date_names_row_column_and_value(value):
    with pytest.raises(
        SchemaError, match=rf"column 'day' must .* YYYY-MM-DD, .* got '?{value}'?\n"
    ):
        SCHEMA.conform(table(day=["2026-01-01", value]))


@pytest.mark.parametrize("values", [pd.date_range("2026", periods=2), [[1], [2]], [1j, 2j]])
def test_dates_and_objects_are_no_numbers(values):
    with pytest.raises(
        SchemaError, match=r"2 are neither:(\n .* column 'area' must hold numbers.*){2}"
    ):
        SCHEMA.conform(table(area=values))


def test_objects_are_no_categories():
    with pytest.raises(
        SchemaError, match="column 'town' must hold words or numbers, it holds lists"
    ):
        SCHEMA.conform(table(town=[["a"], ["b"]]))


def test_an_unseen_category_is_a_category_not_a_missing_cell():
    assert SCHEMA.conform(table(town=["new", "a"]))["town"].tolist() == ["new", "a"]


# Files of cells, through a whole table


def test_one_corrupt_file_in_a_hundred_leaves_all_others_aligned(tmp_path):
    for i in range(100):
        Image.new("RGB", (3, 2), (i, i, i)).save(tmp_path / f"{i}.png")
    (tmp_path / "37.png").write_bytes((tmp_path / "37.png").read_bytes()[:40])
    frame = pd.DataFrame({"n": range(100), "photo": [f"{i}.png" for i in range(100)]})
    frame.sample(frac=1, random_state=1).to_csv(tmp_path / "table.csv", index=False)
    schema = Schema((Column("n", "numeric", ""), Column("photo", "image", "")))
    reading, start = Reading(tmp_path, on_error="missing"), 0
    for chunk in read_chunks(tmp_path / "table.csv", 7):
        frame = schema.conform(chunk)
        for n, found in zip(
            frame["n"],
            reading.items(frame["photo"], read_image, range(start, start + len(frame))),
            strict=True,
        ):
            assert [int(image[0, 0, 0]) for image in found] == ([] if n == 37 else [n])
        start += len(chunk)
    (bad,) = reading.bad
    assert (bad.value, bad.row) == ("'37.png'", bad.position)
    assert start == 100


def test_a_moved_table_finds_its_files_by_root(tmp_path):
    (tmp_path / "old").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "old" / "a.png")
    pd.DataFrame({"photo": ["a.png"] * 2}).to_csv(tmp_path / "old" / "t.csv", index=False)
    (tmp_path / "new").mkdir()
    shutil.move(tmp_path / "old" / "t.csv", tmp_path / "new" / "t.csv")
    found = read_table(tmp_path / "new" / "t.csv", root=tmp_path / "old")
    assert len(Reading(found.root).items(found.frame["photo"], read_image)[0]) == 1
