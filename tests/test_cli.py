"""The command line: what is written in the documentation works, and says what it must."""

import json
import re
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shell import call
from tiny_text import make_text_network

import multiadapt
from multiadapt import Blip, Dual, ImageEncoder, TextEncoder
from multiadapt.cli import _pairing, main
from multiadapt.cli._documentation import options
from multiadapt.cli._output import show_json
from multiadapt.cli._remedy import KEYWORDS, TASK, in_shell
from multiadapt.cli._running import _guessed
from multiadapt.spec import names


@pytest.fixture(scope="module")
def csv(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rows with a split column, as a CSV file far from its photos."""
    table = pd.read_parquet(photos / "table.parquet").iloc[:40].drop(columns="back")
    table["split"] = ["train"] * 24 + ["val"] * 6 + ["test"] * 10
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def small(network: Path, photos: Path) -> list[str]:
    """Options of a small fit."""
    encoders = ["--encoder", f"image={network}", "--encoder", "tabular=mlp"]
    recipe = ["--set", "training.epochs=2", "--set", "image.variant=bc1"]
    return [*encoders, *recipe, "--root", str(photos), "--device", "cpu"]


@pytest.fixture(scope="module")
def fitted(csv: Path, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of `kind`, fitted from the command line."""
    out = tmp_path_factory.mktemp("runs") / "kind"
    call("fit", csv, "--label", "kind", "--split-column", "split", *small, "--out", out, "--quiet")
    return out


@pytest.mark.parametrize("words", [[], ["fit"], ["compare"], ["answer"]])
def test_help_imports_nothing_heavy_and_is_quick(words: list[str]) -> None:
    code = f"""
import sys, time
from multiadapt.cli import main
try:
    main({[*words, "--help"]})
except SystemExit as end:
    heavy = {{"torch", "pandas", "numpy", "sklearn", "transformers", "rich", "pyarrow"}}
    print(end.code, sorted(heavy & set(sys.modules)), time.process_time())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    code_, heavy, seconds = done.stdout.splitlines()[-1].split()
    assert (code_, heavy) == ("0", "[]")
    assert float(seconds) < 0.3  # of the processor: others may be using the machine


def test_version_is_the_package_s() -> None:
    assert multiadapt.__version__ in call("--version").output


def test_fit_prints_parameters_and_given_validation(
    csv: Path, small: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "model"
    done = call("fit", csv, "--label", "price", "--split-column", "split", *small, "--out", out)
    assert "task: regression, because 'price' holds numbers with fractions" in done.stderr
    assert re.search(r"adapters front +[\d,]+ +0", done.stdout)
    assert "validation on 6 rows, which chose the epoch" in done.stdout
    assert re.search(r"^rmse +\S+ +\S+ +\S+$", done.stdout, re.MULTILINE)
    assert (out / "adapter.safetensors").exists()


def test_fit_without_out_saves_nothing_and_says_so(
    csv: Path, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("fit", csv, "--label", "kind", *small)
    assert "not saved: name a folder with --out" in done.stderr
    assert "validation on 8 rows, which chose the epoch" in done.stdout
    assert not list(tmp_path.iterdir())


def test_quiet_fit_says_nothing_on_the_way(csv: Path, small: list[str], tmp_path: Path) -> None:
    done = call("fit", csv, "--label", "kind", *small, "--quiet", "--out", tmp_path / "m")
    assert done.stderr == f"saved in {tmp_path / 'm'}\n"


def test_fit_takes_a_validation_table_and_rows_by_where(
    csv: Path, small: list[str], tmp_path: Path
) -> None:
    pd.read_csv(csv).query("split == 'val'").to_csv(tmp_path / "val.csv", index=False)
    more = [
        "--where",
        "split=train",
        "--val",
        tmp_path / "val.csv",
        "--column-type",
        "split=ignore",
    ]
    done = call("fit", csv, "--label", "kind", *more, *small)
    assert "validation on 6 rows, which chose the epoch" in done.stdout


def test_fit_takes_several_labels(csv: Path, small: list[str], tmp_path: Path) -> None:
    table = pd.read_csv(csv).assign(a=lambda t: t["kind"] == "red", b=lambda t: t["size"] > 50)
    table.astype({"a": int, "b": int}).to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "model"
    done = call(
        "fit", tmp_path / "table.csv", "--label", "a", "--label", "b",
        "--column-type", "kind=ignore", *small, "--out", out,
    )  # fmt: skip
    assert "task: multilabel, because there are 2 label columns" in done.stderr
    root = small[small.index("--root") + 1]
    call(
        "predict",
        out,
        tmp_path / "table.csv",
        "--out",
        tmp_path / "p.csv",
        "--root",
        root,
        "--proba",
    )
    found = pd.read_csv(tmp_path / "p.csv")
    assert list(found) == ["row", "prediction_a", "prediction_b", "probability_a", "probability_b"]


def test_resume_file_goes_when_the_run_is_done(csv: Path, small: list[str], tmp_path: Path) -> None:
    out = tmp_path / "model"
    call("fit", csv, "--label", "kind", *small, "--out", out, "--resume", "--time-limit", 0)
    assert (tmp_path / "model.resume.safetensors").exists()
    done = call("fit", csv, "--label", "kind", *small, "--out", out, "--resume")
    assert "resuming at epoch" in done.stderr
    assert not (tmp_path / "model.resume.safetensors").exists()


@pytest.fixture(scope="module")
def predicted(fitted: Path, csv: Path, photos: Path) -> list[str]:
    """What Python says about the rows of `csv`."""
    return multiadapt.load(fitted).predict(csv, root=photos).tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_predictions_keep_the_order_in_chunks(
    suffix: str, fitted: Path, csv: Path, photos: Path, tmp_path: Path, predicted: list[str]
) -> None:
    out = tmp_path / f"p{suffix}"
    call("predict", fitted, csv, "--out", out, "--chunk", 7, "--proba", "--root", photos)
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    found = read[suffix](out) if suffix in read else pd.read_json(out, lines=True)
    assert list(found) == ["row", "prediction", "probability_blue", "probability_red"]
    assert found["row"].tolist() == list(range(40))
    assert found["prediction"].tolist() == predicted
    np.testing.assert_allclose(found.filter(like="probability").sum(axis=1), 1, atol=1e-6)


def test_kept_columns_stand_in_place_of_the_row(
    fitted: Path, csv: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.csv"
    call("predict", fitted, csv, "--out", out, "--keep", "front", "--root", photos)
    assert list(pd.read_csv(out)) == ["front", "prediction"]
    assert pd.read_csv(out)["front"].tolist() == pd.read_csv(csv)["front"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_kept_of_a_csv_is_as_it_is_written_there(
    suffix: str, fitted: Path, csv: Path, photos: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(csv, dtype=str)
    numbers = [f"{i:03}" for i in range(len(frame) - 1)] + ["x-1"]  # of the last part alone a text
    frame = frame.assign(number=numbers, rare=["1", None, "NA", "2.50"] * 10)
    table, out = tmp_path / "t.csv", tmp_path / f"p{suffix}"
    frame.to_csv(table, index=False)
    kept = ["--keep", "rare", "--keep", "number", "--keep", "size"]
    call("predict", fitted, table, "--out", out, *kept, "--chunk", 7, "--root", photos)
    found = (
        pd.read_parquet(out)
        if suffix == ".parquet"
        else pd.read_csv(out, dtype=str, na_values=[""], keep_default_na=False)
    )
    pd.testing.assert_frame_equal(
        found[["rare", "number", "size"]], frame[["rare", "number", "size"]], check_dtype=False
    )


def test_kept_columns_are_checked(fitted: Path, csv: Path, photos: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "p.csv", "--root", photos]
    done = call("predict", fitted, csv, *out, "--keep", "nothing", code=2)
    assert "columns ['nothing'] are to be kept but absent" in done.stderr
    done = call("predict", fitted, csv, *out, "--keep", "frnt", code=2)
    assert done.stderr.endswith(": did you mean 'front'?\n")
    pd.read_csv(csv).assign(prediction=1).to_csv(tmp_path / "t.csv", index=False)
    done = call("predict", fitted, tmp_path / "t.csv", *out, "--keep", "prediction", code=2)
    assert "kept columns may not be called as results are, got ['prediction']" in done.stderr
    assert not (tmp_path / "p.csv").exists()


def test_a_table_without_rows_gives_a_file_with_a_header(
    fitted: Path, csv: Path, tmp_path: Path
) -> None:
    pd.read_csv(csv).iloc[:0].to_csv(tmp_path / "none.csv", index=False)
    call("predict", fitted, tmp_path / "none.csv", "--out", tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == "row,prediction\n"


def test_files_are_sought_beside_the_table(fitted: Path, csv: Path, tmp_path: Path) -> None:
    done = call("predict", fitted, csv, "--out", tmp_path / "p.csv", code=2)
    assert "photos/100_front.png" in done.stderr or "photos/0_front.png" in done.stderr
    assert str(csv.parent) in done.stderr
    call("predict", fitted, csv, "--out", tmp_path / "p.csv", "--on-error", "missing")
    assert len(pd.read_csv(tmp_path / "p.csv")) == 40


def test_evaluate_gives_every_metric_with_its_interval(
    fitted: Path, csv: Path, photos: Path
) -> None:
    words = ["evaluate", fitted, csv, "--where", "split=test", "--root", photos]
    found = json.loads(call(*words, "--json").stdout)
    assert found["rows"] == 10
    assert found["metric"] == "accuracy"
    assert set(found["metrics"]) == {
        "accuracy",
        "balanced_accuracy",
        "f1_macro",
        "roc_auc",
        "log_loss",
    }
    for values in found["metrics"].values():
        assert values["low"] <= values["value"] <= values["high"]
    shown = call(*words).stdout
    assert "10 rows, 95 % intervals" in shown
    assert re.search(r"^accuracy +\S+ +\S+ +\S+$", shown, re.MULTILINE)


def test_evaluate_takes_a_label_of_another_name(
    fitted: Path, csv: Path, photos: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "renamed.csv"
    pd.read_csv(csv).rename(columns={"kind": "truth"}).to_csv(renamed, index=False)
    done = call("evaluate", fitted, renamed, "--label", "truth", "--root", photos, "--json")
    same = call("evaluate", fitted, csv, "--root", photos, "--json")
    assert json.loads(done.stdout)["metrics"] == json.loads(same.stdout)["metrics"]


def test_inspect_shows_schema_parts_sizes_and_licences(fitted: Path) -> None:
    found = json.loads(call("inspect", fitted, "--json").stdout)
    assert isinstance(found["trainable"], int)
    assert found["trainable"] == sum(p["trainable"] for p in found["parts"])
    assert found["bytes"] == sum(f.stat().st_size for f in fitted.iterdir())
    assert {c["name"]: c["kind"] for c in found["columns"]}["front"] == "image"
    assert set(found["encoders"]) == {"tabular", "front"}
    assert {"source", "licence", "sha256", "holds_rows"} <= set(found["encoders"]["front"])
    shown = call("inspect", fitted).stdout
    assert "ti_adapter for kind (classification)" in shown
    assert "licence" in shown
    assert f"trainable {found['trainable']:,} of" in shown


@pytest.mark.parametrize(
    ("method", "one", "ten"),  # the spec's table: d_T 4096, d_I 2048, r 16
    [
        (["full"], 23_514_177, 23_569_482),
        (["frozen"], 6_145, 61_450),
        (["ti-adapter", "--set", "image.variant=embedding"], 208_929, 264_234),
        (["ti-adapter", "--set", "image.variant=bc1"], 1_142_849, 1_198_154),
        (["ti-adapter", "--set", "image.variant=bc2"], 2_144_417, 2_199_722),
    ],
    ids=["full", "frozen", "embedding", "bc1", "bc2"],
)
def test_counts_are_the_published_ones(method: list[str], one: int, ten: int) -> None:
    for outputs, expected in ((1, one), (10, ten)):
        done = call(
            "inspect", "--method", *method, "--encoder", "image=random:resnet-50",
            "--tabular-width", 4096, "--outputs", outputs, "--json",
        )  # fmt: skip
        assert json.loads(done.stdout)["trainable"] == expected


def test_counts_share_a_network() -> None:
    two = ["--encoder", "a=random:resnet-18", "--encoder", "b=random:resnet-18"]
    found = json.loads(call("inspect", "--method", "image-only", *two, "--json").stdout)
    assert found["frozen"] == 11_176_512  # one ResNet-18 without its classifier
    assert found["widths"] == {"a": 512, "b": 512}


def test_counts_of_trees_have_no_head() -> None:
    found = call("inspect", "--method", "trees", "--tabular-width", 8, "--json")
    assert json.loads(found.stdout)["trainable"] == 0


def test_options_of_an_optional_part_switch_it_on() -> None:
    counts = ["inspect", "--method", "frozen", "--tabular-width", 100, "--json"]
    plain = json.loads(call(*counts).stdout)["trainable"]
    adapted = json.loads(call(*counts, "--set", "tabular.r=4").stdout)["trainable"]
    assert adapted - plain == 2 * 100 * 4 + 100 + 4


def test_options_go_by_the_names_of_columns_and_modalities() -> None:
    counts = ["inspect", "--method", "lora", "--encoder", "image=random:resnet-18",
              "--encoder", "img_bath=random:resnet-18"]  # fmt: skip

    def inside(options: str) -> dict[str, int]:
        found = json.loads(call(*counts, "--set", f"lora={options}", "--json").stdout)["parts"]
        return {p["part"]: p["trainable"] for p in found if p["part"].startswith("adapters")}

    one, two = inside('{"r":1}')["adapters image"], inside('{"r":2}')["adapters image"]
    assert two == 2 * one
    own = inside('{"img_bath":{"r":1},"image":{"r":2}}')
    assert own == {"adapters img_bath": one, "adapters image": two}
    assert inside('{"img_bath":{"r":1}}') == {"adapters img_bath": one}
    unknown = call(*counts, "--set", 'lora={"sound":{"r":1}}', code=2)
    assert "['sound'] are none of ['image', 'img_bath']" in unknown.stderr
    vague = call("inspect", "--method", "u2a", "--encoder", "image=random:resnet-18",
                 "--set", 'adapter={"image":{"r":1}}', code=2)  # fmt: skip
    assert "one of the adapters must say which one it is" in vague.stderr


@pytest.mark.parametrize("name", names("methods"))
def test_every_option_of_a_method_is_documented(name: str) -> None:
    found = {o.path: o for o in options(name)}
    assert ("training.epochs" in found) == (name != "trees")  # which follow no recipe
    shown = call("methods", name).stdout
    for path in found:
        assert f"--set {path}=" in shown
    assert json.loads(call("methods", name, "--json").stdout).keys() == found.keys()


def test_the_string_under_a_field_is_its_help() -> None:
    about = {o.path: o.about for o in options("ti-adapter")}
    assert about["image.variant"].startswith("embedding: on the pooled vector")
    assert about["tabular.r"] == "Width of the bottleneck, at least 1."
    assert any(o.path == "tabular.r" for o in options("frozen"))  # an optional part that is off


def test_methods_are_listed_with_a_line_each() -> None:
    found = call("methods").stdout.splitlines()
    assert [line.split()[0].replace("-", "_") for line in found] == list(names("methods"))
    assert json.loads(call("methods", "--json").stdout)["ti-adapter"]


@pytest.mark.parametrize(
    ("values", "task", "why"),
    [
        ([1, 2, 2], "classification", "2 different whole numbers, at most 20"),
        ([1.0, 2.0, 5.0], "classification", "3 different whole numbers"),
        ([1.5, 2.0, 5.0], "regression", "numbers with fractions"),
        (list(range(21)), "regression", "21 different numbers, more than 20"),
        (["a", "b"], "classification", "2 different words"),
        ([True, False], "classification", "2 different words"),
        ([["a"], []], "multilabel", "cells of 'y' are lists"),
        ([np.array(["a"]), np.array([])], "multilabel", "cells of 'y' are lists"),
    ],
)
def test_task_is_guessed_with_a_reason(values: list[object], task: str, why: str) -> None:
    found = _guessed(pd.Series(values, name="y"), None)
    assert found[0] == task
    assert why in found[1]


def test_undefined_numbers_are_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": float("nan"), "b": [np.float64("inf")], "c": np.int64(3), "d": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None], "c": 3, "d": "x"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "nowhere.csv", "--label", "y"], "nowhere.csv: there is no such file"),
        (["fit", "TABLE", "--label", "nothing"], r"columns 'nothing' \(label\) are absent"),
        (["fit", "TABLE", "--label", "prise"], r"'prise' \(label\) are absent.*: did you mean 'price'\?"),
        (["fit", "TABLE", "--label", "kind", "--split-column", "spilt"], r"did you mean 'split'\?"),
        (["fit", "TABLE", "--label", "kind", "--groups", "Size"], r"did you mean 'size'\?"),
        (["fit", "TABLE", "--label", "kind", "--sample-weight", "sizes"], r"did you mean 'size'\?"),
        (["compare", "TABLE", "--label", "kinds", "--methods", "trees", "--out", "o", "--task",
          "classification"], r"did you mean 'kind'\?"),
        (["fit", "TABLE", "--label", "kind", "--method", "magic"], "is named 'magic'; there are"),
        (["fit", "TABLE", "--label", "kind", "--set", "image.shape=1"], r"no option \['shape'\]"),
        (["fit", "TABLE", "--label", "kind", "--set", "image.r.s=1"], "'r' has no options of its own"),
        (["fit", "TABLE", "--label", "kind", "--set", "training.epoch=1"], r"no option \['epoch'\]"),
        (["fit", "TABLE", "--label", "kind", "--set", "epochs=1"], r"write training\.epochs="),
        (["fit", "TABLE", "--label", "kind", "--target", "log"],
         r"the task classification has no option \['target'\]; it has metric, class_weight"),
        (["fit", "TABLE", "--label", "price", "--class-weight", "balanced"],
         r"the task regression has no option \['class_weight'\]"),
        (["fit", "TABLE", "--label", "kind", "--label", "size", "--task", "classification"],
         "classification has one label column"),
        (["fit", "TABLE", "--label", "kind", "--set", "encoders.image.size=8"],
         r"encoders \['image'\], which --encoder does not name"),
        (["fit", "TABLE", "--label", "kind", "--out", "FULL"], "holds other files"),
        (["fit", "TABLE", "--label", "kind", "--encoder", "image"], "expected NAME=VALUE, got 'image'"),
        (["fit", "TABLE", "--label", "kind", "--set", "a=1", "--set", "a=2"], "'a' is given twice"),
        (["fit", "TABLE", "--label", "kind", "--resume"], "--resume needs --out"),
        (["predict", "FULL", "TABLE", "--out", "p.csv"], "is no saved model"),
        (["predict", "FULL", "TABLE", "--out", "p.xlsx"], "results must go to .csv"),
        (["inspect"], "either a MODEL folder or a --method"),
        (["inspect", "FULL", "--outputs", "2"], "go with --method, not with a MODEL"),
        (["inspect", "--method", "full", "--encoder", "tabular=mlp"], "give --tabular-width"),
        (["inspect", "--method", "image-only"], "'image-only' has nothing to read; name --tabular"),
        (["inspect", "--method", "image-only", "--tabular-width", "4"],
         "'image_only' reads no table; leave --tabular-width out"),
        (["inspect", "--method", "tabular-only", "--tabular-width", "4", "--encoder",
          "image=random:resnet-18"], "'tabular_only' does not read 'image'; leave --encoder image= out"),
        (["fit", "TABLE", "--label", "kind", "--method", "tabular-only", "--encoder", "image=starter"],
         "'tabular_only' does not read 'image'"),
        (["fit", "TABLE", "--label", "kind", "--method", "trees", "--encoder", "tabular=mlp"],
         "'trees' has an encoder of its own for 'tabular'; leave --encoder tabular= out"),
        (["fit", "TABLE", "--label", "kind", "--method", "trees", "--resume", "--time-limit", "9",
          "--out", "o"],
         "'trees' trains nothing step by step: leave --resume and --time-limit out"),
        (["fit", "TABLE", "--label", "kind", "--method", "trees", "--set", "training.epochs=3"],
         r"'trees' trains nothing step by step: leave --set training\.epochs out"),
        (["compare", "TABLE", "--label", "kind", "--methods", "trees", "--set", "training.epochs=3",
          "--out", "o"], r"trains nothing step by step: leave --set training\.epochs out"),
        (["fit", "TABLE", "--label", "kind", "--set", "training=2"],
         r"training has options of its own, training\.learning_rate, .*for example, --set training\."),
        (["fit", "TABLE", "--label", "kind", "--set", "image=bc1"],
         r"image has options of its own, image\.variant.* --set image\.variant=\.\.\."),
        (["fit", "TABLE", "--label", "kind", "--method", "frozen", "--set", "tabular=16"],
         r"tabular has options of its own, tabular\.r"),
        (["fit", "TABLE", "--label", "kind", "--set", "task=regression"],
         r"task has options of its own; write --set task\.metric=\.\.\."),
        (["fit", "TABLE", "--label", "kind", "--set", "encoders.photo=128"],
         r"encoders\.photo has options of its own; write --set encoders\.photo\.size=\.\.\."),
        (["inspect", "--method", "full", "--set", "training.epochs=1"], "do not change counts"),
        (["compare", "TABLE", "--label", "kind", "--methods", "frozen", "--seeds", "2", "--out", "o"],
         "--seeds needs --split-column"),
        (["compare", "TABLE", "--label", "kind", "--methods", "frozen", "--split-column", "split",
          "--folds", "2", "--out", "o"], "--folds or --split-column, not both"),
        (["compare", "TABLE", "--label", "kind", "--methods", "frozen,frozen", "--out", "o"],
         r"must stand once in --methods; repeated: \['frozen'\]"),
        (["compare", "TABLE", "--label", "kind", "--methods", "full:lr", "--out", "o"],
         "written name:option=value"),
        (["compare", "TABLE", "--label", "kind", "--methods", "full", "--set", "image.r=1",
          "--out", "o"], "an option starts with a method's name"),
    ],
)  # fmt: skip
def test_errors_are_one_clean_message_and_exit_code_2(
    words: list[str], said: str, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    places = {"TABLE": str(csv), "FULL": "full"}
    done = call(*[places.get(w, w) for w in words], code=2)
    assert re.search(said, done.stderr.replace("\n", " "))
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


@pytest.mark.filterwarnings("default::multiadapt.data.splits.LeakWarning")
def test_warnings_are_one_line(csv: Path, small: list[str], tmp_path: Path) -> None:
    table = pd.read_csv(csv)
    table.loc[24, "front"] = table.loc[0, "front"]  # a training photo among val's
    table.to_csv(tmp_path / "table.csv", index=False)
    words = ["--label", "kind", "--split-column", "split", *small, "--quiet"]
    done = call("fit", tmp_path / "table.csv", *words)
    said, warned = done.stderr.splitlines()
    assert said.startswith("this model is not saved")
    assert warned.startswith("Warning: 1 files stand in both train and val")


def test_one_slip_in_a_column_of_numbers_does_not_make_classes(csv: Path, tmp_path: Path) -> None:
    table = pd.read_csv(csv)[["size", "price"]].astype({"price": str})
    table.loc[3, "price"] = "12,50"
    table.to_csv(tmp_path / "table.csv", index=False)
    done = call("fit", tmp_path / "table.csv", "--label", "price", code=2)
    assert "39 numbers and 1 cells that are none, such as '12,50' in row 3" in done.stderr
    done = call("fit", tmp_path / "table.csv", "--label", "price", "--task", "regression", code=2)
    assert "'12,50' in 1 of 40 rows (3)" in done.stderr


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("pass root= with a folder", ["--root DIRECTORY"]),
        ('or pass on_error="missing"', ["--on-error missing"]),
        ("or validation=0 to train on all", ["--validation 0"]),
        ("shorten it or raise max_files", ["--max-files NUMBER"]),
        ('column_types={"a b": "categorical", "c": "image"}',
         ["--column-type 'a b=categorical'", "--column-type c=image"]),
        ("column_types['c'] must be one of", ["--column-type COLUMN=KIND"]),
        ("name one with encoders={...} for real work", ["--encoder NAME=SOURCE"]),
        ("load(folder, encoders={'image': ...})", ["--encoder NAME=SOURCE"]),
        ("encoders={'tabular': 'mlp'} needs no context", ["--encoder tabular=mlp"]),
        ("or name another file with resume=", ["--out DIRECTORY"]),
        ("lower training.learning_rate", ["--set training.learning_rate=..."]),
        ("does not fit; raise `memory` above 3 GB", ["--memory GIGABYTES"]),
        ("or join_text=True", ["--join-text"]),
        ('fit with answers="auto"', ["--set task.answers=auto"]),
        ("name it with backbone=...", ["--backbone SOURCE"]),
        ("name both with backbone={'text': ..., ...}", ["--encoder NAME=SOURCE"]),
        ('all the same with base="other"', ["--base other"]),
        ("the answers and the prompt", []),
        ("or on_error names", ["--on-error raise|missing"]),
        ("pass root= (--root)", []),
        ("the root of max_files/photo.png and its encoders", []),
    ],
)  # fmt: skip
def test_keyword_arguments_in_a_text_have_their_options(text: str, options: list[str]) -> None:
    commands = main.commands  # type: ignore[attr-defined]
    assert in_shell(text, commands["fit"], commands["fit"]) == ", ".join(options)


def test_what_only_fit_can_set_is_told_as_its() -> None:
    commands = main.commands  # type: ignore[attr-defined]
    found = in_shell("pass root= or raise max_files", commands["predict"], commands["fit"])
    assert found == "--root DIRECTORY, multiadapt fit ... --max-files NUMBER"


def test_every_keyword_argument_of_a_fit_is_known_to_the_shell() -> None:
    """Those that a message cannot name, or the shell says otherwise, are listed here."""
    tables = (multiadapt.MultimodalClassifier, multiadapt.MultimodalRegressor)
    texts = (multiadapt.QuestionAnswerer, multiadapt.Captioner)
    calls = [f for kind in (*tables, *texts) for f in (kind, kind.fit)]
    given = {name for f in calls for name in signature(f).parameters} - {*TASK}
    assert given - KEYWORDS.keys() == {
        "self", "X", "y", "label", "method", "training", "device", "verbose",
        "image", "question", "answer", "caption",
    }  # fmt: skip
    said = {name for kind in texts for name in signature(kind.predict).parameters}
    assert (given | said) >= KEYWORDS.keys()
    commands = main.commands  # type: ignore[attr-defined]
    options = {p.name for name in ("fit", "answer", "caption") for p in commands[name].params}
    assert options.issuperset(KEYWORDS.values())


def test_errors_warnings_and_lines_name_the_options_of_the_shell(csv: Path, tmp_path: Path) -> None:
    table = pd.read_csv(csv)[["size", "price"]].astype({"size": str})
    table.loc[3, "size"] = "big"
    table.to_csv(tmp_path / "slip.csv", index=False)
    done = call("fit", tmp_path / "slip.csv", "--label", "price", code=2)
    assert done.stderr.endswith("\nIn the shell: --column-type size=categorical\n")
    pd.read_csv(csv).iloc[:0].to_csv(tmp_path / "none.csv", index=False)
    none = ["--val", tmp_path / "none.csv", "--root", tmp_path, "--column-type", "front=ignore"]
    done = call("fit", csv, "--label", "price", *none, code=2)
    assert done.stderr.endswith(" (in the shell: --val PATH, --validation 0)\n")
    codes = pd.read_csv(csv)[["price"]].assign(zip=np.arange(40) // 4 + 10_000)
    codes.to_csv(tmp_path / "codes.csv", index=False)
    done = call("fit", tmp_path / "codes.csv", "--label", "price", "--method", "trees")
    assert '{"zip": "categorical"} (in the shell: --column-type zip=categorical)' in done.stderr


@pytest.fixture(scope="module")
def retriever(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A fitted retriever, and its table."""
    folder = tmp_path_factory.mktemp("pairs")
    table = pd.read_parquet(photos / "table.parquet").iloc[:24]
    table.assign(words=table["kind"] + " number " + table["price"].astype(str)).to_csv(
        folder / "pairs.csv", index=False
    )
    pair = ["--query", "words", "--find", "front", "--backbone", "random:blip-tiny"]
    recipe = ["--set", "training.epochs=1", "--root", str(photos), "--device", "cpu", "--quiet"]
    done = call(
        "fit", folder / "pairs.csv", "--task", "retrieval", "--method", "uniadapter", *pair, *recipe,
        "--set", "adapter.r=4", "--out", folder / "model",
    )  # fmt: skip
    assert "heads" in done.stdout
    assert re.search(
        r"epoch; after epoch 1: loss \S+, mean R@1 of both ways by similarity", done.stdout
    )
    return folder / "model", folder / "pairs.csv"


def test_a_retriever_is_fitted_indexed_and_searched(
    retriever: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    model, table = retriever
    root = ["--root", photos]
    call("index", model, table, "--out", tmp_path / "index", *root)
    done = call("search", model, tmp_path / "index", "blue number", "-k", 3, "--json")
    found = json.loads(done.stdout)["found"]
    assert len(found) == 3
    assert set(found[0]) == {"id", "score", "similarity"}
    assert (photos / found[0]["id"]).is_file()
    done = call("search", model, tmp_path / "index", "blue number", "--rerank", 0, "--json")
    assert set(json.loads(done.stdout)["found"][0]) == {"id", "score"}  # nothing was ranked again
    call("embed", model, table, "--side", "query", "--out", tmp_path / "words.parquet")
    vectors = np.stack(pd.read_parquet(tmp_path / "words.parquet")["vector"].to_list())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_files_of_an_index_that_moved_are_found_in_the_folder_that_is_named(
    retriever: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    model, table = retriever
    shutil.copytree(photos, tmp_path / "before")
    call("index", model, table, "--out", tmp_path / "index", "--root", tmp_path / "before")
    words = ["search", model, tmp_path / "index", "blue number", "--json"]
    found = call(*words).stdout
    (tmp_path / "before").rename(tmp_path / "after")
    done = call(*words, code=2)
    assert "read again in" in done.stderr
    assert "In the shell: --root DIRECTORY" in done.stderr
    assert call(*words, "--root", tmp_path / "after").stdout == found


def test_two_encoders_that_moved_are_named_one_by_one(
    retriever: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    make_text_network(
        texts, "Bert", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, vocab_size=60, max_position_embeddings=24,
    )  # fmt: skip
    table, model = retriever[1], tmp_path / "model"
    sides = ["--encoder", "image=starter", "--encoder", f"text={texts}", "--device", "cpu"]
    pair = ["--task", "retrieval", "--query", "words", "--find", "front", "--method", "frozen"]
    once = ["--set", "training.epochs=1", "--validation", 0, "--quiet", "--out", model]
    call("fit", table, *pair, *sides, *once, "--root", photos)
    texts = texts.rename(tmp_path / "elsewhere")
    there = ["--encoder", f"text={texts}", "--root", photos, "--device", "cpu"]
    done = call("index", model, table, "--out", tmp_path / "index", "--root", photos, code=2)
    assert "in the shell: --encoder NAME=SOURCE" in done.stderr
    call("index", model, table, "--out", tmp_path / "index", *there)
    found = call("search", model, tmp_path / "index", "blue", *there[:2], "--json")
    assert len(json.loads(found.stdout)["found"]) == 10
    call("embed", model, table, "--out", tmp_path / "photos.parquet", *there)
    assert "r@10" in call("evaluate", model, table, *there).stdout
    call("inspect", model, *there[:2])
    done = call("embed", model, table, "--out", "o.parquet", *there, "--backbone", texts, code=2)
    assert "where one network has moved, or --encoder where one of two has, not both" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--task", "retrieval"], "name them with --query and --find"),
        (["--task", "retrieval", "--query", "a", "--find", "b", "--label", "c"], "no use for --label"),
        (["--label", "kind", "--query", "a"], "--query goes with --task retrieval"),
        (["--label", "kind", "--backbone", "a"], "goes with --task retrieval or answering or captioning"),
        ([], "Missing option '--label'"),
        (
            ["--task", "retrieval", "--query", "kind", "--find", "front", "--backbone", "x/y", "--encoder", "image=starter"],
            "two ways to read both columns",
        ),
    ],
)  # fmt: skip
def test_options_of_pairs_and_of_labels_do_not_mix(
    csv: Path, options: list[str], says: str
) -> None:
    assert says in call("fit", csv, *options, code=2).output


def test_vectors_are_written_to_parquet_alone(retriever: tuple[Path, Path], tmp_path: Path) -> None:
    done = call("embed", *retriever, "--out", tmp_path / "words.csv", code=2)
    assert "must end in .parquet" in done.output


def test_rows_of_vectors_are_counted_in_the_whole_table(
    retriever: tuple[Path, Path], tmp_path: Path
) -> None:
    model, table = retriever
    frame = pd.read_csv(table)
    kind = frame["kind"].iloc[-1]
    frame.index = pd.Index(range(100, 100 + len(frame)))  # labels that a Parquet file keeps
    frame.to_parquet(tmp_path / "pairs.parquet")
    out = tmp_path / "words.parquet"
    where = ["--side", "query", "--where", f"kind={kind}"]
    call("embed", model, tmp_path / "pairs.parquet", "--out", out, *where)
    expected = np.flatnonzero(frame["kind"] == kind).tolist()
    assert pd.read_parquet(out)["row"].tolist() == expected != list(range(len(expected)))


def test_vectors_of_pairs_are_made_part_by_part(
    retriever: tuple[Path, Path], tmp_path: Path
) -> None:
    """Parts without a row that was asked for included."""
    words = ["embed", *retriever, "--side", "query", "--keep", "words"]
    last = pd.read_csv(retriever[1])["words"].iloc[-1]
    call(*words, "--out", tmp_path / "one.parquet", "--chunk", 5, "--where", f"words={last}")
    call(*words, "--out", tmp_path / "all.parquet", "--chunk", 7)
    one, every = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("one", "all"))
    assert one["words"].tolist() == [last]
    assert len(every) == 24
    np.testing.assert_allclose(one["vector"].iloc[0], every["vector"].iloc[-1], atol=1e-5)
    done = call(*words, "--out", tmp_path / "o.parquet", "--stream", "words", code=2)
    assert "a vector of a retriever has no use for --stream" in done.output


def test_names_in_an_index_never_hide_a_cell(
    retriever: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    """A name of several pictures is refused; a picture under several names is kept under each."""
    model, table = retriever
    frame = pd.read_csv(table)
    root = ["--root", photos]
    options = [model, table, "--out", tmp_path / "index", *root]
    assert "must stand once" in call("index", *options, "--id", "kind", code=2).output
    twice = pd.concat([frame.assign(name="a" + frame["front"]), frame.assign(name=frame["front"])])
    pd.concat([twice, twice]).to_csv(tmp_path / "twice.csv", index=False)
    options[1] = tmp_path / "twice.csv"
    done = call("index", *options, "--id", "name")
    assert f"{2 * frame['front'].nunique()} vectors" in done.stderr


def test_a_retriever_is_scored_both_ways(retriever: tuple[Path, Path], photos: Path) -> None:
    root = ["--root", photos, "--device", "cpu", "--where", "price!=0"]
    done = call("evaluate", *retriever, *root, "--json")
    found = json.loads(done.stdout)
    assert found["task"] == "retrieval"
    ways = {(line["way"], line["model"]) for line in found["metrics"]}
    assert ("words to front", "adapted") in ways
    assert ("front to words", "zero-shot") in ways
    shown = call("evaluate", *retriever, *root).stdout
    assert "r@10" in shown
    assert "words to front: 24 queries" in shown.replace("\n", " ")


def test_inspect_shows_what_finds_what(retriever: tuple[Path, Path]) -> None:
    found = json.loads(call("inspect", retriever[0], "--json").stdout)
    assert (found["task"]["name"], found["label"]) == ("retrieval", "words to front")
    assert set(found["encoders"]) == {"words", "front"}
    assert "uniadapter for words to front (retrieval)" in call("inspect", retriever[0]).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "MODEL", "TABLE", "--out", "o.csv"],
         r"holds a retriever, not a model for the rows of tables; .* evaluate, embed, index and search"),
        (["export", "MODEL", "--out", "o"], "holds a retriever, not a model"),
        (["evaluate", "MODEL", "TABLE", "--label", "kind", "--empty", "prior"],
         "no use for --label, --empty"),
        (["search", "FITTED", "index", "blue"], "holds a model for the rows of tables, not a retriever"),
        (["evaluate", "FITTED", "TABLE", "--backbone", "x"], "--backbone goes with a retriever"),
        (["inspect", "FITTED", "--backbone", "x"], "name moved encoders with --encoder"),
        (["inspect", "MODEL", "--encoder", "image=x"],
         "one network reads both columns: .*in the shell: --backbone SOURCE"),
        (["inspect", "--method", "full", "--backbone", "x"], "goes with a saved MODEL"),
    ],
)  # fmt: skip
def test_a_folder_of_another_kind_is_named_as_what_it_is(
    words: list[str], says: str, retriever: tuple[Path, Path], fitted: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"MODEL": str(retriever[0]), "TABLE": str(retriever[1]), "FITTED": str(fitted)}
    done = call(*[places.get(w, w) for w in words], code=2)
    assert re.search(says, done.stderr.replace("\n", " "))
    assert "damaged" not in done.stderr
    assert not list(tmp_path.iterdir())


