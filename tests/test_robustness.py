"""What a missing modality costs: curves, areas, masks that are kept, and the shell."""

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scripted import SCHEMA, Scripted, scripted_table
from tiny import make_transformer
from tiny_text import TINY, WORDS, make_text_network

from multiadapt import Frozen, MultimodalClassifier, MultimodalRegressor, TIAdapter, Training
from multiadapt.cli import main
from multiadapt.data import batches
from multiadapt.data.images import read_image
from multiadapt.data.masks import BOTH, Mask, apply, draw, emptied, opened, present
from multiadapt.encoders._pretrained import Backbone
from multiadapt.errors import CellError, SchemaError, SpecError, TargetError
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.methods.u2a import U2A
from multiadapt.missing.token import MaskToken
from multiadapt.reports._coalitions import Coalitions, Sample
from multiadapt.reports.robustness import Grid, Robustness, robustness

ALL = {"tabular": 1.0, "photo": 2.0, "note": 0.0}


def curves(
    frame: pd.DataFrame, grid: Grid, metric: str | None = None, **others: Scripted
) -> Robustness:
    models = {"own": Scripted(frame, ALL), **others}
    return robustness(models, Sample(frame), frame["y"], np.ones(len(frame)), grid, metric)


def test_every_point_is_the_metric_of_the_rows_under_the_mask() -> None:
    frame = scripted_table()
    own = Scripted(frame, ALL)
    found = curves(frame, Grid((0.0, 0.5, 1.0), seed=3), "mae")
    assert list(found.table["modality"].unique()) == ["tabular", "photo", "note", BOTH]
    for point in found.table.to_dict("records"):
        mask = draw(present(frame, SCHEMA), point["rate"], point["modality"], 3)
        scores = own.answer(apply(frame, SCHEMA, mask), None).scores
        expected = own.target.measure(scores, frame["y"], None, 3)["mae"]
        assert point["value"] == pytest.approx(expected.value, rel=1e-6)
        assert (point["low"], point["high"]) == pytest.approx((expected.low, expected.high))
        assert (point["rows"], point["reached"]) == (40, point["rate"])


def test_all_rates_take_one_pass_for_each_modality_and_one_more() -> None:
    frame = scripted_table()
    model = Scripted(frame, ALL)
    robustness({"own": model}, Sample(frame), frame["y"], np.ones(40), Grid())
    assert model.passes == 4


def test_curves_of_several_models_meet_the_same_holes() -> None:
    frame = scripted_table()
    found = curves(
        frame, Grid((0.0, 0.4)), same=Scripted(frame, ALL), less=Scripted(frame, {"photo": 2.0})
    )
    wide = found.table.pivot(index=["modality", "rate"], columns="model", values="value")
    assert wide["own"].equals(wide["same"])
    assert not wide["own"].equals(wide["less"])
    assert list(found.areas) == ["own", "same", "less"]


def test_a_model_that_has_nothing_left_to_read_answers_with_the_prior() -> None:
    frame = scripted_table()
    only = Scripted(frame, {"photo": 2.0})
    found = curves(frame, Grid((1.0,), "photo"), "mae", only=only).table.set_index("model")
    assert found["value"]["only"] == pytest.approx(np.abs(frame["y"] - frame["y"].mean()).mean())
    assert only.passes == 1  # the complete rows


def test_the_area_is_the_mean_over_the_rates_in_the_metric_s_unit() -> None:
    frame = scripted_table()
    found = curves(frame, Grid((0.2, 0.4, 1.0), "photo"), "rmse")
    a, b, c = found.table["value"]
    expected = ((a + b) / 2 * 0.2 + (b + c) / 2 * 0.6) / 0.8
    assert found.areas.loc["photo", "own"] == pytest.approx(expected)
    assert np.isnan(curves(frame, Grid((0.5,), "photo")).areas.loc["photo", "own"])
    assert found.lower_is_better
    assert "rmse (lower is better); a rate is the share of rows, drawn once" in found.definition


