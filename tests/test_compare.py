"""Comparisons: the same rows for every method, honest intervals, and no run done twice."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from multiadapt import (
    Frozen,
    MLPEncoder,
    MultimodalClassifier,
    MultimodalRegressor,
    TabularOnly,
    Training,
)
from multiadapt.cli import main
from multiadapt.cli._comparing import _divided, _entries
from multiadapt.data.digest import table_digest
from multiadapt.errors import ArtifactError, ExtraError, SchemaError, SpecError
from multiadapt.reports import compare as module
from multiadapt.reports import meter
from multiadapt.reports._cells import Store, digest
from multiadapt.reports.compare import Compared, Design, compare
from multiadapt.reports.evidence import OverFolds, OverRows, Scored
from multiadapt.reports.meter import Meter
from multiadapt.tasks._metrics import Measured, corrected_t_test
from multiadapt.tasks.classification import Classification


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after each run: a full collection of all that is imported takes a third of a second."""
    monkeypatch.setattr(meter, "_give_back", lambda: None)


def made(method: object, *, regression: bool = False) -> MultimodalClassifier | MultimodalRegressor:
    kind = MultimodalRegressor if regression else MultimodalClassifier
    return kind(
        method,
        encoders={"tabular": MLPEncoder(width=8, depth=1)},
        training=Training(epochs=2, batch_size=16),
        verbose=False,
        device="cpu",
    )


@pytest.fixture
def rows(table: pd.DataFrame) -> pd.DataFrame:
    """The columns without photos, 60 rows, and a split column."""
    split = ["train"] * 30 + ["val"] * 10 + ["test"] * 20
    return table.drop(columns=["front", "back"]).assign(split=split)


@pytest.fixture
def both() -> dict[str, MultimodalClassifier | MultimodalRegressor]:
    return {"frozen": made(Frozen()), "adapted": made(TabularOnly())}


def test_folds_give_a_row_a_method_with_intervals_tests_and_costs(
    rows: pd.DataFrame, both: dict[str, MultimodalClassifier], tmp_path: Path
) -> None:
    said: list[str] = []
    frame = rows.drop(columns=["split", "price"])
    before = frame.copy()
    found = compare(both, frame, Design("kind", folds=3), folder=tmp_path, tell=said.append)
    pd.testing.assert_frame_equal(frame, before)
    assert list(found.table.index) == ["frozen", "adapted"]
    assert found.metric == "accuracy"
    assert found.against == "frozen"
    line = found.table.loc["adapted"]
    assert line["accuracy_low"] <= line["accuracy"] <= line["accuracy_high"]
    assert line["difference"] == pytest.approx(line["accuracy"] - found.table["accuracy"]["frozen"])
    assert 0 <= line["p"] <= 1
    assert np.isnan(found.table["p"]["frozen"])
    assert line["trainable"] > found.table["trainable"]["frozen"] > 0
    assert line["seconds"] > 0
    assert line["runs"] == 3
    assert sum(found.runs["test_rows"]) == 2 * len(rows)
    assert found.runs["seed"].tolist() == [0, 1, 2] * 2
    assert re.fullmatch(r"\[1/6\] frozen fold0: accuracy 0\.\d{4}, \d+\.\d s", said[0])


def test_seeds_test_on_the_marked_rows(rows: pd.DataFrame) -> None:
    two = {n: made(m, regression=True) for n, m in (("a", Frozen()), ("b", TabularOnly()))}
    design = Design("price", split_column="split", seeds=2, seed=5)
    found = compare(two, rows.drop(columns="kind"), design, against="best")
    assert found.runs["seed"].tolist() == [5, 6, 5, 6]
    assert set(found.runs["test_rows"]) == {20}
    assert found.metric == "r2"
    assert found.against == found.table["r2"].idxmax()
    assert found.table["r2"]["a"] == pytest.approx(found.runs["r2"][:2].mean())
    assert (found.table["rmse_low"] <= found.table["rmse"]).all()


