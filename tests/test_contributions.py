"""Which modality pays: exact Shapley values of a metric, and of the score of a row."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import NAMES, Scripted, scripted_table

from multiadapt import MultimodalClassifier, MultimodalRegressor, TIAdapter, Training
from multiadapt.cli import main
from multiadapt.errors import SpecError, TargetError
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.reports._coalitions import Sample
from multiadapt.reports.contributions import Contributions, contributions, explain, shapley_weights

ALL = {"tabular": 1.0, "photo": 2.0, "note": 0.0}


def by_orders(values: Sequence[float], modalities: int) -> list[float]:
    """The average over all orders of what a modality adds to those before it."""
    total, orders = np.zeros(modalities), list(permutations(range(modalities)))
    for order in orders:
        coalition = 0
        for i in order:
            total[i] += values[coalition | 1 << i] - values[coalition]
            coalition |= 1 << i
    return (total / len(orders)).tolist()


def found(frame: pd.DataFrame, metric: str | None = None, **options: object) -> Contributions:
    model = Scripted(frame, options.pop("weights", ALL), **options)  # type: ignore[arg-type]
    label = frame["kind" if options.get("label") else "y"]
    return contributions(model, Sample(frame), label, np.ones(len(frame)), metric)


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_shapley_values_are_the_average_over_all_orders(modalities: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=2**modalities)
    shares = shapley_weights(modalities) @ values
    np.testing.assert_allclose(shares, by_orders(values, modalities), atol=1e-12)
    assert shares.sum() == pytest.approx(values[-1] - values[0], abs=1e-12)


@pytest.mark.parametrize("metric", ["r2", "mae"])
def test_values_of_the_coalitions_are_the_metric_of_rows_with_holes(metric: str) -> None:
    frame = scripted_table()
    own = found(frame, metric, product=0.5)
    model = Scripted(frame, ALL, product=0.5)
    for line in own.coalitions.to_dict("records"):
        outside = [column for stream, column in NAMES.items() if not line[stream]]
        scores = model.answer(frame.assign(**dict.fromkeys(outside, np.nan)), None).scores
        assert line["value"] == pytest.approx(model.target.values(scores, frame["y"])[metric])
    sign = -1 if metric == "mae" else 1
    expected = by_orders([sign * v for v in own.coalitions["value"]], 3)
    np.testing.assert_allclose(own.table["gain"], expected, atol=1e-12)


@pytest.mark.parametrize("metric", ["r2", "rmse"])
def test_gains_sum_to_full_minus_empty(metric: str) -> None:
    own = found(scripted_table(), metric, product=0.5)
    assert (own.metric, own.lower_is_better) == (metric, metric == "rmse")
    gained = (own.full - own.empty) * (-1 if own.lower_is_better else 1)
    assert own.table["gain"].sum() == pytest.approx(gained, abs=1e-12)
    assert gained > 0


def test_equal_modalities_gain_alike_and_an_idle_one_nothing() -> None:
    frame = scripted_table()
    frame["photo"] = frame["size"]
    own = found(frame, "r2", weights={"tabular": 1.0, "photo": 1.0, "note": 0.0}).table
    assert own["gain"]["tabular"] == pytest.approx(own["gain"]["photo"])
    assert own["gain"]["note"] == pytest.approx(
        0, abs=1e-3
    )  # but for the prior: alone it predicts 0
    assert own["without"]["tabular"] == pytest.approx(own["without"]["photo"])


def test_alone_and_without_are_the_metric_itself() -> None:
    own = found(scripted_table(), "rmse")
    values = own.coalitions.set_index(list(NAMES))["value"]
    assert own.table["alone"]["photo"] == values[False, True, False]
    assert own.table["without"]["photo"] == values[True, False, True]
    assert own.full == values[True, True, True]
    assert own.empty == values[False, False, False]


def test_nothing_at_all_is_worth_the_prior() -> None:
    frame = scripted_table()
    own = found(frame, "rmse")
    assert own.empty == pytest.approx(frame["y"].std(ddof=0))


def test_a_modality_that_helps_pays_and_one_that_does_not_is_told_so() -> None:
    frame = scripted_table(200)
    pays, also, no, how = found(frame, "rmse").sentences
    assert pays.startswith("tabular pays: +")
    assert also.startswith("photo pays: +")
    assert pays.endswith("] less rmse")
    assert no.startswith("note: the answer is no: ")
    assert "putting zeros in their place" in how
    harm = found(frame, "r2", weights=ALL | {"note": 4.0}).sentences[2]
    assert harm.startswith("note: the answer is no: -")
    assert harm.endswith(" r2, it harms")
    assert "putting mask tokens in" in found(frame, missing="token").sentences[-1]


def test_intervals_hold_the_gain_and_narrow_with_rows() -> None:
    widths: list[pd.Series] = []
    for rows in (30, 400):
        table = found(scripted_table(rows), "mae").table
        assert (table["low"] <= table["gain"]).all()
        assert (table["gain"] <= table["high"]).all()
        widths.append(table["high"] - table["low"])
    assert widths[1]["photo"] < widths[0]["photo"] / 2


def test_what_is_undefined_is_no_answer() -> None:
    frame = scripted_table()
    frame.loc[frame.index[0], "kind"] = "up"
    some = frame[frame["kind"] == "up"]
    model = Scripted(frame, ALL, label="kind")
    own = contributions(model, Sample(some), some["kind"], np.ones(len(some)), "roc_auc")
    assert own.sentences[0].startswith("tabular: no answer: ")


def test_costs_count_what_a_modality_needs(
    small: MultimodalClassifier, table: pd.DataFrame
) -> None:
    own = small.contributions(table.iloc[:20])
    parts = small.parameters().set_index("part")[["trainable", "frozen"]].sum(axis=1)
    # Both picture columns share one network and its adapters, so both are told all of it.
    expected = 4e-6 * sum(parts[p] for p in parts.index if "front" in p)
    assert (
        own.table["megabytes"]["front"] == own.table["megabytes"]["back"] == pytest.approx(expected)
    )
    assert own.table["megabytes"]["tabular"] == pytest.approx(
        4e-6 * sum(parts[p] for p in parts.index if "tabular" in p)
    )
    assert (own.table["seconds_per_row"] > 0).all()
    assert own.table["seconds_per_row"]["front"] > own.table["seconds_per_row"]["tabular"]
    assert own.full == small.evaluate(table.iloc[:20])["value"]["accuracy"]


@pytest.mark.parametrize("kind", ["error", "metric", "rows"])
def test_what_cannot_be_measured_is_said(kind: str) -> None:
    frame = scripted_table()
    if kind == "error":
        with pytest.raises(SpecError, match='missing="error" refuses rows that lack one: fit with'):
            found(frame, missing="error")
    elif kind == "metric":
        with pytest.raises(SpecError, match="no metric of this task is named 'accuracy'"):
            found(frame, "accuracy")
    else:
        model = Scripted(frame, ALL)
        with pytest.raises(TargetError, match="at least one labelled row to score, got 0"):
            contributions(model, Sample(frame[:0]), frame["y"][:0], np.ones(0))


def test_more_than_eight_modalities_are_refused() -> None:
    frame = scripted_table()
    model = Scripted(frame, ALL)
    model.model.streams = tuple(f"photo{i}" for i in range(9))
    with pytest.raises(SpecError, match=r"at most 8 modalities \(256 passes .*, got 9: \['photo0'"):
        contributions(model, Sample(frame), frame["y"], np.ones(len(frame)))


# Single rows


def test_a_row_s_values_sum_to_its_score_over_what_it_has() -> None:
    frame = scripted_table()
    frame.loc[frame.index[:5], "photo"] = np.nan
    frame.loc[frame.index[3:5], ["note", "size"]] = np.nan
    model = Scripted(frame, ALL, product=0.5)
    rows = explain(model, Sample(frame))
    assert rows.index.equals(frame.index)
    assert (
        rows[[*NAMES]].isna().to_numpy().tolist()
        == frame[[*NAMES.values()]].isna().to_numpy().tolist()
    )
    assert np.allclose(rows[[*NAMES]].sum(axis=1) + rows["prior"], rows["score"])
    assert rows["prediction"].equals(rows["score"])
    assert rows["prior"].to_numpy() == pytest.approx(frame["y"].mean())
    assert rows["score"].iloc[3] == rows["prior"].iloc[3]  # it has nothing
    size = frame["size"].iloc[0]
    # Without a photo the score is the size; the note adds 0, and alone stands for 0.
    np.testing.assert_allclose(
        rows.iloc[0][["tabular", "note"]].to_numpy(float),
        by_orders([frame["y"].mean(), size, 0.0, size], 2),
        atol=1e-5,
    )


def test_a_class_is_explained_by_its_probability() -> None:
    frame = scripted_table()
    model = Scripted(frame, ALL, label="kind")
    own, up, down = (explain(model, Sample(frame), of) for of in (None, "up", "down"))
    probability = model.target.probabilities(model.answer(frame, None).scores)
    assert (
        own["prediction"].tolist()
        == model.target.predict(model.answer(frame, None).scores).tolist()
    )
    np.testing.assert_allclose(own["score"], probability.max(1), rtol=1e-6)
    np.testing.assert_allclose(up["score"], probability[:, 1], rtol=1e-6)
    np.testing.assert_allclose(up[[*NAMES]], -down[[*NAMES]], atol=1e-6)
    with pytest.raises(SpecError, match=r"of must be one of \['down', 'up'\], got 'sideways'"):
        explain(model, Sample(frame), "sideways")


def test_what_a_row_cannot_be_asked_is_said(
    photos: Path, network: Path, table: pd.DataFrame
) -> None:
    frame = scripted_table()
    with pytest.raises(
        SpecError, match="a regression has one value and no classes; leave of='up' out"
    ):
        explain(Scripted(frame, ALL), Sample(frame), "up")
    labels = pd.DataFrame({"a": [0, 1] * 10, "b": [1, 1, 0, 0] * 5})
    model = MultimodalClassifier("trees", verbose=False).fit(
        table.iloc[:20][["size", "colour"]], labels
    )
    with pytest.raises(SpecError, match=r"several labels; name the one to explain .* \['a', 'b'\]"):
        model.explain(table.iloc[:2])
    assert set(model.explain(table.iloc[:2], of="b")["prediction"]) == {"b"}


# Estimators and the shell


@pytest.fixture(scope="module")
def small(photos: Path, network: Path) -> MultimodalClassifier:
    model = MultimodalClassifier(
        TIAdapter(ImageBranch("bc1"), missing="token"),  # type: ignore[arg-type]
        encoders={"image": str(network), "tabular": "mlp"},
        training=Training(epochs=1, batch_size=16),
        device="cpu",
        verbose=False,
    )
    table = pd.read_parquet(photos / "table.parquet").iloc[:30].drop(columns="price")
    return model.fit(table, label="kind", root=photos)  # type: ignore[return-value]


def test_a_table_a_series_and_a_mapping_are_explained_alike(
    small: MultimodalClassifier, table: pd.DataFrame
) -> None:
    table = table.drop(columns="kind").iloc[:3]
    rows = small.explain(table)
    probability = small.predict_proba(table)
    np.testing.assert_allclose(rows["score"], probability.max(axis=1), rtol=1e-5)
    one = table.iloc[1]
    for row in (one, one.to_dict()):
        same = small.explain(row)[["score", "tabular", "front", "back"]].to_numpy(float)
        np.testing.assert_allclose(same[0], rows.iloc[1][["score", "tabular", "front", "back"]].to_numpy(float),
                                   rtol=1e-3, atol=1e-5)  # fmt: skip


def test_one_modality_alone_is_the_whole_gain(table: pd.DataFrame) -> None:
    model = MultimodalRegressor("trees", verbose=False).fit(
        table[["size", "colour", "price"]], label="price"
    )
    own = model.contributions(table, metric="rmse")
    assert own.table["gain"]["tabular"] == pytest.approx(own.empty - own.full)
    assert own.table["without"]["tabular"] == own.empty


def test_the_shell_says_what_pays(
    small: MultimodalClassifier, table: pd.DataFrame, photos: Path, tmp_path: Path
) -> None:
    small.save(tmp_path / "model")
    table.iloc[:20].to_csv(tmp_path / "table.csv", index=False)
    words = ["evaluate", tmp_path / "model", tmp_path / "table.csv", "--root", photos, "--contributions",
             "--metric", "log_loss", "--out", tmp_path / "pays.csv"]  # fmt: skip
    done = CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "20 rows, 95 % intervals; log_loss (lower is better)" in done.stdout
    assert "putting mask tokens in their place" in done.stdout
    assert "less log_loss" in done.stdout
    assert pd.read_csv(tmp_path / "pays.csv")["modality"].tolist() == ["tabular", "front", "back"]
