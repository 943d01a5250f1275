"""Kinds are guessed by stated rules, and cells mean the same whatever the reader made of them."""

import datetime
import decimal
import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multiadapt.data.batches import cells, tabular_cells
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema, guess_schema
from multiadapt.data.tables import read_chunks, read_table
from multiadapt.data.values import text
from multiadapt.errors import SchemaError
from multiadapt.types import Column

N = 40


def kind(values: object, name: str = "x", **options) -> tuple[str, str]:
    """Kind of the one column of a table, and why."""
    frame = pd.DataFrame({name: pd.Series(values)})
    (column,) = guess_schema(frame, root=None, **options).columns
    return column.kind, column.reason


def words(n: int, distinct: int, length: int) -> list[str]:
    return [" ".join([f"w{i % distinct}"] * length) for i in range(n)]


RULES = {
    "few numbers": (
        "x",
        [0, 1] * 20,
        "numeric",
        "40 of 40 values are numbers",
    ),
    "missing numbers": ("x", [1.5, None] * 20 + [2], "numeric", "21 of 21 values are numbers"),
    "number words": ("x", ["1", " 2.5 "] * 20, "numeric", "40 of 40 values are numbers"),
    "decimals": ("x", [decimal.Decimal("1.5"), 2] * 9, "numeric", "18 of 18 values are numbers"),
    "zipcode": (
        "zipcode",
        [90210, 85255] * 9,
        "numeric",
        '18 of 18 values are numbers; if they are codes, column_types={"zipcode": "categorical"}',
    ),
    "steps": (
        "x",
        range(5, 5 + 2 * N, 2),
        "identifier",
        "all 40 values differ and are whole numbers in steps of 2",
    ),
    "few in steps": ("age", range(19), "numeric", "19 of 19 values are numbers"),
    "id": (
        "user_id",
        [5, 9, 2],
        "identifier",
        "all 3 values differ and are whole numbers, and the name says id",
    ),
    "camel id": ("userId", [5, 9, 2], "identifier", "all 3 values differ"),
    "not an id": ("paid", [5, 9, 2], "numeric", "3 of 3 values are numbers"),
    "repeated id": ("user_id", [5, 9, 9], "numeric", "3 of 3 values are numbers"),
    "row numbers of a CSV": ("Unnamed: 0", range(3), "identifier", "all 3 values differ"),
    "codes": (
        "x",
        [f"u{i}" for i in range(N)],
        "identifier",
        "all 40 values differ and are single words",
    ),
    "booleans": ("x", [True, False] * 9, "categorical", "values are true or false"),
    "booleans or nothing": ("x", [True, False, None] * 9, "categorical", "2 distinct values in 18"),
    "words": (
        "x",
        words(N, 3, 1),
        "categorical",
        "3 distinct values in 40, 1.0 words on average",
    ),
    "three colours": ("x", ["red", "green", "blue"], "categorical", "3 distinct values in 3"),
    "mixed": (
        "x",
        ["a", "b", 1, 2.0] * 10,
        "categorical",
        "4 distinct values in 40, 1.0 words on average; 20 are numbers, the others not",
    ),
    "captions": (
        "x",
        words(200, 60, 7),
        "text",
        "60 of 200 values differ, 7.0 words on average",
    ),
    "names": ("x", words(N, N, 2), "text", "40 of 40 values differ, 2.0 words on average"),
    "nothing": ("x", [None, "", np.nan, " "], "ignore", "all values are missing"),
    "constant number": (
        "x",
        [3.0, 3.0, None],
        "ignore",
        "constant: all 2 values present are 3",
    ),
    "constant word": ("x", ["a", "a"], "ignore", "constant: all 2 values present are a"),
    "no rows": ("x", [], "ignore", "the table has no rows"),
    "dates": (
        "x",
        ["2026-01-31", "2026-02-01T10:30:00+02:00", ""],
        "datetime",
        "2 of 2 values are ISO 8601 dates",
    ),
    "date objects": ("x", [datetime.date(2026, 1, 1), datetime.date(2025, 1, 1)], "datetime", "2"),
    "timestamps": ("x", pd.date_range("2026-01-01", periods=3), "datetime", "3 of 3 values are"),
    "ambiguous dates": ("x", ["01/02/2026", "03/02/2026"] * 9, "categorical", "2 distinct values"),
    "today": ("x", ["today", "now"] * 9, "categorical", "2 distinct values"),
    "durations": (
        "x",
        pd.to_timedelta([1, 2], unit="h"),
        "ignore",
        "values of type timedelta64.* are not supported: turn them into numbers or words",
    ),
    "complex": ("x", [1j, 2j], "ignore", "values of type complex128 are not supported"),
    "lists": ("x", [[1, 2], [3]], "ignore", "lists of numbers of 2 lengths are not supported"),
    "bytes": ("x", [b"a", b"b"], "ignore", "values such as bytes are not supported"),
    "arrow words": (
        "x",
        pd.array(["a", None, "a b"], dtype=pd.ArrowDtype(pa.string())),
        "categorical",
        "2 distinct values in 2",
    ),
    "arrow decimals": (
        "x",
        pd.array([decimal.Decimal("1.5"), decimal.Decimal(2)], pd.ArrowDtype(pa.decimal128(9, 2))),
        "numeric",
        "2 of 2 values are numbers",
    ),
    "category": (
        "x",
        pd.Categorical([3, 5, 3]),
        "categorical",
        "the table's own type; 2 distinct values",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_kind_follows_its_rule_and_says_why(rule):
    name, values, expected, reason = RULES[rule]
    found, why = kind(values, name)
    assert found == expected, why
    assert pd.Series(why).str.match(reason).all(), why


def photos(root: Path, n: int = N) -> list[str]:
    (root / "photos").mkdir(exist_ok=True)
    for i in range(n):
        Image.new("RGB", (2, 2), (i, i, i)).save(root / "photos" / f"{i}.png")
    return [f"photos/{i}.png" for i in range(n)]


@pytest.mark.parametrize("form", ["text", "semicolons", "lists", "category", "bytes", "arrays"])
def test_files_that_all_open_are_images(form, tmp_path):
    names = photos(tmp_path)
    values = {
        "text": names,
        "semicolons": [f"{a};{b}" for a, b in zip(names[1:], names, strict=False)],
        "lists": [[a, a] for a in names],
        "category": pd.Categorical(names),
        "bytes": [(tmp_path / a).read_bytes() for a in names],
        "arrays": [np.zeros((2, 2, 3), np.uint8) for _ in names],
    }[form]
    frame = pd.DataFrame({"photo": pd.Series(values)})
    (column,) = guess_schema(frame, root=tmp_path).columns
    n = len(frame)
    assert (column.kind, column.reason) == (
        "image",
        f"{n} of {n} sampled values (seed 0) open as images",
    )


def test_one_file_that_does_not_open_is_told_with_the_remedy(tmp_path):
    names = photos(tmp_path)
    (tmp_path / names[3]).write_bytes(b"")
    frame = pd.DataFrame({"photo": names})
    with pytest.raises(
        SchemaError, match=r"39 of 40 sampled values .* not 'photos/3.png': the file is empty"
    ):
        guess_schema(frame, root=tmp_path)
    (column,) = guess_schema(frame, root=tmp_path, column_types={"photo": "image"}).columns
    assert (column.kind, column.reason) == ("image", "declared in column_types")
    (column,) = guess_schema(frame, root=tmp_path, column_types={"photo": "ignore"}).columns
    assert column.kind == "ignore"


def test_photos_under_another_root_are_told_with_the_remedy(tmp_path):
    with pytest.raises(SchemaError, match=r"0 of 40 .*no such file in .*Pass root= \(--root\)"):
        guess_schema(pd.DataFrame({"photo": photos(tmp_path)}), root=tmp_path / "x")


def test_few_pictures_among_words_are_left_out_with_a_warning(tmp_path, caplog):
    cells = [*photos(tmp_path)[:5], *(f"none {i}" for i in range(9))]
    (column,) = guess_schema(pd.DataFrame({"photo": cells}), root=tmp_path).columns
    assert column.kind == "ignore"
    assert "5 of 14 sampled values" in column.reason
    assert column.reason in caplog.text


MEDIA = {
    "audio": {"wav": b"RIFF\0\0\0\0WAVEfmt ", "flac": b"fLaC\0", "mp3": b"ID3\3"},
    "video": {
        "mp4": b"\0\0\0\x18ftypisom",
        "webm": b"\x1a\x45\xdf\xa3",
        "avi": b"RIFF\0\0\0\0AVI ",
    },
}


@pytest.mark.parametrize("expected", MEDIA)
def test_sounds_and_films_are_recognised(expected, tmp_path):
    names = []
    for suffix, start in MEDIA[expected].items():
        (tmp_path / f"a.{suffix}").write_bytes(start)
        names.append(f"a.{suffix}")
    schema = guess_schema(pd.DataFrame({"clip": names}), root=tmp_path)
    assert schema.columns[0].kind == expected
    assert schema.columns[0].reason.endswith(f"are {expected} files")
    assert [s.modality for s in schema.streams()] == [expected]


@pytest.mark.parametrize("content", [b"text", None])
@pytest.mark.parametrize("distinct", [1, 25])
def test_names_of_sounds_that_are_none_are_told_with_the_remedy(content, distinct, tmp_path):
    names = [f"bird/{i % distinct}.wav" for i in range(50)]
    why = "no such file" if content is None else "it does not begin as a .wav file does"
    if content:
        (tmp_path / "bird").mkdir()
        for name in names:
            (tmp_path / name).write_bytes(content)
    frame = pd.DataFrame({"clip": names})
    for table in (frame, frame.astype("category")):
        with pytest.raises(
            SchemaError,
            match=rf"column 'clip' holds names of sounds, but 0 of 50 sampled .*{why}.*"
            r'column_types=\{"clip": "audio"\}\. Pass root= \(--root\)',
        ):
            guess_schema(table, root=tmp_path)
    (column,) = guess_schema(frame, root=tmp_path, column_types={"clip": "audio"}).columns
    assert column.kind == "audio"


def test_one_sound_that_is_none_is_told_and_few_among_words_are_left_out(tmp_path, caplog):
    for i in range(5):
        (tmp_path / f"{i}.flac").write_bytes(b"fLaC")
    names = [f"{i}.flac" for i in range(6)]
    with pytest.raises(SchemaError, match=r"but 5 of 6 sampled .* not '5\.flac': no such file"):
        guess_schema(pd.DataFrame({"clip": names}), root=tmp_path)
    cells = pd.DataFrame({"clip": [*names[:5], "none", "none at all"]})
    (column,) = guess_schema(cells, root=tmp_path).columns
    assert column.kind == "ignore"
    assert "not 'none': its name ends in none of .wav, .flac" in column.reason
    assert column.reason in caplog.text


@pytest.mark.parametrize("there", [0, 3])
def test_names_of_films_are_never_words(there, tmp_path):
    for i in range(there):
        (tmp_path / f"cat{i}.mp4").write_bytes(MEDIA["video"]["mp4"])
    names = [f"cat{i % 5}.mp4" for i in range(50)]
    with pytest.raises(
        SchemaError, match=f"holds names of films, but {there * 10} of 50 sampled values"
    ):
        guess_schema(pd.DataFrame({"clip": names}), root=tmp_path)


def test_reserved_columns_are_no_features():
    frame = pd.DataFrame({"a": [1, 2, 4], "y": [1.0, np.inf, 2]})
    schema = guess_schema(frame, root=None, reserved={"y": "label", "elsewhere": "weight"})
    assert schema.lines() == ["a  numeric: 3 of 3 values are numbers", "y  ignore: used as label"]
    assert [c.name for s in schema.streams() for c in s.columns] == ["a"]


def test_declared_kinds_win():
    types = {"zipcode": "categorical", "note": "ignore", "day": "datetime", "few": "numeric"}
    frame = pd.DataFrame(
        {"zipcode": [1, 2], "note": ["a", "b"], "day": ["2026-01-01", None], "few": [7, 7]}
    )
    schema = guess_schema(frame, root=None, column_types=types)  # type: ignore[arg-type]
    assert {c.name: c.kind for c in schema.columns} == types


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (
            {"z": "image"},
            r"column_types names \['z'\], which are absent; the table has \['a', 'y'\]",
        ),
        ({"a": "picture"}, r"column_types\['a'\] must be one of .*'image'.*, got 'picture'"),
        ({"y": "numeric"}, r"names \['y'\], which have another role: \{'y': 'label'\}"),
        ({"a": "datetime"}, r"\n  row 0: column 'a' must hold dates as YYYY-MM-DD, .* got 1\n"),
    ],
)
def test_a_declaration_that_cannot_hold_is_an_error(types, message):
    frame = pd.DataFrame({"a": [1, 2], "y": [3, 4]})
    with pytest.raises(SchemaError, match=message):
        guess_schema(frame, root=None, column_types=types, reserved={"y": "label"})


