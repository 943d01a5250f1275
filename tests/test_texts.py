"""Text cells: what is missing, what becomes text, how columns are joined, which cells are refused."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiadapt.data.reading import Reading
from multiadapt.data.texts import texts
from multiadapt.errors import CellError
from multiadapt.types import Column, Stream

MISSING = [None, float("nan"), "", "  \n\t ", pd.NA, pd.NaT, np.nan, []]


def stream(*names: str) -> Stream:
    return Stream("text", "text", tuple(Column(n, "text", "declared") for n in names))


def read(cells: Any, **options: Any) -> list[list[str]]:
    return texts(pd.DataFrame({"note": cells}, **options), stream("note"))


@pytest.mark.parametrize("missing", MISSING)
def test_missing_cells_are_empty_lists(missing: object) -> None:
    cells = pd.Series(["a", missing, "b"], dtype=object)
    assert read(cells) == [["a"], [], ["b"]]


@pytest.mark.parametrize("kind", ["object", "string", "category"])
def test_any_column_type_of_text_reads_alike(kind: str) -> None:
    assert read(pd.Series(["a", None, " b ", ""], dtype=kind)) == [["a"], [], ["b"], []]


def test_numbers_and_booleans_become_text_however_the_table_holds_them() -> None:
    expected = [["7"], ["2.5"], []]
    assert read([7.0, 2.5, None]) == expected
    assert read(["7", "2.50", None]) == expected
    assert read(pd.Series([7, 2.5, None], dtype=object)) == expected
    assert read(pd.array([7, 8, None], dtype="Int64")) == [["7"], ["8"], []]
    assert read([True, False]) == read(["true", "FALSE"]) == [["True"], ["False"]]
    assert read([np.float32(1.5), Decimal("3.20"), date(2026, 11, 22)]) == [
        ["1.5"],
        ["3.2"],
        ["2026-11-22"],
    ]


@given(st.lists(st.text() | st.none(), max_size=6))
def test_every_text_is_kept_or_missing(cells: list[str | None]) -> None:
    found = read(pd.Series(cells, dtype=object))
    for cell, words in zip(cells, found, strict=True):
        assert words == ([] if cell is None or not cell.strip() else words)
        assert len(words) == bool(cell and cell.strip())
        assert all(word == word.strip() for word in words)


def test_emoji_and_mixed_scripts_stay_as_they_are() -> None:
    words = ["👩‍👩‍👧 ok", "Ωμέγα и кириллица 漢字 العربية", "e\u0301"]
    assert read(words) == [[w] for w in words]


def test_several_columns_are_one_text_with_their_names() -> None:
    frame = pd.DataFrame(
        {
            "title": ["Red shirt", None, " "],
            "size": [3, np.nan, np.nan],
            "other": ["x", "y", "z"],
            "note": ["two\nlines", "alone", None],
        }
    )
    assert texts(frame, stream("title", "size", "note")) == [
        ["title: Red shirt\nsize: 3\nnote: two\nlines"],
        ["note: alone"],
        [],
    ]


def test_no_row_is_no_text() -> None:
    assert read([]) == []
    assert texts(pd.DataFrame({"a": [], "b": []}), stream("a", "b")) == []


def test_the_table_is_untouched() -> None:
    frame = pd.DataFrame({"note": ["a", 1, None]}, index=["x", "y", "z"])
    kept = frame.copy(deep=True)
    texts(frame, stream("note"))
    pd.testing.assert_frame_equal(frame, kept)


def test_lists_and_objects_are_refused_with_row_and_column() -> None:
    frame = pd.DataFrame(
        {"note": ["a", ["b", "c"], "d"], "more": [b"raw", "ok", {"k": 1}]}, index=["x", "y", "z"]
    )
    with pytest.raises(CellError, match="3 hold something else") as caught:
        texts(frame, stream("note", "more"))
    report = str(caught.value)
    assert "row 'x' (position 0), column 'more': got b'raw'" in report
    assert "row 'y' (position 1), column 'note': got ['b', 'c']" in report
    assert "row 'z' (position 2), column 'more': got {'k': 1}" in report
    assert "Turn these cells into text" in report


def test_objects_are_missing_and_told_where_bad_cells_are(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"note": ["a", ["b", "c"]], "more": ["d", "e"]}, index=["x", "y"])
    reading = Reading(None, on_error="missing")
    assert texts(frame, stream("note"), [4, 5], reading) == [["a"], []]
    assert texts(frame, stream("note", "more"), [4, 5], reading)[1] == ["more: e"]
    reading.finish()
    assert "1 unreadable cells are taken as missing:\n  row 'y' (position 5), " in caplog.text
    assert "a cell of text must hold text, a number or nothing" in caplog.text
    with pytest.raises(CellError, match="1 hold something else"):
        texts(frame, stream("note"), None, Reading(None))


def test_a_report_counts_positions_in_the_callers_table() -> None:
    frame = pd.DataFrame({"note": ["a", np.ones(3)]}, index=["x", "y"])
    with pytest.raises(CellError, match=r"row 'y' \(position 41\), column 'note'"):
        texts(frame, stream("note"), positions=[40, 41])


def test_a_long_report_is_a_file() -> None:
    with pytest.raises(CellError, match="12 hold something else") as caught:
        read(pd.Series([["a"]] * 12, dtype=object))
    name = str(caught.value).partition("are listed in ")[2].splitlines()[0]
    assert len(Path(name).read_text(encoding="utf-8").splitlines()) == 13
    Path(name).unlink()