def test_masks_are_kept_and_taken_again(tmp_path: Path) -> None:
    frame = scripted_table()
    first = curves(frame, Grid((0.0, 0.3), folder=tmp_path / "masks"))
    files = sorted((tmp_path / "masks").iterdir())
    assert [f.name for f in files][:2] == ["both-0-seed0.parquet", "both-0.3-seed0.parquet"]
    assert opened(files[1]).rate == 0.3
    own = Mask(pd.DataFrame({"tabular": [True] * 40, "photo": [False] * 40, "note": [False] * 40}))
    own.save(files[1])
    again = curves(frame, Grid((0.0, 0.3), folder=tmp_path / "masks"))
    changed = again.table["value"] != first.table["value"]
    assert again.table[changed][["modality", "rate"]].to_numpy().tolist() == [[BOTH, 0.3]]
    with pytest.raises(SpecError, match=r"one of 40 rows .*; the table has 20 rows"):
        curves(frame.iloc[:20], Grid((0.0, 0.3), folder=tmp_path / "masks"))


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ((0.5, BOTH, 0), r"\('both', 0\.3, 0\), as its name .* with \('both', 0\.5, 0\): delete"),
        ((0.3, BOTH, 1), r"drawn with \('both', 0\.3, 1\)"),
        ((0.3, "photo", 0), r"drawn with \('photo', 0\.3, 0\)"),
    ],
)
def test_a_kept_mask_that_was_drawn_otherwise_is_refused(
    drawn: tuple[float, str, int], said: str, tmp_path: Path
) -> None:
    frame = scripted_table()
    draw(present(frame, SCHEMA), *drawn).save(tmp_path / "both-0.3-seed0.parquet")
    with pytest.raises(SpecError, match=said):
        curves(frame, Grid((0.3,), BOTH, folder=tmp_path))


def test_a_kept_mask_of_other_rows_takes_nothing_that_is_not_there(tmp_path: Path) -> None:
    frame, grid = scripted_table(), Grid((1.0,), "photo", folder=tmp_path)
    assert curves(frame, grid).table["reached"].tolist() == [1.0]
    frame.loc[frame.index[:10], "photo"] = np.nan
    assert curves(frame, grid).table["reached"].tolist() == [0.75]
    frame.loc[frame.index[12], ["size", "note"]] = np.nan
    with pytest.raises(SchemaError, match=r"1 rows lose all they have:\n  row 22 \(position 12\)"):
        curves(frame, grid)


def test_a_rate_that_cannot_be_reached_is_told(caplog: pytest.LogCaptureFixture) -> None:
    frame = scripted_table()
    frame.loc[frame.index[:10], ["photo", "note"]] = np.nan
    with caplog.at_level(logging.WARNING, logger="multiadapt"):
        found = curves(frame, Grid((1.0,), "tabular"))
    assert found.table["reached"].tolist() == [0.75]
    assert "rate 1 of tabular: 30 of 40 rows lose 'tabular'" in caplog.text


