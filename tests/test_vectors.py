"""A column of precomputed vectors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from multiadapt import Frozen, MultimodalRegressor, Training, load
from multiadapt.data.schema import guess_schema
from multiadapt.data.vectors import read_vector
from multiadapt.errors import CellError, SchemaError

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
    with pytest.raises(CellError, match=r"among rows 0, 1, 2, 3: .*'vector' must have 5 .* got 4"):
        model.predict(frame)
    model.set_params(column_types={"vector": "vector"})
    with pytest.raises(SchemaError, match=r"as many numbers, they have \[4, 5\]"):
        model.fit(frame, label="price")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (["a", "b"], r"expected a vector of numbers, got shape \(2,\)"),
        (np.zeros((2, 3)), r"got shape \(2, 3\) of float64"),
        ([1.0, np.nan], "must hold finite numbers, 1 are not"),
        ("none.npy", "no such file"),
        ("text.npy", "no .npy file of numbers"),
    ],
)
def test_what_is_no_vector_says_why(part: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("text")
    with pytest.raises(CellError, match=message):
        read_vector(part, tmp_path)
