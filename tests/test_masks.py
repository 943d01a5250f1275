"""Masks: who loses what, how they are kept, and what a table looks like under one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiadapt.data.masks import BOTH, Mask, apply, draw, opened, present
from multiadapt.data.schema import Schema
from multiadapt.errors import SchemaError, SpecError
from multiadapt.types import Column, Kind

NAMES = ["tabular", "photo", "note"]


def complete(rows: int, names: list[str] = NAMES) -> pd.DataFrame:
    return pd.DataFrame(True, index=range(rows), columns=names)


def schema(**kinds: Kind) -> Schema:
    return Schema(tuple(Column(name, kind, "declared") for name, kind in kinds.items()))


SCHEMA = schema(size="numeric", code="categorical", photo="image", note="text")


def small() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": [1, 2, 3, 4],
            "code": [2**60 + 1, 2, 3, 4],
            "photo": ["a.png", "b.png", "c.png", None],
            "note": ["one", "two", "", "four"],
            "price": [1.0, 2.0, 3.0, 4.0],
        },
        index=[7, 7, 8, 9],
    )


@settings(max_examples=25)
@given(st.integers(2, 60), st.floats(0, 1), st.integers(0, 5))
def test_exactly_the_rate_is_drawn_and_both_evenly(rows: int, rate: float, seed: int) -> None:
    there = complete(rows)
    for modality in [BOTH, *NAMES]:
        removed = draw(there, rate, modality, seed).removed
        assert removed.to_numpy().sum() == removed.any(axis=1).sum() == round(rate * rows)
        if modality == BOTH:
            counts = removed.sum()
            assert counts.max() - counts.min() <= 1
        else:
            assert removed[modality].sum() == round(rate * rows)


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=30), st.integers(0, 3))
def test_no_row_loses_all_and_smaller_rates_lie_within_larger(rows: list, seed: int) -> None:
    there = pd.DataFrame(rows, columns=NAMES)
    for modality in [BOTH, *NAMES]:
        before = np.zeros(there.shape, bool)
        for rate in (0.0, 0.2, 0.5, 0.9, 1.0):
            removed = draw(there, rate, modality, seed).removed.to_numpy()
            assert not (there.any(axis=1) & ~(there & ~removed).any(axis=1)).any()
            assert removed[before].all()
            before = removed


def test_same_seed_same_holes_and_another_seed_others() -> None:
    there = complete(50)
    first, same, other = (draw(there, 0.5, seed=seed) for seed in (0, 0, 1))
    assert first.digest == same.digest != other.digest


def test_a_row_with_one_modality_keeps_it_and_the_share_is_said() -> None:
    there = complete(10)
    there.loc[:3, ["photo", "note"]] = False
    mask = draw(there, 1.0, "tabular")
    assert not mask.removed["tabular"][:4].any()
    assert mask.reached == 0.6
    assert mask.remark == (
        "rate 1 of tabular: 6 of 10 rows lose 'tabular' (a share of 0.6); the others lack it or "
        "have nothing else"
    )
    assert draw(there, 0.6, "tabular").remark == ""
    both = draw(there, 1.0)
    assert both.reached == 0.6
    assert "6 of 10 rows lose one modality" in both.remark


@settings(max_examples=25)
@given(
    st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=30),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_only_what_is_there_is_taken_and_the_rate_is_of_all_rows(
    rows: list, rate: float, seed: int
) -> None:
    there = pd.DataFrame(rows, columns=NAMES)
    for modality in [BOTH, *NAMES]:
        mask = draw(there, rate, modality, seed)
        assert not (mask.removed & ~there).to_numpy().any()
        can = there.sum(axis=1) >= 2
        if modality != BOTH:
            can &= there[modality]
        lost, wanted = int(mask.removed.to_numpy().sum()), round(rate * len(there))
        assert lost == min(wanted, int(can.sum()))
        assert mask.reached == lost / len(there)
        assert bool(mask.remark) == (lost < wanted)
        assert f"{mask.reached:.3g} of {len(there)} rows lose something" in mask.description


def test_both_takes_only_what_a_row_has() -> None:
    there = complete(30)
    there.loc[:9, "photo"] = False
    removed = draw(there, 1.0).removed
    assert not removed["photo"][:10].any()
    assert removed.sum().tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("rate", "modality", "seed", "names", "error", "message"),
    [
        (1.5, BOTH, 0, NAMES, SpecError, r"rate must be in 0\.\.1, got 1\.5"),
        (float("nan"), BOTH, 0, NAMES, SpecError, r"rate must be in 0\.\.1, got nan"),
        (0.5, "sound", 0, NAMES, SpecError, "'both' or one of .*, got 'sound'"),
        (0.5, BOTH, -1, NAMES, SpecError, "seed must be at least 0, got -1"),
        (0.5, BOTH, 0, ["photo"], SchemaError, r"one of several .* \['photo'\] alone"),
        (0.5, BOTH, 0, ["photo", "both"], SchemaError, "'both' stands for any .* rename"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    rate: float, modality: str, seed: int, names: list[str], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        draw(complete(4, names), rate, modality, seed)


# Files


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_mask_comes_back_from_its_file(suffix: str, tmp_path: Path) -> None:
    mask = draw(complete(20), 0.3, "photo", seed=4)
    path = tmp_path / "deep" / f"mask.{suffix}"
    mask.save(path)
    found = opened(path)
    pd.testing.assert_frame_equal(found.removed, mask.removed)
    assert (found.modality, found.rate, found.seed) == ("photo", 0.3, 4)
    assert found.digest == mask.digest
    assert {f.name for f in path.parent.iterdir()} <= {path.name, f"{path.name}.json"}


def test_a_file_that_another_program_wrote_is_a_mask_too(tmp_path: Path) -> None:
    mask = draw(complete(6), 0.5)
    mask.removed.to_parquet(tmp_path / "plain.parquet")
    mask.removed.to_csv(tmp_path / "plain.csv", index=False)
    for name in ("plain.parquet", "plain.csv"):
        found = opened(str(tmp_path / name))
        assert found.digest == mask.digest
        assert found.rate is None
        assert found.remark == ""
    assert opened(mask.removed).digest == opened(mask).digest == mask.digest


def test_a_mask_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.csv"
    draw(complete(6), 0.5).save(path)
    path.write_text(path.read_text().replace("True", "False", 1))
    with pytest.raises(SchemaError, match="must be as it was drawn, 6 rows with the digest"):
        opened(path)
    path.with_name("mask.csv.json").write_text("{")
    with pytest.raises(SchemaError, match=r"mask\.csv\.json is not JSON"):
        opened(path)


@pytest.mark.parametrize("values", [[0, 1], ["yes", "no"], [True, None]])
def test_a_mask_holds_booleans(values: list[object]) -> None:
    with pytest.raises(SchemaError, match=r"True \(removed\) and False .*'photo': '"):
        opened(pd.DataFrame({"photo": values}))
    with pytest.raises(SchemaError, match="some cells are empty: draw one"):
        opened(pd.DataFrame({"photo": pd.array([True, None], dtype="boolean")}))


def test_a_mask_is_kept_as_parquet_or_csv(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"kept as \.parquet or \.csv, got '\.json'"):
        draw(complete(2), 0.0).save(tmp_path / "mask.json")
    with pytest.raises(SchemaError, match=r"kept as \.parquet or \.csv, got '\.xlsx'"):
        opened(tmp_path / "mask.xlsx")
    with pytest.raises(SchemaError, match="there is no such file"):
        opened(tmp_path / "mask.csv")


# On a table


def test_what_a_row_has_is_read_from_its_cells() -> None:
    frame = small()
    frame.loc[9, ["size", "code"]] = np.nan
    found = present(frame.drop(columns="size"), SCHEMA)
    assert found.to_numpy().tolist() == [
        [True, True, True],
        [True, True, True],
        [True, True, False],
        [False, False, True],
    ]
    assert list(found) == NAMES


def test_cells_under_a_mask_are_empty_and_all_others_as_they_were() -> None:
    frame = small()
    kept = frame.copy(deep=True)
    removed = pd.DataFrame({"tabular": [False, True, False, True], "photo": [True] + [False] * 3})
    found = apply(frame, SCHEMA, Mask(removed))
    pd.testing.assert_frame_equal(frame, kept)
    assert found.index.equals(frame.index)
    assert (
        found["size"].isna().tolist() == found["code"].isna().tolist() == [False, True, False, True]
    )
    assert found["code"].iloc[0] == 2**60 + 1  # a float would have rounded it
    assert found["photo"].isna().tolist() == [True, False, False, True]
    pd.testing.assert_frame_equal(found[["note", "price"]], kept[["note", "price"]])


def test_a_mask_without_holes_changes_nothing_whatever_the_types() -> None:
    frame = small().assign(
        code=pd.Series([True, False, True, False], index=[7, 7, 8, 9]),
        size=pd.date_range("2026-01-01", periods=4),
    )
    kinds = schema(size="datetime", code="categorical", photo="image", note="text")
    removed = pd.DataFrame(False, index=range(4), columns=NAMES)
    pd.testing.assert_frame_equal(apply(frame, kinds, Mask(removed)), frame)
    removed.loc[1, "tabular"] = True
    found = kinds.conform(apply(frame, kinds, Mask(removed)))
    expected = kinds.conform(frame)
    expected.iloc[1, [0, 1]] = [pd.NaT, None]
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"photo": [True] * 3}, "one row for each of the 4 rows of the table, got 3: draw it"),
        ({"sound": [True] * 4}, r"modalities of the table, \['tabular', .*\['sound'\] too: draw"),
        (
            {"tabular": [True] * 4, "photo": [True] * 4, "note": [False] * 4},
            r"1 rows lose all they have:\n  row 8 \(position 2\)\nDraw one",
        ),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(removed: dict, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        apply(small(), SCHEMA, Mask(pd.DataFrame(removed)))


def test_a_mask_of_other_row_labels_is_refused() -> None:
    removed = pd.DataFrame({"photo": [True, False, False, False]})
    frame = small().set_axis([7, 6, 8, 9])
    expected = apply(frame, SCHEMA, opened(removed))
    same = removed.set_axis(frame.index)
    pd.testing.assert_frame_equal(apply(frame, SCHEMA, opened(same)), expected)
    part = apply(frame.iloc[:2], SCHEMA, opened(same), 0)
    pd.testing.assert_frame_equal(SCHEMA.conform(part), SCHEMA.conform(expected.iloc[:2]))
    for other in (same.sort_index(), removed.iloc[::-1]):
        with pytest.raises(SchemaError, match=r"index of the table, .* the table's \[7, 6, 8\] "):
            apply(frame, SCHEMA, opened(other))


@pytest.mark.parametrize("source", [np.zeros((4, 1), bool), [True, False], 3])
def test_what_is_no_mask_is_told(source: object) -> None:
    with pytest.raises(SchemaError, match=f"a mask must be a .*; got {type(source).__name__}"):
        opened(source)


def test_a_table_in_chunks_is_masked_as_the_whole() -> None:
    frame = small()
    mask = draw(present(frame, SCHEMA), 0.75, seed=2)
    parts = [apply(frame.iloc[i : i + 3], SCHEMA, mask, i) for i in (0, 3)]
    found = [SCHEMA.conform(table) for table in (pd.concat(parts), apply(frame, SCHEMA, mask))]
    pd.testing.assert_frame_equal(*found)
    with pytest.raises(SchemaError, match="each of the at least 6 rows of the table, got 4"):
        apply(frame, SCHEMA, mask, 2)