@pytest.mark.parametrize("join_text", [False, True])
def test_streams_are_the_table_first_then_each_column_of_items(join_text):
    kinds = (
        "image", "numeric", "text", "audio", "datetime", "identifier", "categorical", "text", "video",
    )  # fmt: skip
    columns = tuple(Column(f"c{i}", kind, "") for i, kind in enumerate(kinds))
    schema = Schema(columns, join_text=join_text)
    texts = (
        [("text", "text", ["c2", "c7"])]
        if join_text
        else [("c2", "text", ["c2"]), ("c7", "text", ["c7"])]
    )
    found = [(s.name, s.modality, [c.name for c in s.columns]) for s in schema.streams()]
    assert found[0] == ("tabular", "tabular", ["c1", "c4", "c6"])
    items = [(f"c{i}", kind, [f"c{i}"]) for i, kind in ((0, "image"), (3, "audio"), (8, "video"))]
    assert sorted(found[1:]) == sorted([*items, *texts])
    assert Schema.from_dict(schema.to_dict()) == schema


def test_a_text_column_may_not_take_the_name_of_the_joined_texts(tmp_path):
    words = [f"{i} word in a long line of words" for i in range(40)]
    frame = pd.DataFrame({"a": words, "b": words, "text": photos(tmp_path)[:1] * 40})
    with pytest.raises(
        SchemaError, match="a column of kind image may not be called 'text', the joined"
    ):
        guess_schema(frame, root=tmp_path, join_text=True)
    assert len(guess_schema(frame, root=tmp_path).streams()) == 3


