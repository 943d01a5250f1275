"""Answers by networks without a decoder: a head over a list, on a tiny CLIP."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from squares import COLOURS, squares
from tiny_clip import make_clip, make_siglip

from multiadapt import (
    Captioner,
    Dual,
    ImageEncoder,
    QuestionAnswerer,
    TextEncoder,
    Training,
    UniAdapter,
    Unified,
    load,
)
from multiadapt.crossmodal._choice import backbone_of
from multiadapt.errors import ArtifactError, CellError, SchemaError, SpecError, TargetError
from multiadapt.tasks.answering import Answering

ROLES = {"image": "photo", "question": "question", "answer": "answer"}
QUICK = Training(epochs=1, batch_size=16, learning_rate=3e-3, patience=None)
SMALL = UniAdapter(Unified(r=4))
WORDS = dict(zip(COLOURS, ("w8", "w9", "w10"), strict=True))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Of every square what colour it is (w5), and for each colour whether it is of it (w6 and a word)."""
    rows = []
    for _, square in squares().iterrows():
        rows.append({"photo": square["photo"], "question": "w5", "answer": square["answer"]})
        for colour, word in WORDS.items():
            told = "yes" if colour == square["answer"] else "no"
            rows.append({"photo": square["photo"], "question": f"w6 {word}", "answer": told})
    return pd.DataFrame(rows, index=[f"r{i}" for i in range(len(rows))])