@pytest.mark.parametrize(
    ("grid", "metric", "message"),
    [
        (Grid(()), None, r"at least one number in 0\.\.1, got \[\]"),
        (Grid((0.1, 2.0)), None, r"in 0\.\.1, got \[0\.1, 2\.0\]"),
        (Grid(modalities="sound"), None, r"'each and both', .* \['tabular', .*, got 'sound'"),
        (Grid(modalities=()), None, r"got \(\)"),
        (Grid(), "accuracy", "no metric of this task is named 'accuracy'; there are r2"),
    ],
)
def test_what_cannot_be_asked_is_said(grid: Grid, metric: str | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        curves(scripted_table(), grid, metric)


def test_models_that_cannot_share_axes_are_refused() -> None:
    frame = scripted_table()
    with pytest.raises(SpecError, match=r"the same task .*'other': 'classification'"):
        curves(frame, Grid(), other=Scripted(frame, ALL, label="kind"))
    with pytest.raises(SpecError, match='missing="error" refuses rows that lack one'):
        curves(frame, Grid(), other=Scripted(frame, ALL, missing="error"))
    with pytest.raises(TargetError, match="at least one labelled row to score, got 0"):
        robustness(
            {"own": Scripted(frame, ALL)}, Sample(frame[:0]), frame["y"][:0], np.ones(0), Grid()
        )


def test_curves_are_drawn_and_written(tmp_path: Path) -> None:
    frame = scripted_table()
    found = curves(frame, Grid((0.0, 1.0)), other=Scripted(frame, {"photo": 2.0}))
    found.plot(tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").stat().st_size > 10_000
    found.to_csv(tmp_path / "table" / "curves.csv")
    back = pd.read_csv(tmp_path / "table" / "curves.csv")
    assert set(back["metric"]) == {"r2"}
    np.testing.assert_allclose(back["value"], found.table["value"])


# A real model


@pytest.fixture(scope="module")
def models(photos: Path, network: Path) -> dict[str, MultimodalClassifier]:
    table = pd.read_parquet(photos / "table.parquet").iloc[:30].drop(columns="price")
    found: dict[str, MultimodalClassifier] = {}
    for missing in ("token", "zero", "mean"):
        found[missing] = MultimodalClassifier(
            TIAdapter(ImageBranch("bc1"), missing=missing),  # type: ignore[arg-type]
            encoders={"image": str(network), "tabular": "mlp"},
            training=Training(epochs=1, batch_size=16),
            device="cpu",
            verbose=False,
        ).fit(table, label="kind", root=photos)
    return found


@pytest.mark.parametrize("missing", ["token", "zero", "mean"])
def test_rows_picked_from_passes_score_as_the_masked_table_does(
    missing: str, models: dict[str, MultimodalClassifier], table: pd.DataFrame, photos: Path
) -> None:
    fitted, table = models[missing].fitted_, table.iloc[:20].copy()
    table.iloc[3:6, table.columns.get_loc("front")] = None
    passes = Coalitions(fitted, Sample(table, photos), fitted.schema)
    there = present(table, fitted.schema)
    for modality in (BOTH, "tabular", "front"):
        mask = draw(there, 0.6, modality)
        direct = fitted.scores(apply(table, fitted.schema, mask), photos)
        np.testing.assert_allclose(passes.under(mask), direct, rtol=0, atol=1e-5)


SETS = [{"tabular"}, {"front"}, {"tabular", "back"}, {"front", "back"}]


@pytest.mark.parametrize("memory", [4.0, 0.0])
@pytest.mark.parametrize("missing", ["token", "zero", "mean"])
def test_a_hidden_modality_scores_as_an_emptied_one(
    missing: str,
    memory: float,
    models: dict[str, MultimodalClassifier],
    table: pd.DataFrame,
    photos: Path,
) -> None:
    fitted, table = models[missing].fitted_, table.iloc[:20].copy()
    table.iloc[3:6, table.columns.get_loc("front")] = None
    passes = Coalitions(fitted, Sample(table, photos, memory=memory), fitted.schema)
    for removed in map(frozenset, SETS):
        empty = emptied(table, fitted.schema, dict.fromkeys(removed, np.ones(20, bool)))
        expected, found = fitted.answer(empty, photos, "raise", "prior"), passes.without(removed)
        # The last bits of a map that is corrected after it was kept are those of another layout.
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-6)
        for stream, there in expected.present.items():
            assert np.array_equal(found.present[stream], there)


def test_every_file_is_read_once_in_a_report(
    models: dict[str, MultimodalClassifier], table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    table = table.iloc[:20]

    def counted(part: object, root: Path, least: int) -> object:
        reads[str(part)] += 1
        return read_image(part, root, least)

    monkeypatch.setattr(batches, "read_image", counted)
    files = {*table["front"], *table["back"]}
    own = models["token"]
    own.contributions(table)
    assert reads == Counter(dict.fromkeys(files, 1))
    own.explain(table)
    own.robustness(table, rates=(0.0, 0.5), against={"other": models["zero"]})
    assert reads == Counter(dict.fromkeys(files, 4))  # one more for each model
    own.memory = 0.0
    try:
        reads.clear()
        own.contributions(table)
    finally:
        own.memory = 4.0
    # Nothing is kept: once to find what is unreadable, and in the half of the sets that have it.
    assert reads == Counter(dict.fromkeys(files, 5))


def test_the_encoder_of_a_hidden_modality_does_not_run(
    models: dict[str, MultimodalClassifier],
    table: pd.DataFrame,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted = models["token"].fitted_
    passes = Coalitions(fitted, Sample(table.iloc[:20], photos), fitted.schema)
    passes.without(frozenset())
    ran: list[int] = []
    run = Backbone.run
    monkeypatch.setattr(Backbone, "run", lambda self, *given: ran.append(1) or run(self, *given))
    passes.without(frozenset({"front", "back"}))
    assert not ran
    passes.without(frozenset({"front"}))
    assert ran


def test_an_unreadable_file_is_told_once_in_a_report(
    models: dict[str, MultimodalClassifier], table: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    model, table = models["zero"], table.iloc[:20].copy()
    table.iloc[2, table.columns.get_loc("front")] = "photos/nowhere.png"
    with pytest.raises(CellError, match=r"nowhere\.png"):
        model.contributions(table)
    model.on_error = "missing"
    try:
        found = model.contributions(table)
    finally:
        model.on_error = "raise"
    assert caplog.text.count("1 unreadable cells are taken as missing") == 1
    gap = table.assign(front=table["front"].where(table["front"] != "photos/nowhere.png"))
    same = model.contributions(gap).coalitions["value"]
    np.testing.assert_allclose(found.coalitions["value"], same, rtol=1e-6)


def test_a_model_with_other_streams_loses_the_same_columns(
    photos: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    """The first model reads two columns of texts, the other one joins them, and a table of two numbers."""
    make_text_network(tmp_path, **TINY)
    rng = np.random.default_rng(0)
    texts = {c: [" ".join(rng.choice(WORDS, 1 + i % 7)) for i in range(20)] for c in ("a", "b")}
    table = table.iloc[:20][["kind", "size"]].assign(**texts)
    table.iloc[2:4, table.columns.get_loc("b")] = ""
    own, other = (
        MultimodalClassifier(
            Frozen(missing="mean"),  # type: ignore[arg-type]
            encoders={"text": str(tmp_path), "tabular": "mlp"},
            column_types={"a": "text", "b": "text", "size": "numeric"},
            training=Training(epochs=1, batch_size=16),
            join_text=joined,
            device="cpu",
            verbose=False,
        )
        .fit(table, label="kind")
        .fitted_
        for joined in (False, True)
    )
    assert len(own.model.streams) == 3
    assert len(other.model.streams) == 2
    passes = Coalitions(other, Sample(table), own.schema)
    for removed in ({"b"}, {"a", "b"}, {"tabular", "a"}):
        empty = emptied(table, own.schema, dict.fromkeys(removed, np.ones(20, bool)))
        expected = other.answer(empty, None, "raise", "prior")
        found = passes.without(frozenset(removed))
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-5)
        assert {s: p.tolist() for s, p in found.present.items()} == {
            s: p.tolist() for s, p in expected.present.items()
        }


def test_trees_have_a_word_to_say_of_an_empty_table(table: pd.DataFrame) -> None:
    table = table[["size", "colour", "price"]]
    fitted = MultimodalRegressor("trees", verbose=False).fit(table, label="price").fitted_
    prepared = fitted.prepared(table, None)
    for hidden in (["size"], ["size", "colour"]):
        expected = fitted.answer(table.assign(**dict.fromkeys(hidden)), None, "raise", "prior")
        assert np.array_equal(prepared.answer(hidden).scores, expected.scores)


def test_a_table_without_rows_has_no_scores(
    models: dict[str, MultimodalClassifier], table: pd.DataFrame, photos: Path
) -> None:
    prepared = models["token"].fitted_.prepared(table.iloc[:0], photos)
    assert prepared.answer().scores.shape == (0, 1)


@pytest.mark.parametrize("visibility", ["read-only", "full"])
def test_a_row_scores_alike_whichever_others_have_a_gap(
    visibility: str, table: pd.DataFrame, photos: Path, tmp_path: Path
) -> None:
    table = table.iloc[:20].drop(columns="price")
    model = MultimodalClassifier(
        U2A(missing=MaskToken(visibility=visibility)),  # type: ignore[arg-type]
        encoders={"image": str(make_transformer(tmp_path)), "tabular": "mlp"},
        training=Training(epochs=1, batch_size=8),
        device="cpu",
        verbose=False,
    ).fit(table, label="kind", root=photos)
    schema = model.fitted_.schema
    mask = draw(present(table, schema), 0.5)
    direct = model.fitted_.scores(apply(table, schema, mask), photos)
    picked = Coalitions(model.fitted_, Sample(table, photos), schema).under(mask)
    np.testing.assert_allclose(picked, direct, rtol=0, atol=1e-5)
    alone = [model.fitted_.scores(apply(table, schema, mask).iloc[[i]], photos) for i in range(4)]
    np.testing.assert_allclose(np.concatenate(alone), direct[:4], rtol=0, atol=1e-5)


def test_rows_without_anything_are_scored_by_the_prior_where_asked(
    models: dict[str, MultimodalClassifier], table: pd.DataFrame, csv: Path, saved: Path, photos: Path
) -> None:  # fmt: skip
    model, table = models["token"], table.iloc[:20].copy()
    table.loc[table.index[:3], [c for c in table if c != "kind"]] = None
    with pytest.raises(CellError, match=r"at least one of its modalities, 3 have none"):
        model.evaluate(table)
    prior = model.predict_proba(table, empty="prior").to_numpy()
    right = prior.argmax(1) == np.searchsorted(model.classes_, table["kind"])
    found = model.evaluate(table, empty="prior")
    assert found.loc["accuracy", "value"] == pytest.approx(right.mean())
    with pytest.raises((SpecError, TypeError), match="guess"):  # TypeError: the shape checker's
        model.evaluate(table, empty="guess")  # type: ignore[arg-type]
    gaps, out = saved / "gaps.csv", saved / "gaps-out.csv"
    table.to_csv(gaps, index=False)
    words = [saved / "token", gaps, "--root", photos, "--device", "cpu", "--empty", "prior"]
    shown = json.loads(call("evaluate", *words, "--json"))
    assert shown["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    call("predict", *words, "--out", out)
    assert len(pd.read_csv(out)) == 20
    said = call("evaluate", *words, "--contributions", code=2)
    assert "--empty goes without --missing-grid and --contributions" in said


@pytest.mark.parametrize("name", ["prior", "has tabular"])
def test_details_never_overwrite_a_label(name: str) -> None:
    frame = pd.DataFrame({"size": np.arange(20.0) ** 2, name: [0, 1] * 10, "new": [0, 0, 1, 1] * 5})
    model = MultimodalClassifier(
        Frozen(),
        encoders={"tabular": "mlp"},
        training=Training(epochs=1, batch_size=16),
        device="cpu",
        verbose=False,
    ).fit(frame, label=[name, "new"])
    assert list(model.predict(frame)) == [name, "new"]
    with pytest.raises(SpecError, match=rf"labels are called \['{name}'\] too: rename"):
        model.predict(frame, details=True)


def test_a_mask_is_taken_by_predict_and_evaluate(
    models: dict[str, MultimodalClassifier], table: pd.DataFrame, tmp_path: Path
) -> None:
    model, table = models["token"], table.iloc[:20]
    mask = draw(present(table, model.fitted_.schema), 1.0, "front")
    mask.save(tmp_path / "mask.parquet")
    hidden = table.assign(front=None)
    expected = model.predict_proba(hidden)
    for source in (mask, mask.removed, tmp_path / "mask.parquet"):
        pd.testing.assert_frame_equal(model.predict_proba(table, mask=source), expected)
    assert model.predict(table, mask=mask).equals(model.predict(hidden))
    assert not model.predict(table, mask=mask, details=True)["has front"].any()
    pd.testing.assert_frame_equal(model.evaluate(table, mask=mask), model.evaluate(hidden))
    with pytest.raises(SchemaError, match="the 19 rows of the table, got 20"):
        model.predict(table.iloc[:19], mask=mask)


def test_an_estimator_draws_its_curves_beside_others(
    models: dict[str, MultimodalClassifier], table: pd.DataFrame
) -> None:
    table = table.iloc[:20]
    found = models["token"].robustness(
        table, rates=(0.0, 1.0), modalities="both", against={"zero filling": models["zero"]}
    )
    assert list(found.areas) == ["ti_adapter (token)", "zero filling"]
    assert found.metric == "accuracy"
    complete = found.table.query("rate == 0").set_index("model")["value"]
    assert complete["zero filling"] == models["zero"].evaluate(table)["value"]["accuracy"]
    with pytest.raises(
        SpecError, match=r"other names than this model's own, 'ti_adapter \(token\)'"
    ):
        models["token"].robustness(table, against={"ti_adapter (token)": models["zero"]})


# The shell


def call(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def saved(
    models: dict[str, MultimodalClassifier], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with both models and the first rows of the table."""
    folder = tmp_path_factory.mktemp("saved")
    for name, model in models.items():
        model.save(folder / name)
    return folder


@pytest.fixture(scope="module")
def csv(photos: Path, saved: Path) -> Path:
    pd.read_parquet(photos / "table.parquet").iloc[:20].to_csv(saved / "table.csv", index=False)
    return saved / "table.csv"


def test_the_shell_draws_masks_that_runs_take(saved: Path, csv: Path, photos: Path) -> None:
    out, by_model = saved / "mask.parquet", saved / "by-model.csv"
    said = call("mask", csv, "--rate", ".7", "--root", photos, "--label", "kind", "--column-type",
                "price=ignore", "--out", out)  # fmt: skip
    assert "14 of 20 rows lose one modality: tabular 5, front 5, back 4" in said
    call("mask", csv, "--rate", ".7", "--model", saved / "token", "--out", by_model)
    assert opened(by_model).digest == opened(out).digest
    root = ["--root", photos, "--device", "cpu"]
    masked = json.loads(call("evaluate", saved / "token", csv, *root, "--mask", out, "--json"))
    assert masked["mask"]["digest"] == opened(out).digest
    assert masked["mask"]["rate"] == 0.7
    shown = call("evaluate", saved / "token", csv, *root, "--mask", out)
    assert "mask: rate 0.7 of both, seed 0" in shown
    predicted, whole = saved / "predicted.csv", saved / "whole.csv"
    call(
        "predict",
        saved / "token",
        csv,
        *root,
        "--mask",
        out,
        "--out",
        predicted,
        "--chunk",
        6,
        "--proba",
    )
    call("predict", saved / "token", csv, *root, "--out", whole, "--proba")
    both = [pd.read_csv(f)["probability_red"].to_numpy() for f in (predicted, whole)]
    moved = opened(out).removed.any(axis=1).to_numpy()
    np.testing.assert_allclose(both[0][~moved], both[1][~moved], rtol=1e-4)
    assert not np.allclose(both[0][moved], both[1][moved], rtol=1e-4)


def test_the_shell_prints_and_draws_the_curves(saved: Path, csv: Path, photos: Path) -> None:
    said = call(
        "evaluate", saved / "token", csv, "--root", photos, "--missing-grid", "0,.5,1", "--against",
        f"zeros={saved / 'zero'}", "--plot", saved / "c.png", "--out", saved / "c.csv", "--masks",
        saved / "masks", "--device", "cpu",
    )  # fmt: skip
    assert "accuracy (higher is better); a rate is the share of rows" in said
    assert "area under the curve" in said
    assert len(pd.read_csv(saved / "c.csv")) == 3 * 4 * 2
    assert (saved / "c.png").exists()
    assert len(list((saved / "masks").iterdir())) == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plot", "c.png"], "--plot goes with --missing-grid"),
        (["--against", "a=b"], "--against goes with --missing-grid"),
        (["--missing-grid", "0,x"], "'0,x' is no list of numbers"),
        (["--missing-grid", "0", "--mask", "m.csv"], "--mask and --missing-grid"),
        (["--missing-grid", "0", "--json"], "--json"),
        (["--contributions", "--missing-grid", "0"], "--contributions and --missing-grid"),
        (["--mask", "nowhere.csv"], "there is no such file"),
        (["--missing-grid", "0,2"], r"rates must be at least one number in 0..1, got [0.0, 2.0]"),
    ],
)
def test_the_shell_says_what_does_not_go_together(
    words: list[str], message: str, saved: Path, csv: Path, photos: Path
) -> None:
    assert message in call("evaluate", saved / "token", csv, "--root", photos, *words, code=2)


def test_the_shell_refuses_masks_that_do_not_fit(saved: Path, csv: Path, photos: Path) -> None:
    root = ["--root", photos, "--device", "cpu"]
    for rows, chunk in ((15, 6), (25, 6)):
        pd.DataFrame({"front": [True] * rows}).to_csv(saved / "wrong.csv", index=False)
        said = call("predict", saved / "token", csv, *root, "--mask", saved / "wrong.csv", "--chunk",
                    chunk, "--out", saved / "never.csv", code=2)  # fmt: skip
        assert f"got {rows}" in said
        assert not (saved / "never.csv").exists()
    said = call("mask", csv, "--rate", "1", "--model", saved / "token", "--label", "kind", "--out",
                saved / "m.csv", code=2)  # fmt: skip
    assert "--label goes without --model" in said
