"""A column of precomputed vectors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from multiadapt import U2A, Frozen, MultimodalRegressor, Training, load
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.data.batches import cells
from multiadapt.data.reading import Reading
from multiadapt.data.schema import guess_schema
from multiadapt.data.values import absent
from multiadapt.data.vectors import read_vector
from multiadapt.errors import CellError, SchemaError
from multiadapt.types import Column, Stream

ROWS = 40


def table(**columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(ROWS, 5))
    frame = pd.DataFrame({"size": rng.normal(size=ROWS), "price": vectors.sum(1) * 3})
    return frame.assign(vector=[*vectors], **columns)


def fitted(frame: pd.DataFrame, root: Path | None = None) -> MultimodalRegressor:
    model = MultimodalRegressor(
        Frozen(),
        encoders={"tabular": "mlp"},
        training=Training(epochs=3, batch_size=8),
        verbose=False,
    )
    return model.fit(frame, label="price", root=root)


@pytest.mark.parametrize("form", ["arrays", "lists", "files"])
def test_vectors_are_recognised_trained_on_and_come_back(form: str, tmp_path: Path) -> None:
    frame = table()
    if form == "lists":
        frame["vector"] = frame["vector"].map(list)
    if form == "files":
        for i, vector in enumerate(frame["vector"]):
            np.save(tmp_path / f"{i}.npy", vector)
        frame["vector"] = [f"{i}.npy" for i in range(ROWS)]
    frame.loc[3, "vector"] = None
    (column,) = (c for c in guess_schema(frame, root=tmp_path).columns if c.name == "vector")
    assert column.kind == "vector"
    model = fitted(frame, tmp_path)
    predicted = model.predict(frame, root=tmp_path)
    assert np.isfinite(predicted).all()
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").predict(frame, root=tmp_path)
    pd.testing.assert_series_equal(again, predicted)


def test_another_length_is_an_error_that_names_the_rows() -> None:
    model = fitted(table())
    frame = table()
    frame.at[2, "vector"] = np.zeros(4)
    with pytest.raises(CellError, match=r"row 2: .*'vector' must have 5 .* got 4"):
        model.predict(frame)
    model.set_params(column_types={"vector": "vector"})
    with pytest.raises(SchemaError, match=r"as many numbers, they have \[4, 5\]"):
        model.fit(frame, label="price")


VECTOR = Stream("vector", "vector", (Column("vector", "vector", ""),))


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA])
@pytest.mark.parametrize("form", [list, lambda v: np.array(v, dtype=object)])
def test_a_hole_in_a_vector_is_told_as_such(form: Callable, hole: object) -> None:
    values = [form([1.0] * 8 + [2.0]), form([1.0] * 8 + [hole])]
    frame = pd.DataFrame({"vector": pd.Series(values, dtype=object)})
    assert guess_schema(frame, root=None).columns[0].kind == "vector"
    reading = Reading(None)
    found = cells(frame, VECTOR, reading)
    assert [len(items) for items in found] == [1, 0]
    with pytest.raises(CellError, match=r"row 1, .*a vector must hold finite numbers, 1 are not"):
        reading.finish()


@pytest.mark.parametrize("empty", [[], (), np.array([]), np.array([], dtype=object), None])
def test_an_empty_vector_is_missing_everywhere(empty: object) -> None:
    frame = pd.DataFrame({"vector": pd.Series([[1.0, 2.0], empty], dtype=object)})
    reading = Reading(None)
    assert [len(items) for items in cells(frame, VECTOR, reading)] == [1, 0]
    reading.finish()
    assert absent(frame["vector"]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (["a", "b"], r"expected a vector of numbers, got shape \(2,\)"),
        (np.zeros((2, 3)), r"got shape \(2, 3\) of float64"),
        ([1.0, None, pd.NA], "must hold finite numbers, 2 are not"),
        ([1.0, np.nan], "must hold finite numbers, 1 are not"),
        ("none.npy", "no such file"),
        ("text.npy", "no .npy file of numbers"),
    ],
)
def test_what_is_no_vector_says_why(part: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("text")
    with pytest.raises(CellError, match=message):
        read_vector(part, tmp_path)


def test_columns_of_vectors_share_nothing() -> None:
    """Two columns have equal specs, but no network in common."""
    frame = table(other=[*np.random.default_rng(1).normal(size=(ROWS, 3))])
    model = MultimodalRegressor(
        U2A(adapter=Bottleneck()),
        encoders={"tabular": "mlp"},
        training=Training(epochs=1, batch_size=8),
        verbose=False,
    ).fit(frame, label="price")
    placed = {s.stream: a for s, a in model.fitted_.model.placed.items()}
    assert placed["vector"] is not placed["other"]


@pytest.mark.parametrize("missing", ["zero", "mean", "token", "error"])
def test_a_model_of_vectors_is_saved_with_every_filling(missing: str, tmp_path: Path) -> None:
    frame = table()[["vector", "size", "price"]]
    model = MultimodalRegressor(
        Frozen(missing=missing),  # type: ignore[arg-type]
        encoders={"tabular": "mlp"},
        training=Training(epochs=1, batch_size=8),
        verbose=False,
    ).fit(frame, label="price")
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").predict(frame)
    pd.testing.assert_series_equal(again, model.predict(frame))
