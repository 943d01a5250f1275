"""Questions and captions in the shell."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from shell import call
from squares import COLOURS, make_squares, squares
from tiny_clip import make_clip

from multiadapt import Captioner, QuestionAnswerer
from multiadapt.cli._chunks import Chunks

SMALL = ["--set", "training.epochs=2", "--set", "training.batch_size=8", "--set", "adapter.r=4"]
BLIP = ["--backbone", "random:blip-tiny", "--device", "cpu"]
ASKED = ["--task", "answering", "--image", "photo", "--question", "question", "--answer", "answer"]
SAID = ["--task", "captioning", "--image", "photo", "--caption", "caption"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares, and `table.csv` with questions about them."""
    folder = make_squares(tmp_path_factory.mktemp("squares"))
    squares().to_csv(folder / "table.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def answerer(shop: Path) -> Path:
    call("fit", shop / "table.csv", *ASKED, *BLIP, *SMALL, "--quiet", "--out", shop / "answerer")
    return shop / "answerer"


@pytest.fixture(scope="module")
def captioner(shop: Path) -> Path:
    call("fit", shop / "table.csv", *SAID, *BLIP, *SMALL, "--quiet", "--out", shop / "captioner")
    return shop / "captioner"


@pytest.fixture(params=["answering", "captioning"])
def written(request: pytest.FixtureRequest, shop: Path) -> tuple[str, Path]:
    """Each command and its model."""
    name = {"answering": "answerer", "captioning": "captioner"}[request.param]
    command = {"answering": "answer", "captioning": "caption"}[request.param]
    return command, request.getfixturevalue(name)


def test_fit_prints_what_is_trained_and_saves(shop: Path, tmp_path: Path) -> None:
    recipe = [
        "--set",
        "training.epochs=1",
        "--set",
        "task.smoothing=0",
        "--set",
        'task.answers=["red","lime"]',
    ]
    words = [*ASKED, *BLIP, *recipe, "--method", "lora", "--validation", 0, "--out", tmp_path / "m"]
    done = call("fit", shop / "table.csv", *words, "--resume")
    assert re.search(r"adapters decoder +[\d,]+ +0", done.stdout)
    assert "validation" not in done.stdout
    assert "8 of 24 answers, 1 different ones, are outside the list of 2" in done.stderr
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert (config["kind"], config["method"]["name"]) == ("answering", "lora")
    assert config["answers"] == ["red", "lime"]
    assert config["options"]["smoothing"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_captioner_begins_with_what_an_answerer_learned(
    shop: Path, answerer: Path, tmp_path: Path
) -> None:
    begun = ["--init-from", answerer, "--set", "task.prompt=a photo of", "--out", tmp_path / "m"]
    done = call("fit", shop / "table.csv", *SAID, *BLIP, *SMALL, *begun, "--quiet")
    said = r"validation on \d+ rows, which chose the epoch; after epoch [12]: loss [\d.]+$"
    assert re.search(said, done.stdout, re.MULTILINE)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["info"]["taken_over"] > 0
    assert config["options"]["prompt"] == "a photo of"


def test_a_table_is_told_in_order_and_as_in_python(
    written: tuple[str, Path], shop: Path, tmp_path: Path
) -> None:
    command, model = written
    suffix = ".parquet" if command == "answer" else ".jsonl"
    out = tmp_path / f"said{suffix}"
    how = ["--how", "beam", "--beams", 1, "--max-length", 5, "--chunk", 10, "--device", "cpu"]
    call(command, model, shop / "table.csv", "--out", out, *how)
    found = pd.read_parquet(out) if command == "answer" else pd.read_json(out, lines=True)
    assert list(found) == ["row", "prediction"]
    assert found["row"].tolist() == list(range(24))
    kind = QuestionAnswerer if command == "answer" else Captioner
    expected = kind.load(model, device="cpu").predict(
        shop / "table.csv", how="beam", beams=1, max_length=5
    )
    assert found["prediction"].tolist() == expected.tolist()


def test_texts_that_were_broken_off_continue_with_the_same_draws(
    captioner: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    how = ["--how", "nucleus", "--max-length", 5, "--chunk", 10, "--device", "cpu"]
    words = ["caption", captioner, shop / "table.csv", *how]
    call(*words, "--out", whole)
    write = Chunks.append
    with monkeypatch.context() as patched:
        patched.setattr(Chunks, "append", lambda s, *a: 1 / 0 if s.rows else write(s, *a))
        with pytest.raises(ZeroDivisionError):
            call(*words, "--out", out)
    assert "continuing after 10 rows" in call(*words, "--out", out).stderr
    assert out.read_bytes() == whole.read_bytes()


def test_kept_columns_stand_beside(answerer: Path, shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "said.csv"
    call(
        "answer", answerer, shop / "table.csv", "--out", out, "--keep", "photo", "--keep", "answer"
    )
    found = pd.read_csv(out)
    assert list(found) == ["photo", "answer", "prediction"]
    assert set(found["prediction"]) <= set(COLOURS)


def test_one_picture_is_told_of_at_once(
    answerer: Path, captioner: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path is relative to where one stands, not to a table."""
    monkeypatch.chdir(shop)
    done = call("answer", answerer, "red-0.png", "colour?", "--how", "rank")
    assert done.stdout.strip() in COLOURS
    one = pd.DataFrame({"photo": ["red-0.png"], "question": ["colour?"]})
    expected = QuestionAnswerer.load(answerer).predict(one, root=shop)
    assert done.stdout.strip() == expected.iloc[0]
    (shop / "red;0.png").write_bytes((shop / "red-0.png").read_bytes())
    assert call("answer", answerer, "red;0.png", "colour?").stdout == done.stdout
    said = call("caption", captioner, shop / "red-0.png", "--max-length", 5, "--beams", 2)
    assert said.stdout.count("\n") == 1


def test_draws_come_from_the_seed(captioner: Path, shop: Path) -> None:
    words = ["caption", captioner, shop / "red-0.png", "--how", "nucleus", "--max-length", 12]
    first, again, other = (call(*words, "--seed", s).stdout for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.filterwarnings("ignore:.*after training and was")
def test_evaluate_gives_metrics_with_intervals_and_zero_shot_beside(
    answerer: Path, captioner: Path, shop: Path
) -> None:
    where = ["--where", "answer=red"]
    found = json.loads(call("evaluate", answerer, shop / "table.csv", *where, "--json").stdout)
    assert set(found["metrics"]) == set(found["zero_shot"]) == {"exact_match"}
    assert found["rows"] == 8
    assert (found["metric"], found["task"]) == ("exact_match", "answering")
    assert found["where"] == "answer=red"
    squares().iloc[:2].to_csv(shop / "two.csv", index=False)
    found = json.loads(call("evaluate", captioner, shop / "two.csv", "--json").stdout)
    assert (found["metric"], found["task"]) == ("cider_d", "captioning")
    for values in found["metrics"].values():
        assert set(values) == {"value", "low", "high"}
        assert values["low"] <= values["value"] <= values["high"]
    shown = call("evaluate", answerer, shop / "table.csv", *where).stdout
    assert "8 questions, 95 % intervals:" in shown
    assert re.search(r"^ *exact_match +zero-shot", shown, re.MULTILINE)


def test_inspect_shows_columns_parts_and_licences(written: tuple[str, Path]) -> None:
    command, model = written
    found = json.loads(call("inspect", model, "--json").stdout)
    assert found["trainable"] == sum(p["trainable"] for p in found["parts"]) > 0
    assert found["bytes"] == sum(f.stat().st_size for f in model.iterdir())
    assert found["task"]["name"] == ("answering" if command == "answer" else "captioning")
    assert found["columns"][0]["name"] == "photo"
    assert {"source", "licence", "sha256", "holds_rows"} <= set(found["encoders"]["photo"])
    shown = call("inspect", model, "--backbone", "random:blip-tiny").stdout
    assert f"uniadapter for {command} ({found['task']['name']})" in shown


def test_a_head_over_answers_is_fitted_asked_measured_and_shown(shop: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip")
    recipe = [
        "--set",
        "training.epochs=1",
        "--set",
        "task.min_count=2",
        "--device",
        "cpu",
        "--quiet",
    ]
    words = [*ASKED, "--backbone", clip, *recipe, "--method", "frozen", "--out", tmp_path / "m"]
    done = call("fit", shop / "table.csv", *words)
    assert re.search(r"^ *head +[\d,]+ +0$", done.stdout, re.MULTILINE)
    assert "rows, which chose the epoch; 95 % intervals:" in done.stdout
    assert re.search(r"^exact_match +\S+ +\S+ +\S+$", done.stdout, re.MULTILINE)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["training"]["learning_rate"] == 1e-3  # a new head's own, not a decoder's
    said = call("answer", tmp_path / "m", shop / "red-0.png", "colour?")
    assert said.stdout.strip() in COLOURS
    found = json.loads(call("evaluate", tmp_path / "m", shop / "table.csv", "--json").stdout)
    assert found["zero_shot"] is None
    assert set(found["metrics"]) == {"exact_match"}
    told = json.loads(call("inspect", tmp_path / "m", "--backbone", clip, "--json").stdout)
    assert set(told["encoders"]) == {"photo", "question"}
    both = ["--encoder", f"image={clip}", "--encoder", "text=random:bert-tiny"]
    both += ["--method", "frozen", "--out", tmp_path / "b"]
    call("fit", shop / "table.csv", *ASKED, *both, *recipe)
    there = clip.rename(tmp_path / "there")
    say = ["answer", tmp_path / "b", shop / "red-0.png", "colour?"]
    assert call(*say, "--encoder", f"image={there}").stdout.strip() in COLOURS
    there.rename(clip)
    done = call(
        "fit", shop / "table.csv", *ASKED, "--backbone", clip, "--set", "task.answers=none", code=2
    )
    assert 'give answers="auto" or a list (in the shell: --set task.answers=auto)' in done.stderr


def test_a_network_that_has_moved_is_named(answerer: Path, shop: Path, tmp_path: Path) -> None:
    words = [answerer, shop / "red-0.png", "colour?", "--backbone", tmp_path / "nowhere"]
    done = call("answer", *words, code=2)
    assert "cannot be opened" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit", "TABLE", "--task", "answering", "--image", "photo"],
         "name them with --image, --question and --answer"),
        (["fit", "TABLE", "--task", "captioning"], "name them with --image and --caption"),
        (["fit", "TABLE", *SAID, "--question", "question"], "--question goes with --task answering"),
        (["fit", "TABLE", "--label", "answer", "--init-from", "MODEL"],
         "--init-from goes with --task answering or captioning"),
        (["fit", "TABLE", *SAID, "--base", "other"], "--base goes with --init-from"),
        (["fit", "TABLE", *SAID, "--column-type", "photo=image"], "no use for --column-type"),
        (["fit", "TABLE", *SAID, "--label", "answer"], "no use for --label"),
        (["fit", "TABLE", *SAID, "--set", "task.answers=auto"],
         "no use for --set task.answers: it has task.prompt, task.smoothing"),
        (["fit", "TABLE", *SAID, "--set", "contrast.momentum=0.9"], "goes with --task retrieval"),
        (["fit", "TABLE", "--label", "answer", "--set", "backbone.frames=4"],
         "reads both columns; it goes with --task retrieval, answering and captioning"),
        (["fit", "TABLE", *SAID, "--set", "backbone=x"],
         "backbone has options of its own; write --set backbone.frame_aware="),
        (["fit", "TABLE", *SAID, *BLIP, "--set", "backbone.colour=4"], r"Blip has no option \['colour'\]"),
        (["fit", "TABLE", *SAID, "--set", "task.smoothing=much"], "must be of their kind: .*'much'"),
        (["fit", "TABLE", *ASKED, "--set", "task.min_count=1.5"], "a whole number is needed, not 1.5"),
        (["fit", "TABLE", *ASKED, *BLIP, "--set", "task.answers=5"], "answers are a list such as .*, not 5"),
        (["fit", "TABLE", *SAID, "--method", "trees"], "'trees' leaves out text and image"),
        (["fit", "TABLE", *ASKED[:-1], "reply", *BLIP], "'reply'"),
        (["compare", "TABLE", "--task", "answering", "--label", "answer", "--methods", "lora", "--out",
          "o"], "compare takes tasks with a label; fit one model of answering by each method"),
        (["answer", "MODEL", "TABLE"], "Missing option '--out'"),
        (["answer", "MODEL", "TABLE", "colour?", "--out", "o.csv"], "questions stand in a column"),
        (["answer", "MODEL", "PHOTO"], "ask a QUESTION about it"),
        (["answer", "MODEL", "PHOTO", "colour?", "--out", "o.csv"], "--out goes with a table"),
        (["answer", "MODEL", "nowhere.png", "colour?"], r"there is no picture or clip nowhere\.png"),
        (["answer", "MODEL", "nowhere.png"], r"there is no picture or clip nowhere\.png"),
        (["answer", "MODEL", "asked.jsonl"], r"asked\.jsonl: a table must be one of \.csv"),
        (["answer", "MODEL", "TABLE", "--out", "o.txt"], "results must go to .csv"),
        (["answer", "MODEL", "TABLE", "--out", "o.csv", "--keep", "phto"], "did you mean 'photo'"),
        (["answer", "MODEL", "PHOTO", "colour?", "--how", "beam", "--max-length", "64"],
         r"max_length must be in 1\.\.63.*in the shell: --max-length"),
        (["answer", "MODEL", "PHOTO", "colour?", "--beams", "2", "--seed", "1"],
         "--how rank, the default of this model, has no use for --beams and --seed: it takes --k"),
        (["answer", "MODEL", "TABLE", "--out", "o.csv", "--how", "beam", "--top-p", ".5", "--k", "3"],
         "--how beam has no use for --top-p and --k: it takes --beams and --max-length"),
        (["caption", "MODEL", "PHOTO", "--seed", "3"], "--how beam has no use for --seed"),
        (["caption", "MODEL", "PHOTO", "--how", "nucleus", "--beams", "3"],
         "--how nucleus has no use for --beams: it takes --top-p and --max-length and --seed"),
        (["caption", "MODEL", "PHOTO"], "holds an answerer of questions, not a captioner; .* and answer"),
        (["predict", "MODEL", "TABLE", "--out", "o.csv"], "holds an answerer of questions, not a model"),
        (["evaluate", "MODEL", "TABLE", "--label", "answer"], "no use for --label"),
        (["evaluate", "MODEL", "TABLE", "--where", "answer=pink"], "answer"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_message(
    words: list[str], says: str, answerer: Path, shop: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"TABLE": shop / "table.csv", "PHOTO": shop / "red-0.png", "MODEL": answerer}
    done = call(*[places.get(w, w) for w in words], code=2)
    assert re.search(says, done.stderr.replace("\n", " ").replace("  ", " "))
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_without_a_list_the_remedy_is_one_of_the_shell(shop: Path, tmp_path: Path) -> None:
    recipe = ["--set", "training.epochs=1", "--set", "task.answers=none", "--quiet"]
    call("fit", shop / "table.csv", *ASKED, *BLIP, *recipe, "--out", tmp_path / "m")
    done = call("answer", tmp_path / "m", shop / "red-0.png", "colour?", "--how", "rank", code=2)
    assert "multiadapt fit ... --set task.answers=auto, --how beam" in done.stderr
    call("answer", tmp_path / "m", shop / "red-0.png", "colour?", "--max-length", 3)