PAIR = ["--query", "words", "--find", "front", "--backbone", "random:blip-tiny"]


def test_a_retriever_is_fitted_by_uniadapter_and_options_of_its_loss(
    retriever: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    loss = ["--set", "training.epochs=1", "--set", "contrast.momentum=0.9", "--quiet"]
    place = ["--root", photos, "--device", "cpu", "--out", tmp_path / "model"]
    call("fit", retriever[1], "--task", "retrieval", *PAIR, *loss, *place)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["contrast"]["momentum"] == 0.9
    assert config["method"]["name"] == "uniadapter"


def test_options_of_a_network_reach_two_encoders_and_the_one_that_is_usual(
    retriever: tuple[Path, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pairing, "usual_blip", lambda task: "random:blip-tiny")
    both = ["--encoder", "image=starter", "--encoder", "text=random:bert-tiny"]
    changes = ("backbone.encoders.image.size=32", "backbone.width=9")
    sides = Dual(
        {"image": ImageEncoder("starter", size=32), "text": TextEncoder("random:bert-tiny")}
    )
    for name, words, expected in (
        ("sides", [*both, *(w for c in changes for w in ("--set", c))], sides.with_params(width=9)),
        ("one", ["--set", "backbone.size=48"], Blip("random:blip-tiny", size=48)),
    ):
        pair = ["--task", "retrieval", "--query", "words", "--find", "front", "--method", "frozen"]
        place = ["--root", photos, "--device", "cpu", "--quiet", "--out", tmp_path / name]
        call("fit", retriever[1], *pair, *words, "--set", "training.epochs=1", *place)
        found = json.loads((tmp_path / name / "config.json").read_text())
        assert found["backbone"] == expected.to_dict()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--task", "retrieval", *PAIR, "--method", "trees"], "'trees' leaves out text and image"),
        (["--task", "retrieval", *PAIR, "--method", "tabular-only"], "'tabular_only' leaves out text"),
        (["--task", "retrieval", *PAIR, "--method", "image-only"], "'image_only' leaves out text"),
        (["--task", "retrieval", *PAIR, "--set", "contrast=.9"], "write --set contrast.momentum="),
        (["--task", "retrieval", *PAIR, "--set", "contrast.queues=9"], "queues"),
        (["--task", "retrieval", *PAIR, "--set", "task.metric=mae"], "no use for --set task.metric"),
        (["--label", "price", "--set", "contrast.momentum=0.9"], "goes with --task retrieval"),
    ],
)  # fmt: skip
def test_what_a_retriever_cannot_use_is_refused(
    options: list[str], says: str, retriever: tuple[Path, Path]
) -> None:
    done = call("fit", retriever[1], *options, code=2)
    assert says in done.stderr.replace("\n", " ")