def test_an_absent_column_is_missing_in_every_row_and_told(caplog):
    schema = guess_schema(
        pd.DataFrame({"a": [1.0, 2.0], "word": ["x", "y"]}),
        root=None,
        column_types={"word": "categorical"},
    )
    with caplog.at_level("WARNING", "multiadapt"):
        found = schema.conform(pd.DataFrame({"a": [3.0]}, index=["row"]))
    assert found.index.tolist() == ["row"]
    assert found["word"].isna().all()
    assert r"columns ['word'] are absent: they are taken as missing" in caplog.text


def test_an_absent_column_is_renamed_only_to_one_that_has_no_role(caplog):
    frame = pd.DataFrame({"price1": [1.0, 2.0], "size": [2.0, 3.0], "price": [1, 2], "price2": 5})
    schema = guess_schema(frame, root=None, reserved={"price": "label"})
    # `price` is the label and `price2` is ignored
    found = schema.conform(frame.drop(columns="price1"))
    assert found["price1"].isna().all()
    assert "columns ['price1'] are absent" in caplog.text
    with pytest.raises(SchemaError, match="'price1' may be 'price3', renamed"):
        schema.conform(frame.rename(columns={"price1": "price3"}))


def test_an_image_column_may_not_be_called_tabular(tmp_path):
    frame = pd.DataFrame({"tabular": photos(tmp_path)})
    with pytest.raises(SchemaError, match="a column of kind image may not be called 'tabular'"):
        guess_schema(frame, root=tmp_path)


