"""Questions about coloured squares, answered through a tiny BLIP."""

import copy
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from squares import BLIP, COLOURS, QUICK, squares
from tiny import numbers
from tiny_text import make_tokenizer
from torch import Tensor

from multiadapt import (
    CrossModalRetriever,
    Dual,
    ImageEncoder,
    QuestionAnswerer,
    UniAdapter,
    Unified,
    writing,
)
from multiadapt.crossmodal._adopt import adopt
from multiadapt.crossmodal._blip import open_blip
from multiadapt.crossmodal._cross import Seen
from multiadapt.crossmodal._pairs import Excerpt
from multiadapt.crossmodal._texts import said, shares
from multiadapt.crossmodal._writing import DECODER, Decoding, WritingModel
from multiadapt.errors import (
    ArtifactError,
    CellError,
    EncoderError,
    SchemaError,
    SpecError,
    TargetError,
)
from multiadapt.types import Inputs
from multiadapt.writing import FittedWriter, model_of
from multiadapt.writing_files import read_donor

ROLES = {"image": "photo", "question": "question", "answer": "answer"}
SMALL = UniAdapter(Unified(r=4))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return squares()


def answerer(**options: object) -> QuestionAnswerer:
    given = {"backbone": BLIP, "training": QUICK, "verbose": False, "device": "cpu", **options}
    given = {"validation": 0.0, **given}
    return QuestionAnswerer(given.pop("method", SMALL), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned(table: pd.DataFrame, pictures: Path) -> QuestionAnswerer:
    """Every weight trained until the squares are known."""
    training = QUICK.with_params(epochs=35, learning_rate=2e-3, patience=None)
    return answerer(method="full", training=training).fit(table, **ROLES, root=pictures)


@pytest.fixture(scope="module")
def fitted(table: pd.DataFrame, pictures: Path) -> QuestionAnswerer:
    return answerer().fit(table, **ROLES, root=pictures)


def batch_of(model: QuestionAnswerer, table: pd.DataFrame, root: Path) -> dict[str, Inputs]:
    texts = said(table["answer"], several=True)
    feed = model.fitted_.feed(Excerpt.whole(table), root, texts)
    return next(feed.batches(feed.in_order()))


def test_it_learns_what_the_squares_are(
    learned: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    """Chance is a third, by ranking the training answers as by writing."""
    losses = [e["loss"] for e in learned.fitted_.info["history"]["epochs"]]
    assert losses[-1] < losses[0] / 3
    for how in (None, "beam"):
        found = learned.predict(table, how=how, root=pictures)  # type: ignore[arg-type]
        assert list(found.index) == list(table.index)
        assert (found == table["answer"]).mean() > 0.8, how


def test_evaluate_tells_zero_shot_beside(
    learned: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    found = learned.evaluate(table, root=pictures)
    assert set(found.index) == {("exact_match", "adapted"), ("exact_match", "zero-shot")}
    value = found["value"]
    assert value["exact_match", "adapted"] > value["exact_match", "zero-shot"]
    assert (found["low"] <= value).all()
    people = table.assign(answer=[[a] * 4 for a in table["answer"]])
    soft = learned.evaluate(people, root=pictures, zero_shot=False)
    assert soft.loc[("vqa_accuracy", "adapted"), "value"] == pytest.approx(
        value["exact_match", "adapted"]
    )


def test_training_that_did_harm_is_told(
    learned: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    with learned.fitted_.base() as base:
        known = base.ranked(table, pictures, 8)[0][:, 0]
    before = table.assign(answer=[learned.fitted_.plan.answers[i] for i in known])  # type: ignore[index]
    with pytest.warns(UserWarning, match=r"exact_match is 0\.\d+ after training and was 1\.000"):
        learned.evaluate(before, root=pictures)


def test_step_0_is_the_pretrained_network(table: pd.DataFrame, pictures: Path) -> None:
    """Against transformers' own towers, called one after the other."""
    for method in (SMALL, "lora", "ia3", "houlsby"):
        model = answerer(method=method, training=QUICK.with_params(epochs=1))
        model.fit(table.iloc[:4], **ROLES, root=pictures)
        begun = model_of(model.fitted_.plan)
        batch = batch_of(model, table, pictures)
        network = open_blip("random:blip-tiny", "answering", None, None).network
        ids = batch[DECODER].tensors["ids"]
        with torch.no_grad():
            raw = begun.encoder("photo").prepare(_pixels(table, pictures))
            seen = network.vision_model(numbers(begun.encoder("photo"), raw)).last_hidden_state  # type: ignore[attr-defined]
            words = batch["question"].tensors["ids"]
            state = network.text_encoder(words, encoder_hidden_states=seen).last_hidden_state  # type: ignore[attr-defined]
            expected = network.text_decoder(ids, encoder_hidden_states=state).logits  # type: ignore[attr-defined]
            got = begun.writer(ids, begun.sight({**batch, "photo": raw}))
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def _pixels(table: pd.DataFrame, root: Path) -> list[list[np.ndarray]]:
    from PIL import Image

    return [[np.asarray(Image.open(root / name))] for name in table["photo"]]


@pytest.mark.parametrize("method", [SMALL, "lora", "ia3", "houlsby", "bitfit"])
def test_the_network_before_training_is_the_one_in_memory_bit_for_bit(
    method: object, table: pd.DataFrame, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But where its own parameters were trained: those it was opened with are gone."""
    few, texts = table.iloc[:4], [["red"]] * 4
    model = answerer(method=method, training=QUICK.with_params(epochs=1, learning_rate=0.1))
    fitted = model.fit(few, **ROLES, root=pictures).fitted_
    anew = FittedWriter(fitted.plan, model_of(fitted.plan)).losses(few, pictures, texts)
    live = fitted.losses(few, pictures, texts)
    opened: list[object] = []
    monkeypatch.setattr(writing, "model_of", lambda *a: (opened.append(a), model_of(*a))[1])
    with fitted.base() as base:
        np.testing.assert_array_equal(base.losses(few, pictures, texts), anew)
    assert len(opened) == (method == "bitfit")
    assert not np.allclose(live, anew)
    np.testing.assert_array_equal(fitted.losses(few, pictures, texts), live)


def test_one_adapter_serves_vision_question_and_decoder(fitted: QuestionAnswerer) -> None:
    placed = fitted.fitted_.model.placed
    for block in range(2):
        own = {s.stream: a for s, a in placed.items() if s.block == block}
        assert set(own) == {"photo", "fusion", DECODER}
        assert len({id(a) for a in own.values()}) == 1


@pytest.mark.parametrize("method", ["frozen", "full", "bitfit", "lora", "ia3", "houlsby", "u2a"])
def test_methods_train_what_they_say(method: str, table: pd.DataFrame, pictures: Path) -> None:
    """Also the decoder, whose own tensors are saved; each of them learns, none that is frozen does."""
    model = answerer(method=method, training=QUICK.with_params(epochs=1))
    model.fit(table.iloc[:12], **ROLES, root=pictures)
    inner = model.fitted_.model
    parts = {p.part: p.trainable for p in inner.parts()}
    native = method in ("full", "bitfit")
    assert (parts["decoder"] > 0) is native
    assert (parts["encoder question"] > 0) is native
    assert (sum(parts.values()) > 0) is (method != "frozen")
    state, begun = inner.trained_state(), model_of(model.fitted_.plan)
    if method != "frozen":
        moved = {n for n, t in begun.trained_state().items() if not torch.equal(t, state[n])}
        assert any("decoder" in name for name in moved)
    learning = {id(p) for p in inner.parameters() if p.requires_grad}
    for (name, now), was in zip(inner.named_parameters(), begun.parameters(), strict=True):
        assert id(now) in learning or torch.equal(now, was), name
    again = model_of(model.fitted_.plan)
    again.load_trained(state)
    batch = batch_of(model, table, pictures)
    with torch.no_grad():
        assert torch.equal(again(batch).scores, inner(batch).scores)


def test_a_padded_question_is_answered_as_alone(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    """Its losses, and what is written of it beside a longer one."""
    both = table.iloc[:2].assign(question=["colour?", "what is the colour of this one, please?"])
    shaken = shake(fitted)
    one = shaken.losses(both.iloc[:1], pictures, [["red"]])
    two = shaken.losses(both, pictures, [["red"], ["lime"]])
    np.testing.assert_allclose(two[:1], one, rtol=1e-5)
    decoding = Decoding("beam", 2, max_length=6)
    assert shaken.written(both, pictures, decoding)[:1] == shaken.written(
        both.iloc[:1], pictures, decoding
    )


def shake(model: QuestionAnswerer):
    """The same with other adapters, so that they say something."""
    found = copy.copy(model.fitted_)
    found.model = model_of(found.plan)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in found.model.adapters.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return found


def greedy(model: WritingModel, seen: Seen, steps: int) -> list[list[int]]:
    ids = torch.tensor([model.writer.start] * len(seen.x))
    for _ in range(steps):
        ids = torch.cat([ids, model.writer(ids, seen)[:, -1:].argmax(-1)], dim=1)
    return ids[:, len(model.writer.start) :].tolist()


def test_what_is_generated_is_what_the_adapted_network_says(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    """One beam is a loop that takes the likeliest token, adapters live in every cached step."""
    batch = batch_of(fitted, table.iloc[::5], pictures)
    model = shake(fitted).model
    with torch.no_grad():
        seen = model.sight(batch)
        ids = greedy(model, seen, 8)
        with fitted.fitted_.base() as base:
            plain = greedy(base.model, seen, 8)
    by_hand = [model.writer._text(row) for row in ids]
    assert model.writer.written(seen, Decoding("beam", 1, max_length=8)) == by_hand
    assert ids != plain


def test_nucleus_draws_by_its_seed(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    state = torch.get_rng_state()
    found = [
        list(fitted.predict(table.iloc[:3], how="nucleus", seed=s, root=pictures))
        for s in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_ranking_is_by_likelihood_and_short_lists_are_the_whole(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    """The best of k by first token are compared whole; k of the list's length changes nothing."""
    few = table.iloc[:4]
    ranked = fitted.rank(few, k=3, root=pictures)
    for i, frame in enumerate(ranked):
        assert set(frame["answer"]) == set(COLOURS)
        assert frame["log_likelihood"].is_monotonic_decreasing
        losses = [fitted.fitted_.losses(few.iloc[[i]], pictures, [[a]])[0] for a in frame["answer"]]
        np.testing.assert_allclose(-frame["log_likelihood"], losses, rtol=1e-4)
    which, _ = fitted.fitted_.ranked(few, pictures, 1)
    batch = batch_of(fitted, few, pictures)
    model = fitted.fitted_.model
    with torch.no_grad():
        start = torch.tensor([model.writer.start] * 4)
        first: Tensor = model.writer(start, model.sight(batch))[:, -1]
    letters = [ord(a[0]) for a in fitted.fitted_.plan.answers or ()]
    assert which[:, 0].tolist() == first[:, letters].argmax(1).tolist()


def test_answers_of_several_people_count_by_their_share(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    one = table.iloc[:1]
    model = fitted.fitted_
    red, blue = (model.losses(one, pictures, [[a]])[0] for a in ("red", "blue"))
    both = model.losses(one, pictures, [["red", "blue", "red", "red"]])[0]
    assert both == pytest.approx(0.75 * red + 0.25 * blue, rel=1e-5)
    cells = pd.Series([["a", "b", "a"], "a;b;a", "a"])
    assert said(cells, several=True) == [["a", "b", "a"], ["a", "b", "a"], ["a"]]
    assert shares([["a", "b", "a", "a"]]) == ([["a", "b"]], [[0.75, 0.25]])


def test_saved_and_loaded_it_says_the_same(
    learned: QuestionAnswerer, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    learned.save(tmp_path / "model")
    again = QuestionAnswerer.load(tmp_path / "model", device="cpu")
    for how in ("rank", "beam"):
        pd.testing.assert_series_equal(
            again.predict(table, how=how, root=pictures),  # type: ignore[arg-type]
            learned.predict(table, how=how, root=pictures),  # type: ignore[arg-type]
        )
    files = {f.name for f in (tmp_path / "model").iterdir()}
    assert files == {"README.md", "adapter.safetensors", "config.json"}
    from multiadapt import Captioner

    with pytest.raises(
        ArtifactError, match=r"holds an answerer of questions, not a captioner; open it with Qu"
    ):
        Captioner.load(tmp_path / "model")


def test_altered_files_are_refused(fitted: QuestionAnswerer, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    path = tmp_path / "model/config.json"
    text = path.read_text()
    path.write_text(text.replace('"scale": 0.1', '"scale": 0.9'))
    with pytest.raises(ArtifactError, match="does not reproduce its golden rows"):
        QuestionAnswerer.load(tmp_path / "model")
    path.write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(ArtifactError, match="answering of format 9"):
        QuestionAnswerer.load(tmp_path / "model")
    path.write_text(text.replace('"image": "photo"', '"picture": "photo"'))
    with pytest.raises(ArtifactError, match="damaged"):
        QuestionAnswerer.load(tmp_path / "model")
    path.write_text(text)
    with pytest.raises(ArtifactError, match="cannot be opened"):
        QuestionAnswerer.load(tmp_path / "model", backbone=str(tmp_path / "nowhere"))


def test_a_run_taken_up_again_ends_with_the_same_bits(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    for epochs in (1, 2):
        model = answerer(training=QUICK.with_params(epochs=epochs))
        model.fit(table, **ROLES, root=pictures, resume=tmp_path / "run.safetensors")
    whole = fitted.fitted_.model.trained_state()
    for name, tensor in model.fitted_.model.trained_state().items():
        assert torch.equal(tensor, whole[name]), name


@pytest.fixture(scope="module")
def retriever(
    table: pd.DataFrame, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved one, on the same vision tower."""
    place = tmp_path_factory.mktemp("retriever") / "model"
    model = CrossModalRetriever(SMALL, backbone=BLIP, training=QUICK, verbose=False, device="cpu")
    model.fit(table, query="caption", target="photo", root=pictures).save(place)
    return place


def test_what_retrieval_learned_serves_answering(
    retriever: Path, fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    donor = read_donor(retriever)
    model = model_of(fitted.fitted_.plan)
    count = adopt(model, donor, SMALL.to_dict(), "same")
    state = model.trained_state()
    mine = [name for name in state if name.startswith("adapter:")]
    assert count == len(mine) > 0
    for name in mine:
        theirs = donor.tensors[name.replace("photo/", "caption/")]
        assert torch.equal(state[name], theirs), name
    begun = answerer(training=QUICK.with_params(epochs=1, learning_rate=1e-9))
    begun.fit(table, **ROLES, root=pictures, init_from=retriever)
    assert begun.fitted_.info["taken_over"] == count
    for name, tensor in begun.fitted_.model.trained_state().items():
        torch.testing.assert_close(tensor, state[name], atol=1e-6, rtol=0)


def test_what_was_learned_on_other_weights_is_refused(
    retriever: Path, fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    network = open_blip("random:blip-tiny", "answering", None, None).network
    with torch.no_grad():
        next(network.vision_model.parameters()).add_(1)  # type: ignore[attr-defined]
    network.save_pretrained(tmp_path / "network")  # type: ignore[attr-defined]
    make_tokenizer(tmp_path / "network")
    other = answerer(backbone=str(tmp_path / "network"), training=QUICK.with_params(epochs=1))
    with pytest.raises(ArtifactError, match="trained on other base weights"):
        other.fit(table.iloc[:4], **ROLES, root=pictures, init_from=retriever)
    other.fit(table.iloc[:4], **ROLES, root=pictures, init_from=retriever, base="other")
    assert other.fitted_.info["taken_over"] > 0
    assert set(other.predict(table.iloc[:4], how="beam", root=pictures).map(type)) == {str}
    fitted.save(tmp_path / "model")
    with pytest.raises(ArtifactError, match="the frozen weights must be those"):
        QuestionAnswerer.load(tmp_path / "model", backbone=str(tmp_path / "network"))


def test_what_cannot_be_taken_over_is_refused(
    retriever: Path, fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    donor, model = read_donor(retriever), model_of(fitted.fitted_.plan)
    with pytest.raises(ArtifactError, match="give the same method"):
        answerer(method="lora").fit(table, **ROLES, root=pictures, init_from=retriever)
    with pytest.raises(SpecError, match='base must be "same" or "other"'):
        adopt(model, donor, SMALL.to_dict(), "any")  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="nothing that this network could take over"):
        adopt(model, _without(donor), SMALL.to_dict(), "same")
    longer = {n: t[None] for n, t in donor.tensors.items()}
    with pytest.raises(ArtifactError, match="must have shape"):
        adopt(model, _without(donor, served=donor.served, tensors=longer), SMALL.to_dict(), "same")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="must hold a saved retriever"):
        read_donor(tmp_path)


def _without(donor: object, **other: object):
    from dataclasses import replace

    return replace(donor, **{"served": {}, **other})  # type: ignore[type-var]


@pytest.mark.parametrize("column", ["photo", "question"])
@pytest.mark.parametrize("gap", [None, " "])
def test_a_row_that_lacks_its_picture_or_question_is_named(
    column: str, gap: object, fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    broken = table.astype(object).copy()
    broken.loc["r5", column] = gap
    with pytest.raises(CellError, match=rf"1 are missing:\n  row 'r5'.*{column} missing"):
        answerer().fit(broken, **ROLES, root=pictures)
    with pytest.raises(CellError, match="row 'r5'"):
        fitted.predict(broken, root=pictures)


@pytest.mark.parametrize("gap", [None, "", [], ["red", " "], "red; "])
def test_a_row_without_an_answer_is_named(gap: object, table: pd.DataFrame, pictures: Path) -> None:
    broken = table.astype(object).copy()
    broken.at["r5", "answer"] = gap
    with pytest.raises(TargetError, match=r"1 do not:\n  row 'r5'"):
        answerer().fit(broken, **ROLES, root=pictures)


def test_lists_that_became_text_are_named(table: pd.DataFrame, pictures: Path) -> None:
    """A CSV file holds them so; every list would be one answer. In a list such a text is an answer."""
    broken = table.astype(object).copy()
    for row, cell in (("r5", "['red', 'red']"), ("r6", "['red; lime' \n 'x']"), ("r7", ' ["a"] ')):
        broken.at[row, "answer"] = cell
    with pytest.raises(TargetError, match=r"3 rows hold lists written as text:\n  row 'r5'.*'red'"):
        answerer().fit(broken, **ROLES, root=pictures)
    for cell, answers in ((["['red']"], ["['red']"]), ("[red]; [sic]", ["[red]", "[sic]"])):
        assert said(pd.Series([cell], dtype=object), several=True) == [answers]
    assert said(pd.Series(["['red']"]), several=False) == [["['red']"]]


def test_writings_that_count_as_one_answer_are_counted_together(
    table: pd.DataFrame, pictures: Path
) -> None:
    answers = ["Two", "2", "two!", "a cat", "cat", "dog"] + ["two"] * (len(table) - 6)
    model = answerer(min_count=2, training=QUICK.with_params(epochs=1))
    model.fit(table.assign(answer=answers), **ROLES, root=pictures)
    assert model.fitted_.plan.answers == ("Two", "2", "two!", "a cat", "cat", "two")


def test_intervals_are_over_the_pictures_that_cells_hold(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    """Arrays are long: what is printed of them is the same for all of one frame."""
    pixels = np.zeros((6, 64, 64, 3), np.uint8)
    pixels[:, 20:40, 20:40] = 40 * np.arange(6)[:, None, None, None]
    few = table.iloc[:6].assign(photo=pd.Series(list(pixels), table.index[:6], dtype=object))
    found = fitted.evaluate(few, root=pictures, zero_shot=False)
    assert "over 6 groups" in found["protocol"].iloc[0]
    twice = pd.concat([table.iloc[:6]] * 2)
    found = fitted.evaluate(twice, root=pictures, zero_shot=False)
    assert "over 6 groups" in found["protocol"].iloc[0]


def test_an_answer_list_must_hold_answers(table: pd.DataFrame, pictures: Path) -> None:
    for wrong in ([], ["red", ""]):
        with pytest.raises(SpecError, match="answers must hold at least one answer"):
            answerer(answers=wrong).fit(table, **ROLES, root=pictures)
    for wrong in ("all", 5, {"red", "lime"}):
        with pytest.raises(SpecError, match='answers must be "auto", a list'):
            answerer().set_params(answers=wrong).fit(table, **ROLES, root=pictures)


def test_answers_outside_the_list_are_counted(
    table: pd.DataFrame, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = answerer(answers=["red", "lime"], training=QUICK.with_params(epochs=1))
    with caplog.at_level(logging.WARNING, logger="multiadapt"):
        model.fit(table, **ROLES, root=pictures)
    assert "8 of 24 answers, 1 different ones, are outside the list of 2" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="multiadapt"):
        model.evaluate(table.iloc[:6], root=pictures, zero_shot=False)
    assert "2 of 6 answers" in caplog.text


def test_without_a_list_answers_are_written(table: pd.DataFrame, pictures: Path) -> None:
    model = answerer(answers=None, training=QUICK.with_params(epochs=1))
    model.fit(table.iloc[:6], **ROLES, root=pictures)
    few = table.iloc[:2]
    pd.testing.assert_series_equal(
        model.predict(few, root=pictures), model.predict(few, how="beam", root=pictures)
    )
    with pytest.raises(SpecError, match="no answer list to rank"):
        model.predict(few, how="rank", root=pictures)


def test_a_question_of_5000_words_is_cut_and_counted(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = table.iloc[:3].assign(question=["why " * 5000, "colour?", "why " * 6000])
    with caplog.at_level(logging.WARNING, logger="multiadapt"):
        found = fitted.predict(long, root=pictures)
    assert "question: 2 texts are longer than 64 tokens and are cut" in caplog.text
    assert len(found) == 3
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="multiadapt"):
        fitted.fitted_.losses(long.iloc[1:2], pictures, [["long " * 40]])
    assert "answer: 1 texts are longer than 63 tokens and are cut" in caplog.text


def test_no_row_gets_no_answer(fitted: QuestionAnswerer, table: pd.DataFrame) -> None:
    for how in ("rank", "beam"):
        assert len(fitted.predict(table.iloc[:0], how=how)) == 0  # type: ignore[arg-type]


def test_options_must_make_sense(
    fitted: QuestionAnswerer, table: pd.DataFrame, pictures: Path
) -> None:
    def fit(**options: object) -> None:
        answerer(**options).fit(table, **ROLES, root=pictures)

    with pytest.raises(SpecError, match="smoothing must be in"):
        fit(smoothing=1.0)
    with pytest.raises(SpecError, match="validation must be in"):
        fit(validation=1.0)
    with pytest.raises(SpecError, match="'question' holds text, for which no encoder is named"):
        fit(backbone=Dual({"image": ImageEncoder()}))
    with pytest.raises(SpecError, match=r"an answerer's .* leaves out text and image"):
        fit(method="trees")
    with pytest.raises(EncoderError, match="no architecture is named"):
        fit(backbone="random:blip-none")
    with pytest.raises(SchemaError, match="at least 2 rows, got 1"):
        answerer().fit(table.iloc[:1], **ROLES, root=pictures)
    with pytest.raises(SpecError, match="base='other' goes with init_from"):
        answerer().fit(table, **ROLES, root=pictures, base="other")
    for k in (0, -1):
        with pytest.raises(SpecError, match=f"k must be at least 1, got {k}"):
            fitted.rank(table, k=k, root=pictures)
    with pytest.raises(SchemaError, match="absent"):
        answerer().fit(table, **{**ROLES, "answer": "reply"}, root=pictures)
    with pytest.raises(SpecError, match="a column of its own"):
        answerer().fit(table, **{**ROLES, "answer": "question"}, root=pictures)
    renamed = table.rename(columns={"photo": "decoder"})
    with pytest.raises(SchemaError, match=r"must not be called \['decoder'\]"):
        answerer().fit(renamed, **{**ROLES, "image": "decoder"}, root=pictures)
    for wrong, told in (
        ({"beams": 0}, "beams must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"max_length": 64}, r"max_length must be in 1\.\.63"),
        ({"how": "guess"}, "how must be .*beam.*nucleus"),
        ({"how": "rank", "k": 0}, "k must be at least 1"),
    ):
        with pytest.raises(SpecError, match=told):
            fitted.predict(table, **{"how": "beam", **wrong}, root=pictures)  # type: ignore[arg-type]