def test_second_call_does_only_what_is_missing(
    rows: pd.DataFrame,
    both: dict[str, MultimodalClassifier],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame, design = rows.drop(columns="price"), Design("kind", split_column="split")
    first = compare(both, frame, design, folder=tmp_path)
    assert len(list((tmp_path / "cells").glob("*.json"))) == 2
    fits: list[str] = []
    fit = MultimodalClassifier.fit

    def counted(self: MultimodalClassifier, *args: object, **options: object) -> object:
        fits.append(str(self.method))
        return fit(self, *args, **options)

    monkeypatch.setattr(MultimodalClassifier, "fit", counted)
    second = compare(both, frame, design, folder=tmp_path)
    assert fits == []
    pd.testing.assert_frame_equal(first.table, second.table)
    compare({**both, "more": made(Frozen())}, frame, design, folder=tmp_path)
    assert len(fits) == 1
    compare(both, frame.assign(size=1.0), design, folder=tmp_path)  # another table, other runs
    assert len(fits) == 3


def test_interruption_keeps_what_is_finished(
    rows: pd.DataFrame,
    both: dict[str, MultimodalClassifier],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame, design = rows.drop(columns="price"), Design("kind", split_column="split")
    fit = MultimodalClassifier.fit

    def interrupted(self: MultimodalClassifier, *args: object, **options: object) -> object:
        fit(self, *args, **options)
        if isinstance(self.method, TabularOnly):
            self.fitted_.info["history"]["stopped"] = "interrupt"
        return self

    monkeypatch.setattr(MultimodalClassifier, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(both, frame, design, folder=tmp_path)
    assert [p.name.split("-")[0] for p in (tmp_path / "cells").glob("*.json")] == ["frozen"]


def test_groups_and_weights_reach_every_fit(
    rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = rows.drop(columns=["price", "split"]).assign(owner=np.arange(60) // 6, w=1.0)
    told: list[dict[str, object]] = []
    fit = MultimodalClassifier.fit

    def watched(self: MultimodalClassifier, X: pd.DataFrame, **options: object) -> object:
        told.append({**options, "owners": set(X["owner"])})
        return fit(self, X, **options)

    monkeypatch.setattr(MultimodalClassifier, "fit", watched)
    design = Design("kind", folds=2, groups="owner", sample_weight="w")
    compare({"frozen": made(Frozen())}, frame, design)
    assert [(t["groups"], t["sample_weight"]) for t in told] == [("owner", "w")] * 2
    assert not set(told[0]["owners"]) & set(told[1]["owners"])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either folds or a split column"),
        ({"folds": 2, "split_column": "s"}, "either folds or a split column"),
        ({"folds": 2, "seeds": 2}, "seeds go with a split column, got seeds=2 and folds=2"),
        ({"split_column": "s", "seeds": 0}, "seeds must be at least 1, got 0"),
    ],
)
def test_design_is_checked(options: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Design("y", **options)  # type: ignore[arg-type]


def test_comparison_is_checked(rows: pd.DataFrame) -> None:
    one = {"a": made(Frozen())}
    with pytest.raises(SpecError, match="at least one method, got none"):
        compare({}, rows, Design("kind", folds=2))
    with pytest.raises(SpecError, match=r"best or one of \['a'\], got 'b'"):
        compare(one, rows, Design("kind", folds=2), against="b")
    with pytest.raises(SchemaError, match=r"\['knid'\] are named but .*: did you mean 'kind'\?"):
        compare(one, rows, Design("knid", folds=2))
    with pytest.raises(SchemaError, match=r"columns \['nothing', 'no'\] are named but absent"):
        compare(one, rows, Design("nothing", folds=2, groups="no"))
    with pytest.raises(SchemaError, match="must mark the rows to test on 'test'; it holds"):
        compare(one, rows, Design("kind", split_column="colour"))


def scored(outcomes: Sequence[np.ndarray], labels: pd.Series) -> Scored:
    """Binary scores that are right where an outcome is true."""
    target = Classification().learn(labels)
    assert isinstance(target, Measured)
    sign = np.where(labels.to_numpy() == "b", 1.0, -1.0)
    scores = [(sign * np.where(right, 2, -2))[:, None].astype(np.float32) for right in outcomes]
    runs = len(outcomes)
    return Scored([target] * runs, scores, [labels] * runs, [np.ones(len(labels))] * runs)


@pytest.fixture
def labels() -> pd.Series:
    return pd.Series(["a", "b"] * 100, name="y")


def test_one_seed_is_the_target_s_own_paired_bootstrap(labels: pd.Series) -> None:
    rng = np.random.default_rng(0)
    one, other = (scored([rng.random(200) < p], labels) for p in (0.9, 0.8))
    target = Classification().learn(labels)
    both = [
        (
            np.where(labels == "b", 1, -1)
            * np.where(w.metrics[0]["accuracy"](np.eye(200)), 2.0, -2.0)
        )
        for w in (one, other)
    ]
    expected = target.paired(both[0][:, None], both[1][:, None], labels, seed=3)
    found = OverRows(3).difference(one, other, "accuracy")
    assert (found.difference, found.low, found.high, found.p) == pytest.approx(
        (expected.difference, expected.low, expected.high, expected.p)
    )


def test_seeds_that_differ_widen_the_interval(labels: pd.Series) -> None:
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.8
    same = OverRows(0).mean(scored([right] * 4, labels), "accuracy")
    apart = [rng.random(200) < p for p in (0.6, 0.75, 0.85, 1.0)]
    spread = OverRows(0).mean(scored(apart, labels), "accuracy")
    assert spread.high - spread.low > 1.3 * (same.high - same.low)


def test_folds_use_the_corrected_t_test(labels: pd.Series) -> None:
    rng = np.random.default_rng(1)
    one, other = (scored([rng.random(200) < p for _ in range(4)], labels) for p in (0.9, 0.7))
    expected = corrected_t_test(one.of("accuracy") - other.of("accuracy"), 300, 100)
    assert OverFolds(300, 100).difference(one, other, "accuracy") == expected
    assert OverFolds(300, 100).mean(one, "accuracy").difference == one.of("accuracy").mean()


def test_scores_that_are_not_finite_have_no_interval(labels: pd.Series) -> None:
    target = Classification().learn(labels)
    assert isinstance(target, Measured)
    broken = Scored([target], [np.full((200, 1), np.nan)], [labels], [np.ones(200)])
    found = OverRows(0).mean(broken, "accuracy")
    assert np.isnan([found.difference, found.low, found.high]).all()


def test_meter_sees_what_is_held_for_a_moment() -> None:
    with Meter("cpu") as seen:
        block = np.ones(40_000_000 // 8)
        for _ in range(20):  # longer than the time between two looks
            block += 1
        del block
    assert 30 < seen.peak_mb < 120
    assert seen.seconds > 0


def test_digest_differs_with_what_scores_depend_on() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "files": [["a"], ["b", "c"]]})
    assert table_digest(frame) == table_digest(frame.copy())
    assert table_digest(frame) != table_digest(frame.iloc[::-1])
    assert table_digest(frame) != table_digest(frame.rename(columns={"x": "z"}))
    names = {digest("m", "fold0", {"r": r}) for r in (1, 2)} | {digest("m", "fold1", {"r": 1})}
    assert len(names) == 3
    assert digest("a:x=[1, 2]", "fold0").startswith("a-x=-1-2-fold0-")


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    (tmp_path / "m-fold0.json").write_text("{")
    with pytest.raises(
        ArtifactError, match=r"m-fold0\.json cannot be read.*delete it to run it again"
    ):
        Store(tmp_path).read("m-fold0")
    assert Store(None).read("m-fold0") is None


def table_of(values: Sequence[float]) -> Compared:
    frame = pd.DataFrame({"rmse": values}, index=pd.Index(["a", "b"], name="method"))
    frame["rmse_low"], frame["rmse_high"] = frame["rmse"] - 1, frame["rmse"] + 1
    costs = {"trainable": [0, 2_144_417], "seconds": [1.0, 90.0], "peak_mb": [10.0, 900.0]}
    return Compared(frame.assign(**costs), pd.DataFrame({"method": ["a", "b"]}), "rmse", "a")


def test_result_writes_tables_and_a_picture(tmp_path: Path) -> None:
    found = table_of([3.0, 2.0])
    assert found.lower_is_better
    found.save(tmp_path / "out")
    assert pd.read_csv(tmp_path / "out" / "compare.csv")["method"].tolist() == ["a", "b"]
    assert (tmp_path / "out" / "runs.csv").exists()
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / "out" / "compare.png")
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_picture_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ExtraError, match=r"pip install multiadapt\[report\]"):
        table_of([3.0, 2.0]).plot(tmp_path / "compare.png")


def test_methods_are_read_from_text() -> None:
    texts = ["frozen, ti-adapter:image.variant=bc1:image.r=8", "ti-adapter:image.stages=[1,2]"]
    found = _entries(texts)
    assert [e.method for e in found] == ["frozen", "ti-adapter", "ti-adapter"]
    assert found[1].changes == {"image.variant": "bc1", "image.r": 8}
    assert found[2].changes == {"image.stages": [1, 2]}
    changes = {"training.epochs": 3, "ti_adapter.image.alpha": 0.5}
    shared, own = _divided(changes, found)
    assert shared == {"training.epochs": 3}
    assert [own[e.name] for e in found] == [{}, {"image.alpha": 0.5}, {"image.alpha": 0.5}]


def test_command_compares_variants_with_photos_and_continues(
    network: Path,
    photos: Path,
    table: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table.iloc[:40].drop(columns=["back", "kind"]).to_csv(tmp_path / "table.csv", index=False)
    words = [
        "compare", str(tmp_path / "table.csv"), "--label", "price", "--root", str(photos),
        "--methods", "frozen,ti-adapter:image.variant=bc1,ti-adapter:image.variant=embedding,trees",
        "--encoder", f"image={network}", "--encoder", "tabular=mlp", "--set", "training.epochs=1",
        "--folds", "2", "--device", "cpu", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "[8/8] trees fold1: r2 " in done.stderr
    assert re.search(r"^ti-adapter:image\.variant=bc1 .* to .*$", done.stdout, re.MULTILINE)
    written = pd.read_csv(tmp_path / "out" / "compare.csv", index_col="method")
    assert written["trainable"]["trees"] == 0
    assert written["trainable"].nunique() == 4
    assert (tmp_path / "out" / "compare.png").exists()
    cell = json.loads(next((tmp_path / "out" / "cells").glob("frozen*.json")).read_text())
    assert {"seed", "spec", "training", "encoders", "versions"} <= set(cell)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    again = CliRunner().invoke(main, words, catch_exceptions=False)
    assert again.stderr.count("found in the folder") == 8
    assert "no picture: a picture needs matplotlib" in again.stderr
    assert again.stdout == done.stdout


def test_interrupted_command_says_what_is_kept(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Work, "all", interrupted)
    table.drop(columns=["front", "back"]).to_csv(tmp_path / "table.csv", index=False)
    words = ["compare", str(tmp_path / "table.csv"), "--label", "kind", "--methods", "frozen"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "finished runs are kept" in done.stderr
