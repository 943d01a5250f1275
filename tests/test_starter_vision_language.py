"""The starter vision-language network inside the package, and the worlds that it was pretrained on."""

import argparse
from importlib.resources import files
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from transformers import BlipProcessor
from worlds.drawing import PATCHES, SIDE, drawn
from worlds.learning import pretrain, start
from worlds.lessons import lesson, pixels
from worlds.network import export
from worlds.scenes import Scene, Thing, beside, scene
from worlds.sentences import caption, question
from worlds.tables import make_table
from worlds.things import FIRST, SHIFTED, World
from worlds.wording import ids, tokenizer, vocabulary

from multiadapt import Captioner, CrossModalRetriever, QuestionAnswerer, Training
from multiadapt.crossmodal import _blip
from multiadapt.crossmodal._blip import Task, open_blip, usual_blip

STARTER = Path(str(files("multiadapt") / "starter" / "vision-language"))
TASKS = ("ImageTextRetrieval", "QuestionAnswering", "ConditionalGeneration")
QUICK = Training(learning_rate=1e-3, epochs=1, batch_size=16)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 24 pictures of the shifted world."""
    return make_table(tmp_path_factory.mktemp("world"), 24).parent


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def unseen() -> tuple[torch.Tensor, list[str]]:
    """100 scenes of the first world, of a seed that pretraining did not have."""
    dice = np.random.default_rng(12345)
    scenes = [scene(FIRST, dice) for _ in range(100)]
    shown = pixels([drawn(one, FIRST, dice)[0] for one in scenes])
    return shown, [caption(one, FIRST, dice) for one in scenes]


def ranks(network: torch.nn.Module, shown: torch.Tensor, told: list[str]) -> np.ndarray:
    """Of each sentence's own picture among all, from 1, by similarity alone."""
    words = tokenizer()(told, padding=True, return_tensors="pt")
    with torch.inference_mode():
        near = network(
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
            pixel_values=shown,
            use_itm_head=False,
        ).itm_score.T  # sentences in rows
    own = near.diagonal()[:, None]
    return (near >= own).sum(1).numpy()


def test_it_takes_less_than_12_mb() -> None:
    assert sum(f.stat().st_size for f in STARTER.iterdir()) < 12_000_000


@pytest.mark.parametrize("task", TASKS)
def test_one_folder_opens_whole_for_every_task(task: str) -> None:
    network = getattr(transformers, f"BlipFor{task}")
    _, report = network.from_pretrained(STARTER, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]


def test_blips_own_processor_reads_it() -> None:
    processor = BlipProcessor.from_pretrained(STARTER)
    picture = np.full((70, 50, 3), 255, np.uint8)
    read = processor(images=picture, text="a red ring?", return_tensors="pt")
    assert read["pixel_values"].shape == (1, 3, SIDE, SIDE)
    assert read["pixel_values"].unique().tolist() == [2.0]  # white: (1 - 0.5) / 0.25
    assert processor.tokenizer.decode(read["input_ids"][0]) == "[CLS] a red ring? [SEP]"


def test_the_saved_tokenizer_is_the_scripts_own() -> None:
    saved = BlipProcessor.from_pretrained(STARTER).tokenizer
    assert saved.get_vocab() == vocabulary() == tokenizer().get_vocab()


def test_it_finds_pictures_of_unseen_scenes_far_better_than_random_weights(
    unseen: tuple[torch.Tensor, list[str]],
) -> None:
    trained = transformers.BlipForImageTextRetrieval.from_pretrained(STARTER).eval()
    torch.manual_seed(0)
    random = transformers.BlipForImageTextRetrieval(trained.config).eval()
    found, guessed = ranks(trained, *unseen), ranks(random, *unseen)
    assert np.mean(found <= 10) > 0.8  # chance is 0.1
    assert np.mean(guessed <= 10) < 0.25
    assert np.median(found) * 5 < np.median(guessed)


def test_the_shifted_world_has_words_that_pretraining_never_had() -> None:
    known = set(vocabulary())
    new = {
        w for names in (SHIFTED.shapes, SHIFTED.colours, SHIFTED.patterns) for w in names
    } - known
    assert {"crown", "turquoise", "zigzag"} <= new
    assert not set(SHIFTED.motions) - set(
        FIRST.motions
    )  # what moves is the same, its words are not


def test_any_word_can_be_spelled() -> None:
    words = tokenizer()
    assert words.unk_token not in words.tokenize("a turquoise crown, 3 quizzes & (more)!")


@pytest.mark.parametrize("world", [FIRST, SHIFTED])
def test_sentences_are_tokenized_in_pretraining_as_by_the_tokenizer(world: World) -> None:
    dice, words = np.random.default_rng(0), tokenizer()
    for _ in range(50):
        one = scene(FIRST, dice)
        for told in (caption(one, FIRST, dice), question(one, FIRST, dice).text):
            assert ids(told, dice) == words(told, add_special_tokens=False)["input_ids"]