def test_a_column_may_not_be_called_as_a_part_of_a_date():
    frame = pd.DataFrame({"when": ["2026-01-01", "2026-01-02"], "when.year": [2, 3]})
    with pytest.raises(
        SchemaError,
        match=r"column 'when\.year' has the name of a part of the datetime column 'when': rename one",
    ):
        guess_schema(frame, root=None)
    for other in ({"when.year": "ignore"}, {"when": "ignore"}, {"when": "categorical"}):
        schema = guess_schema(frame, root=None, column_types=other)
        (stream,) = schema.streams()
        tabular_cells(schema.conform(frame), stream)


def test_a_schema_survives_json(tmp_path):
    frame = pd.DataFrame({"photo": photos(tmp_path), "a": range(N)})
    schema = guess_schema(frame, root=tmp_path, max_files=3)
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    assert str(tmp_path) not in json.dumps(schema.to_dict())


def test_guessing_leaves_the_table_alone_and_repeats_itself(tmp_path):
    frame = pd.DataFrame({"photo": photos(tmp_path), "a": words(N, 3, 1), 5: range(N)})
    kept = frame.copy(deep=True)
    assert guess_schema(frame, root=tmp_path) == guess_schema(frame, root=tmp_path)
    pd.testing.assert_frame_equal(frame, kept)


# The cells of a batch

