"""Splits are seeded, keep classes and groups, and lose no row; overlaps are counted."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multiadapt.data.schema import guess_schema
from multiadapt.data.splits import LeakWarning, folds, group_codes, holdout, warn_straddling
from multiadapt.errors import SpecError

ROWS = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n).map(np.array),
        st.none() | st.lists(st.integers(0, 9), min_size=n, max_size=n).map(np.array),
        st.integers(0, 5),
    )
)


@given(ROWS, st.sampled_from([0.1, 0.2, 0.5, 0.9]))
def test_holdout_loses_no_row_and_no_class_and_splits_no_group(rows, fraction):
    strata, groups, seed = rows
    n = len(strata)
    train, held = holdout(n, fraction=fraction, seed=seed, strata=strata, groups=groups)
    assert sorted([*train, *held]) == list(range(n))
    assert set(strata[train]) == set(strata)
    if groups is not None:
        assert not set(groups[train]) & set(groups[held])


@given(st.integers(0, 300), st.integers(0, 5))
def test_holdout_without_classes_takes_its_fraction(n, seed):
    train, held = holdout(n, fraction=0.2, seed=seed)
    assert len(held) == (max(1, round(n * 0.2)) if n > 1 else 0)
    assert sorted([*train, *held]) == list(range(n))


def test_holdout_gives_every_class_its_share():
    strata = np.repeat(["a", "b", "c"], [100, 50, 10])
    held = holdout(160, fraction=0.2, strata=strata)[1]
    assert pd.Series(strata[held]).value_counts().to_dict() == {"a": 20, "b": 10, "c": 2}


def test_holdout_with_groups_comes_near_its_fraction():
    groups, strata = np.repeat(np.arange(100), 5), np.tile([0, 1, 1, 1, 1], 100)
    held = holdout(500, fraction=0.2, strata=strata, groups=groups)[1]
    assert len(held) == 100
    assert strata[held].mean() == 0.8


def test_two_large_groups_give_one_of_them():
    held = holdout(10, groups=np.repeat(["a", "b"], [7, 3]))[1]
    assert held.tolist() == [7, 8, 9]


def test_missing_groups_stand_alone():
    groups = np.array([None] * 10, dtype=object)
    assert len(holdout(10, groups=groups)[1]) == 2


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, ""], ids=repr)
def test_groups_have_whole_numbers_and_missing_ones_each_their_own(missing):
    codes = group_codes(np.array(["b", missing, 1, "b", missing, 1], dtype=object))
    assert codes.dtype.kind == "i"
    assert sorted(set(codes)) == [0, 1, 2, 3]
    assert (codes[0], codes[2]) == (codes[3], codes[5])
    assert codes[1] != codes[4]


@pytest.mark.parametrize("values", [[1.0, np.nan, 1.0], ["a", "b", "a"], [True, False, True]])
def test_groups_of_one_type_have_numbers_too(values):
    one, other, same = group_codes(np.array(values))
    assert one == same != other


@given(ROWS, st.integers(2, 4))
def test_folds_validate_every_row_once_and_split_no_group(rows, k):
    strata, groups, seed = rows
    n = len(strata)
    if k > (n if groups is None else len(set(groups))):
        k = 2
        groups = None
    parts = folds(n, k, seed=seed, strata=strata, groups=groups)
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(n))
    for train, held in parts:
        assert sorted([*train, *held]) == list(range(n))
        assert len(held)
        if groups is not None:
            assert not set(groups[train]) & set(groups[held])
        else:
            assert len(held) in (n // k, -(-n // k))


def test_folds_are_balanced_within_each_class():
    strata = np.repeat([0, 1, 2], [50, 13, 2])
    for _, held in folds(65, 5, strata=strata):
        counts = np.bincount(strata[held], minlength=3)
        assert counts[0] == 10
        assert counts[1] in (2, 3)
        assert counts[2] in (0, 1)


@pytest.mark.parametrize("groups", [None, np.arange(50) // 2])
def test_a_seed_decides_the_split(groups):
    one, two, other = (holdout(50, seed=seed, groups=groups)[1].tolist() for seed in (1, 1, 2))
    assert one == two
    assert one != other
    one, two, other = (folds(50, 5, seed=seed, groups=groups)[0][1].tolist() for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_splits_that_cannot_be_made_are_errors():
    with pytest.raises(SpecError, match=r"fraction must be between 0 and 1, got 1.0"):
        holdout(10, fraction=1.0)
    with pytest.raises(SpecError, match=r"k must be between 2 and .* rows or groups, 3; got 4"):
        folds(3, 4)
    with pytest.raises(SpecError, match=r"rows or groups, 2; got 3"):
        folds(4, 3, groups=np.array([0, 0, 1, 1]))
    with pytest.raises(SpecError, match=r"one value per row, 4; got 3"):
        holdout(4, strata=np.zeros(3))


@pytest.fixture
def parts(tmp_path):
    """Rows 0-4 and 5-9 of a table with a photo each, all different, and an owner each."""
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.bmp")  # all of one size
    frame = pd.DataFrame({"photo": [f"{i}.bmp" for i in range(10)], "owner": list("abcdefghij")})
    return {"train": frame[:5].copy(), "val": frame[5:].copy()}


def straddling(parts, root, groups=None) -> list[str]:
    schema = guess_schema(parts["train"], root=root)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_straddling(parts, schema, root, groups)
    assert all(issubclass(w.category, LeakWarning) for w in caught)
    return [str(w.message) for w in caught]


def test_parts_that_share_nothing_warn_nobody(parts, tmp_path):
    assert straddling(parts, tmp_path, "owner") == []


def test_equal_files_on_both_sides_are_counted(parts, tmp_path):
    (tmp_path / "6.bmp").write_bytes((tmp_path / "1.bmp").read_bytes())
    parts["val"].loc[7, "photo"] = "7.bmp;2.bmp"
    parts["val"].loc[8, "photo"] = "absent.bmp"  # is for the reading to report
    (message,) = straddling(parts, tmp_path)
    assert message.startswith("2 files stand in both train and val, byte for byte, for example ")


def test_equal_groups_on_both_sides_are_counted(parts, tmp_path):
    parts["val"]["owner"] = ["a", "a", "b", "z", None]
    (message,) = straddling(parts, tmp_path, "owner")
    assert message.startswith(
        "2 values of 'owner' stand in both train and val, in 5 rows, for exam"
    )


def test_only_files_of_equal_size_are_read(parts, tmp_path, monkeypatch):
    from pathlib import Path

    for i in range(10):
        with (tmp_path / f"{i}.bmp").open("ab") as file:
            file.write(b"\0" * i)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read"))
    schema = guess_schema(parts["train"], root=tmp_path, column_types={"photo": "image"})
    warn_straddling(parts, schema, tmp_path, None)