def test_a_spelled_word_reads_as_the_word() -> None:
    words = tokenizer()
    spelled = ids("a striped triangle", np.random.default_rng(0), spelled=1.0)
    assert len(spelled) > 3
    assert words.decode(spelled) == "a striped triangle"


def test_same_seed_and_step_give_the_same_bits() -> None:
    one, other, next_one = lesson(1, 7, 8), lesson(1, 7, 8), lesson(1, 8, 8)
    assert torch.equal(one.pixels, other.pixels)
    assert torch.equal(one.labels, other.labels)
    assert one.names == other.names
    assert one.names != next_one.names


def test_the_table_of_a_seed_is_the_same_bytes(tmp_path: Path) -> None:
    paths = [make_table(tmp_path / name, 4, seed=3) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    for i in range(4):
        first, second = (p.parent / f"pictures/000{i}.png" for p in paths)
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("world", [FIRST, SHIFTED])
def test_what_is_said_of_a_scene_is_true(world: World) -> None:
    dice = np.random.default_rng(1)
    for _ in range(200):
        one = scene(world, dice)
        asked = question(one, world, dice)
        if asked.text == "how many things are there?":
            assert asked.answer == ("zero", "one", "two", "three")[len(one.things)]
        if asked.text.startswith(("what colour", "what color")):
            assert asked.answer in {t.colour for t in one.things}
        if one.relation in ("left of", "right of", "above", "below"):
            assert beside(*one.things[:2]) in (one.relation, "next to")


def test_the_cover_of_a_picture_says_where_a_thing_is() -> None:
    thing = Thing("square", "red", "plain", "large", 0.25, 0.25, 0.25)
    shown, whose = drawn(Scene((thing,), "paper", ""), FIRST, np.random.default_rng(0))
    assert whose.shape == (PATCHES, PATCHES)
    assert whose[:3, :3].mean() > 0.5
    assert not whose[3:].any()
    assert not whose[:, 3:].any()
    red, green, _ = shown[12, 12].astype(int)
    assert red > 2 * green


def test_a_run_that_is_resumed_ends_like_one_in_one_go(tmp_path: Path) -> None:
    ends = []
    for name, parts in (("whole", (4,)), ("parts", (2, 4))):
        (tmp_path / name).mkdir()
        for steps in parts:
            options = argparse.Namespace(
                out=tmp_path / name, steps=4, minutes=1.0, seed=0, batch=8, learning_rate=1e-3,
                float32=True,
            )  # fmt: skip
            run = start(options)
            while run.step < steps:
                run.learn()
            run.save()
        ends.append(run.pupil.state_dict())
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key]), key


def test_what_is_exported_is_what_was_trained(tmp_path: Path) -> None:
    options = argparse.Namespace(
        out=tmp_path, steps=1, minutes=1.0, seed=0, batch=8, learning_rate=1e-3, float32=True
    )
    run = start(options)
    assert list(pretrain(run))
    export(run.pupil, tmp_path / "network")
    parts = open_blip(str(tmp_path / "network"), "answering", None, None)
    own = run.pupil.decoder.state_dict()
    for name, value in parts.decoder.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("task", ["retrieval", "answering", "captioning"])
@pytest.mark.parametrize("online", [True, False])
def test_what_is_opened_when_nothing_is_named_is_said(
    task: Task, online: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_blip, "hub_reached", lambda: online)
    with caplog.at_level("INFO", logger="multiadapt"):
        source = usual_blip(task)
    assert source.startswith("Salesforce/blip") if online else source == "starter"
    assert ("from the hub" in caplog.text) == online
    assert ("starter" in caplog.text) != online


def test_a_retriever_searches_with_no_network(world: Path, tmp_path: Path, offline: None) -> None:
    table = pd.read_csv(world / "table.csv")
    model = CrossModalRetriever("frozen", training=QUICK, verbose=False)  # no backbone is named
    model.fit(table, query="caption", target="picture", root=world)
    index = model.index(table["picture"].tolist(), root=world)
    found = model.search(index, "a gold crown", k=3)
    assert len(found) == 3
    model.save(tmp_path)
    again = CrossModalRetriever.load(tmp_path).search(index, "a gold crown", k=3)
    pd.testing.assert_frame_equal(again, found)


def test_an_answerer_answers_with_no_network(world: Path, offline: None) -> None:
    table = pd.read_csv(world / "table.csv")
    model = QuestionAnswerer("frozen", training=QUICK, verbose=False)
    model.fit(table, image="picture", question="question", answer="answer", root=world)
    assert set(model.predict(table, root=world)) <= set(table["answer"])


def test_a_captioner_writes_words_with_no_network(world: Path, offline: None) -> None:
    table = pd.read_csv(world / "table.csv")
    model = Captioner("frozen", training=QUICK, verbose=False)
    model.fit(table, image="picture", caption="caption", root=world)
    written = model.predict(table[:4], root=world, beams=1)
    assert written.str.contains("a").all()