MIXED = Schema(
    (
        Column("size", "numeric", ""),
        Column("code", "categorical", ""),
        Column("day", "datetime", ""),
    )
)


def mixed(**columns) -> pd.DataFrame:
    """Tabular cells of a table of size, code and day."""
    (stream,) = MIXED.streams()
    return tabular_cells(MIXED.conform(pd.DataFrame(columns)), stream)


def test_tabular_cells_are_numbers_names_and_a_calendar():
    found = mixed(
        size=["1.5", "", None],
        code=[1, 2.5, np.nan],
        day=["2026-11-22T06:30", "1969-12-31", None],
    )
    assert list(found) == ["size", "code"] + [
        f"day.{part}" for part in ("year", "month", "day", "weekday", "hour", "days")
    ]
    assert found["code"].tolist() == ["1", "2.5", None]
    assert found["code"].dtype == object
    assert set(found.drop(columns="code").dtypes) == {np.dtype("float64")}
    np.testing.assert_array_equal(found["size"], [1.5, np.nan, np.nan])
    days = (datetime.date(2026, 11, 22) - datetime.date(1970, 1, 1)).days
    assert found.filter(like="day").iloc[0].tolist() == [2026, 11, 22, 6, 6.5, days + 6.5 / 24]
    assert found.filter(like="day").iloc[1].tolist() == [1969, 12, 31, 2, 0, -1]
    assert found.filter(like="day").iloc[2].isna().all()


@pytest.mark.parametrize(
    "values",
    [
        ["1", "0"],
        ["01", "-0"],
        [1, 0],
        [1.0, 0.0],
        ["1.0", "0."],
        [np.int8(1), "00"],
        pd.array([1, 0], dtype="Int64"),
        pd.Categorical([1, 0]),
        pl.Series([1, 0]).to_pandas(),
    ],
    ids=repr,
)
def test_a_category_has_one_name_whatever_the_reader_made_of_it(values):
    found = mixed(size=[1, 2], code=values, day=[None, None])
    assert found["code"].tolist() == ["1", "0"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "True"),
        ("TRUE", "True"),
        (np.bool_(False), "False"),
        ("-007.50", "-7.5"),
        (".5", "0.5"),
        ("1e5", "1e5"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("9" * 5000, "9" * 5000),
        (" x ", "x"),
        ("", None),
        (pd.NaT, None),
    ],
)
def test_names_of_categories(value, name):
    assert text(value) == name


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()))
def test_naming_a_category_twice_changes_nothing(value):
    assert text(text(value)) == text(value)


def test_chunks_conform_to_what_the_whole_table_is(tmp_path):
    rows = {"size": ["1", "", "2.5"], "code": ["01", "true", "b"], "day": ["", "", "2026-01-01"]}
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    whole = MIXED.conform(read_table(tmp_path / "a.csv").frame)
    chunks = [MIXED.conform(chunk) for chunk in read_chunks(tmp_path / "a.csv", 1)]
    pd.testing.assert_frame_equal(pd.concat(chunks), whole)


def test_conforming_keeps_rows_index_and_the_table_itself():
    frame = pd.DataFrame(
        {"extra": [0, 1, 2], "size": [3, 1, 2], "code": ["c", "a", "b"], "day": None}
    )
    frame.index = [7, 7, 5]
    kept = frame.copy(deep=True)
    once = MIXED.conform(frame)
    assert list(once) == ["size", "code", "day"]
    assert once.index.tolist() == [7, 7, 5]
    assert once["size"].tolist() == [3, 1, 2]
    pd.testing.assert_frame_equal(MIXED.conform(once), once)
    pd.testing.assert_frame_equal(frame, kept)


def test_no_rows_conform():
    (stream,) = MIXED.streams()
    frame = MIXED.conform(pd.DataFrame({"size": [], "code": [], "day": []}))
    assert tabular_cells(frame, stream).shape == (0, 8)


def test_cells_go_to_the_reader_of_their_stream(tmp_path):
    frame = pd.DataFrame({"photo": [*photos(tmp_path, 2), None], "a": [1, 2, 3]}, index=[2, 2, 9])
    schema = guess_schema(frame, root=tmp_path)
    table, photo = schema.streams()
    reading = Reading(tmp_path)
    assert cells(frame, table, reading)["a"].tolist() == [1, 2, 3]  # type: ignore[index]
    assert [len(row) for row in cells(frame, photo, reading)] == [1, 1, 0]  # type: ignore[attr-defined]