def answerer(clip: Path, **options: object) -> QuestionAnswerer:
    given = {"backbone": str(clip), "training": QUICK, "verbose": False, "device": "cpu", **options}
    given = {"validation": 0.0, **given}
    return QuestionAnswerer(given.pop("method", SMALL), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned(clip: Path, table: pd.DataFrame, pictures: Path) -> QuestionAnswerer:
    model = answerer(clip, method="frozen", training=QUICK.with_params(epochs=20))
    return model.fit(table, **ROLES, root=pictures)


@pytest.fixture(scope="module")
def fitted(clip: Path, table: pd.DataFrame, pictures: Path) -> QuestionAnswerer:
    return answerer(clip).fit(table.iloc[:40], **ROLES, root=pictures)


def test_what_is_asked_decides_what_is_looked_for(
    learned: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    """No sum of what a picture and a question say alone could tell whether a square is of a colour."""
    found = learned.predict(table, root=pictures)
    assert list(found.index) == list(table.index)
    assert (found == table["answer"]).groupby(table["question"]).mean().min() > 0.9


def test_the_same_numbers_are_measured_without_a_zero_shot(
    learned: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    found = learned.evaluate(table, root=pictures)
    assert set(found.index) == {("exact_match", "adapted")}
    people = table.assign(answer=[[a] * 4 for a in table["answer"]])
    soft = learned.evaluate(people, root=pictures)
    expected = found.loc[("exact_match", "adapted"), "value"]
    assert soft.loc[("vqa_accuracy", "adapted"), "value"] == pytest.approx(expected)


@pytest.mark.parametrize("method", ["frozen", "full", "bitfit", "lora", "ia3", "houlsby", "u2a"])
def test_methods_train_both_towers_and_the_head(
    method: str, clip: Path, table: pd.DataFrame, pictures: Path
) -> None:
    model = answerer(clip, method=method).fit(table.iloc[:12], **ROLES, root=pictures)
    parts = {p.part: p.trainable for p in model.fitted_.model.parts()}
    assert parts["head"] > 0
    inside = {p: n for p, n in parts.items() if p != "head" and n}
    told = " ".join(inside)
    assert ("photo" in told and "question" in told) is (method != "frozen"), inside


def test_layer_i_of_both_towers_shares_what_widths_allow(fitted: QuestionAnswerer) -> None:
    streams = {s.stream for s in fitted.fitted_.model.placed}
    assert streams == {"photo", "question"}


def test_soft_aims_are_the_challenges_of_four_people_and_shares_of_fewer() -> None:
    rows = pd.Series([["Red", "red", "a red", "blue"], ["red", "blue"], ["blue"], ["green"]])
    target = Answering(("red", "blue", "Blue")).learn(rows)
    assert target.state()["names"] == ["red", "blue"]
    aims = target.encode(rows)
    # Three of four say red: without one of them two are left, without the other three.
    expected = [[(3 * 2 / 3 + 1) / 4, 1 / 3 * 3 / 4], [0.5, 0.5], [0, 1], [0, 0]]
    np.testing.assert_allclose(aims, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["green", "green"], "none of 2 rows has an answer of the list of 1, such as 'red'"),
        (["red", 3], "row 1: 3"),
        (["red", []], r"row 1: \[\]"),
        (["red", ["a", None]], "1 rows do not"),
    ],
)
def test_labels_that_are_no_answers_are_named(rows: list[object], says: str) -> None:
    with pytest.raises(TargetError, match=says):
        Answering(("red",)).learn(pd.Series(rows, name="said", dtype=object))
    with pytest.raises(SpecError, match="at least one answer, got none"):
        Answering(())


def test_saved_and_loaded_it_says_the_same(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path, tmp_path: Path, clip: Path
) -> None:
    fitted.save(tmp_path / "model")
    path = tmp_path / "model/config.json"
    config = json.loads(path.read_text())
    config["encoders"]["photo"]["spec"]["revision"] = "v9"  # of the place where it was
    path.write_text(json.dumps(config))
    for moved in (clip, {"image": clip}, str(clip)):
        own = QuestionAnswerer.load(tmp_path / "model", backbone=moved).fitted_.plan.backbone
        assert own.encoders["image"] == ImageEncoder(str(clip))  # type: ignore[attr-defined]
    fitted.save(tmp_path / "model")
    for moved in (None, clip, {"text": str(clip)}):
        again = QuestionAnswerer.load(tmp_path / "model", backbone=moved, device="cpu")
        for mine, theirs in zip(
            again.rank(table.iloc[:5], root=pictures),
            fitted.rank(table.iloc[:5], root=pictures),
            strict=True,
        ):
            pd.testing.assert_frame_equal(mine, theirs)
    assert again.answers == fitted.fitted_.plan.answers
    assert "QuestionAnswerer.load" in (tmp_path / "model" / "README.md").read_text()
    again.fit(table.iloc[:12], **ROLES, root=pictures)  # with the list that it has
    with pytest.raises(
        ArtifactError, match="holds an answerer of questions, not a model for the rows"
    ):
        load(tmp_path / "model")
    with pytest.raises(ArtifactError, match="holds an answerer of questions, not a captioner"):
        Captioner.load(tmp_path / "model")


def test_other_weights_are_refused(
    fitted: QuestionAnswerer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fitted.save(tmp_path / "model")
    other = make_clip(tmp_path_factory.mktemp("other"), seed=1)
    with pytest.raises(ArtifactError, match=r"name the right ones with backbone=\{'image'"):
        QuestionAnswerer.load(tmp_path / "model", backbone=str(other))
    with pytest.raises(ArtifactError, match=r"load\(folder, backbone="):
        QuestionAnswerer.load(tmp_path / "model", backbone=str(tmp_path / "nowhere"))
    with pytest.raises(ArtifactError, match=r"backbone names \['sound'\]; this model has"):
        QuestionAnswerer.load(tmp_path / "model", backbone={"sound": "starter"})
    path = tmp_path / "model/config.json"
    text = path.read_text()
    path.write_text(text.replace('"roles": {', '"parts": {'))
    with pytest.raises(ArtifactError, match=r"config\.json is damaged: KeyError"):
        QuestionAnswerer.load(tmp_path / "model")
    with pytest.raises(SpecError, match="stands on two encoders"):
        QuestionAnswerer.load(tmp_path / "model", backbone=backbone_of("random:blip-tiny"))


def test_a_run_taken_up_again_ends_with_the_same_bits(
    clip: Path, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    """With pictures held out; no question about them is trained on."""
    states = []
    for epochs, file in ((1, "run"), (2, "run"), (2, "other")):
        model = answerer(clip, training=QUICK.with_params(epochs=epochs), validation=0.25)
        model.fit(table, **ROLES, root=pictures, resume=tmp_path / f"{file}.safetensors")
        assert model.fitted_.info["validation_rows"] == 24
        states.append(model.fitted_.model.trained_state())
    assert all(torch.equal(t, states[1][name]) for name, t in states[2].items())


def test_frequent_answers_make_the_list(
    clip: Path, table: pd.DataFrame, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="multiadapt"):
        model = answerer(clip, min_count=9).fit(table, **ROLES, root=pictures)
    assert model.fitted_.plan.answers == ("yes", "no")
    assert "24 of 96 answers, 3 different ones, are outside the list of 2" in caplog.text
    assert set(model.predict(table, root=pictures)) <= {"yes", "no"}
    caplog.clear()
    model = answerer(clip, answers=["YES", "yes", "The red"])
    with caplog.at_level(logging.WARNING, logger="multiadapt"):
        model.fit(table, **ROLES, root=pictures)
    assert model.fitted_.plan.answers == ("YES", "The red")
    assert "64 of 96 answers" in caplog.text  # no, lime and blue; case and articles do not count


def test_any_two_encoders_answer(
    clip: Path, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    siglip = make_siglip(tmp_path)
    for backbone in (str(siglip), {"photo": str(siglip), "text": "random:bert-tiny"}):
        chosen = backbone if isinstance(backbone, str) else _named(backbone)
        model = answerer(clip, backbone=chosen).fit(table.iloc[:8], **ROLES, root=pictures)
        assert len(model.predict(table.iloc[:3], root=pictures)) == 3


def _named(encoders: dict[str, str]) -> Dual:
    return Dual(
        {k: TextEncoder(v) if k == "text" else ImageEncoder(v) for k, v in encoders.items()}
    )


@pytest.mark.parametrize("column", ["photo", "question"])
@pytest.mark.parametrize("gap", [None, " "])
def test_a_row_that_lacks_its_picture_or_question_is_named(
    column: str, gap: object, fitted: QuestionAnswerer, clip: Path, table: pd.DataFrame,
    pictures: Path,
) -> None:  # fmt: skip
    broken = table.iloc[:12].astype(object).copy()
    broken.loc["r5", column] = gap
    with pytest.raises(CellError, match=rf"1 are missing:\n  row 'r5'.*{column} missing"):
        answerer(clip).fit(broken, **ROLES, root=pictures)
    with pytest.raises(CellError, match="row 'r5'"):
        fitted.predict(broken, root=pictures)


def test_unreadable_pictures_are_never_zeros(
    clip: Path, table: pd.DataFrame, pictures: Path
) -> None:
    broken = table.iloc[:12].copy()
    broken.loc["r5", "photo"] = "nowhere.png"
    with pytest.raises(CellError, match=r"nowhere\.png"):
        answerer(clip).fit(broken, **ROLES, root=pictures)
    with pytest.raises(CellError, match="1 cells are missing"):
        answerer(clip, on_error="missing").fit(broken, **ROLES, root=pictures)


def test_a_table_to_fit_has_rows(clip: Path, table: pd.DataFrame, pictures: Path) -> None:
    for few in (0, 1):
        with pytest.raises(SchemaError, match=f"at least 2 rows, got {few}"):
            answerer(clip).fit(table.iloc[:few], **ROLES, root=pictures)


def test_no_row_gets_no_answer(fitted: QuestionAnswerer, table: pd.DataFrame) -> None:
    assert len(fitted.predict(table.iloc[:0])) == 0


def test_what_a_head_cannot_do_is_refused(
    fitted: QuestionAnswerer, clip: Path, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    def fit(more: dict[str, object] | None = None, **options: object) -> None:
        answerer(clip, **options).fit(table, **ROLES, root=pictures, **(more or {}))  # type: ignore[arg-type]

    with pytest.raises(SpecError, match=r"by beam needs .* chooses among 5 answers"):
        fitted.predict(table, how="beam", root=pictures)
    with pytest.raises(SpecError, match="k must be at least 1"):
        fitted.predict(table, k=0, root=pictures)
    with pytest.raises(SpecError, match="answers that stand on no list are written"):
        fit(answers=None)
    with pytest.raises(SpecError, match="smoothing is of answers that are written"):
        fit(smoothing=0.1)
    with pytest.raises(SpecError, match='min_count=2 goes with answers="auto"'):
        fit(answers=["red"], min_count=2)
    with pytest.raises(SpecError, match='min_count=2 goes with answers="auto"'):
        fit(answers=None, min_count=2)
    with pytest.raises(SpecError, match="min_count=0 must be at least 1"):
        fit(min_count=0)
    with pytest.raises(
        SpecError, match="none is given 99 times, the most frequent, 'no', 48 times"
    ):
        fit(min_count=99)
    with pytest.raises(SpecError, match=r"compares no vectors, and has no use for \['width'\]"):
        fit(backbone=Dual(backbone_of(str(clip)).encoders, width=9))  # type: ignore[attr-defined]
    both = dict(backbone_of(clip).encoders)  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match=r"by modality or column; \['phto'\] are none of"):
        fit(backbone=Dual({**both, "phto": both["image"]}))
    with pytest.raises(SpecError, match=r"backbone must name a network, .* got 3"):
        backbone_of(3)
    with pytest.raises(SpecError, match="writing needs a network with a decoder"):
        Captioner(backbone=backbone_of(str(clip))).fit(
            table, image="photo", caption="answer", root=pictures
        )
    saved = tmp_path / "model"
    answerer(clip, backbone="random:blip-tiny").fit(table.iloc[:4], **ROLES, root=pictures).save(
        saved
    )
    with pytest.raises(SpecError, match="init_from begins with adapters of a BLIP network"):
        fit({"init_from": saved})
