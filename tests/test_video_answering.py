"""Questions about clips, and captions of them: through BLIP frame by frame, and through two encoders."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from caption_copies import make_msrvtt_qa
from films import film
from PIL import Image
from safetensors.torch import load_file, save_file
from shell import call
from squares import COLOURS
from tiny import numbers
from tiny_clip import make_clip
from tiny_text import make_tokenizer
from torch.nn import functional as F

from multiadapt import (
    Blip,
    Captioner,
    CrossModalRetriever,
    Frozen,
    Full,
    QuestionAnswerer,
    TextEncoder,
    Training,
    UniAdapter,
    Unified,
    VideoEncoder,
)
from multiadapt.crossmodal import _blip, _cross
from multiadapt.crossmodal._answering import AnsweringModel
from multiadapt.crossmodal._blip import open_blip
from multiadapt.crossmodal._cross import Seen
from multiadapt.crossmodal._frames import frame_weights
from multiadapt.crossmodal._writing import WritingModel
from multiadapt.data.schema import Schema
from multiadapt.datasets import CountWarning, msrvtt_qa
from multiadapt.errors import ArtifactError, CellError, SchemaError, SpecError
from multiadapt.methods._base import Method
from multiadapt.types import Clip, Column, Inputs, Stream
from multiadapt.writing import model_of

T = 3
TINY = "random:blip-tiny"
SMALL = UniAdapter(Unified(r=4))
QUICK = Training(epochs=1, batch_size=8, learning_rate=3e-3, patience=None)
ASKED = {"video": "clip", "question": "question", "answer": "answer"}
SAID = {"video": "clip", "caption": "caption"}
GREY = (128, 128, 128)


def frames_of(word: str, i: int) -> list[np.ndarray]:
    """Grey frames, one of which has the colour; which one says nothing."""
    rng = np.random.default_rng([i, *word.encode()])
    colours = [COLOURS[word] if k == i % T else GREY for k in range(T)]
    noisy = [np.array(c) + rng.integers(-20, 20, (32, 32, 3)) for c in colours]
    return [pixels.clip(0, 255).astype(np.uint8) for pixels in noisy]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips as folders of frames, a film, and broken ones."""
    folder = tmp_path_factory.mktemp("clips")
    for word in COLOURS:
        for i in range(8):
            (folder / f"{word}-{i}").mkdir()
            for k, pixels in enumerate(frames_of(word, i)):
                Image.fromarray(pixels).save(folder / f"{word}-{i}/{k}.png")
    (folder / "red-0.mp4").write_bytes(film(frames_of("red", 0)))
    (folder / "cut.mp4").write_bytes(film(frames_of("red", 0))[:700])
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """A row of every clip, with labels that are no positions."""
    rows = [
        {"clip": f"{w}-{i}", "question": "colour?", "answer": w, "caption": f"a {w} one"}
        for i in range(8)
        for w in COLOURS
    ]
    return pd.DataFrame(rows, index=[f"r{i}" for i in range(len(rows))])


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny BLIP of all tasks in one folder, with the projections of retrieval."""
    folder = tmp_path_factory.mktemp("projected")
    retrieval, answering = (
        open_blip(TINY, t, None, None).network for t in ("retrieval", "answering")
    )
    answering.save_pretrained(folder)  # type: ignore[attr-defined]
    own = {n: t for n, t in retrieval.state_dict().items() if "_proj." in n and "encoder" not in n}
    tensors = {**load_file(folder / "model.safetensors"), **own}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    make_tokenizer(folder)
    return str(folder)


def answerer(backbone: Any = None, method: Any = SMALL, **options: Any) -> QuestionAnswerer:
    given = {"training": QUICK, "validation": 0.0, "verbose": False, "device": "cpu", **options}
    return QuestionAnswerer(method, backbone=backbone or Blip(TINY, frames=T), **given)


def captioner(method: Any = SMALL, **options: Any) -> Captioner:
    given = {"training": QUICK, "validation": 0.0, "verbose": False, "device": "cpu", **options}
    return Captioner(method, backbone=Blip(TINY, frames=T), **given)


@pytest.fixture(scope="module")
def learned(home: Path, table: pd.DataFrame) -> QuestionAnswerer:
    training = QUICK.with_params(epochs=25, learning_rate=2e-3)
    return answerer(method="full", training=training).fit(table, **ASKED, root=home)


@pytest.fixture(scope="module")
def fitted(home: Path, table: pd.DataFrame) -> QuestionAnswerer:
    return answerer().fit(table, **ASKED, root=home)


@pytest.fixture(scope="module")
def weighing(home: Path, table: pd.DataFrame, projected: str) -> QuestionAnswerer:
    return answerer(Blip(projected, frames=T)).fit(table, **ASKED, root=home)


def model(
    source: str, frames: int = T, modality: str = "video", method: Method = SMALL
) -> AnsweringModel:
    """Untrained, with adapters that say something."""
    backbone = Blip(source, frames=frames)
    names = {"clip": modality, "question": "text"}
    streams = {n: Stream(n, m, (Column(n, m, "told"),)) for n, m in names.items()}  # type: ignore[arg-type]
    parts = open_blip(source, "answering", None, None, weighs=modality == "video")
    both = (backbone.encoder(s, parts) for s in streams.values())
    torch.manual_seed(0)
    found = AnsweringModel(parts, *both, None, method, 0.0).eval()
    with torch.no_grad():
        for parameter in found.adapters.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return found


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


def clip(*seeds: int) -> Clip:
    return Clip(tuple(picture(seed) for seed in seeds))


def batch(model: WritingModel, cells: list[Any], questions: list[str]) -> dict[str, Inputs]:
    asked = model.reads["question"].prepare([[q] for q in questions])
    return {"clip": model.encoder("clip").prepare(cells), "question": asked}


# --- what a question and a decoder look at -------------------------------------------------------


@pytest.mark.parametrize("aware", [False, True])
def test_a_clip_of_one_frame_is_the_picture(aware: bool, projected: str) -> None:
    source = projected if aware else TINY
    film, photo = model(source, frames=1), model(source, modality="image")
    questions = ["w7", "w8 w9 w10 w11"]
    with torch.no_grad():
        one = film.sight(batch(film, [[clip(0)], [clip(1)]], questions))
        other = photo.sight(batch(photo, [[picture(0)], [picture(1)]], questions))
    assert torch.equal(one.x, other.x)


def test_a_fit_on_clips_of_one_frame_is_that_on_pictures(home: Path, table: pd.DataFrame) -> None:
    """Bit for bit, trained tensors and answers."""
    shots = table.iloc[:8].assign(clip=table["clip"][:8] + "/0.png")
    one = answerer(Blip(TINY, frames=1)).fit(shots, **ASKED, root=home)
    roles = {"image": "clip", "question": "question", "answer": "answer"}
    other = answerer(Blip(TINY)).fit(shots, **roles, root=home)
    states = [m.fitted_.model.trained_state() for m in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(t, states[1][n]) for n, t in states[0].items())
    for mine, theirs in zip(one.rank(shots, root=home), other.rank(shots, root=home), strict=True):
        pd.testing.assert_frame_equal(mine, theirs)


@pytest.mark.parametrize("aware", [False, True])
@pytest.mark.parametrize("frames", [2, 5])
def test_copies_of_one_frame_say_what_the_frame_says(
    frames: int, aware: bool, projected: str
) -> None:
    source = projected if aware else TINY
    many, one = model(source, frames=frames), model(source, frames=1)
    assert (bool(many.weighs_by), one.weighs_by) == (aware, "")
    with torch.no_grad():
        found = many.sight(batch(many, [[clip(*[4] * frames)]], ["w7"]))
        expected = one.sight(batch(one, [[clip(4)]], ["w7"]))
    torch.testing.assert_close(found.x, expected.x, atol=1e-5, rtol=1e-4)  # sums in another order


@pytest.mark.parametrize("aware", [False, True])
def test_frames_that_are_padding_and_neighbours_do_not_count(aware: bool, projected: str) -> None:
    """A cell of two clips pads that of one; a long question a short one."""
    own = model(projected if aware else TINY)
    cells = [[clip(0, 1, 2)], [clip(3, 4, 5), clip(6, 7, 8)], [clip(9, 10, 11)]]
    questions = ["w7", "w8 w9 w10 w11 w12", "w13"]
    together = batch(own, cells, questions)
    shuffled = batch(own, cells[::-1], questions[::-1])
    with torch.no_grad():
        seen, turned = own.sight(together), own.sight(shuffled)
        for i, (cell, question) in enumerate(zip(cells, questions, strict=True)):
            alone = own.sight(batch(own, [cell], [question]))
            words = alone.x.shape[1]
            for row in (seen.x[i], turned.x[2 - i]):
                torch.testing.assert_close(row[:words], alone.x[0], atol=1e-5, rtol=1e-4)


def test_a_question_looks_at_all_frames_in_no_order() -> None:
    own = model(TINY)
    with torch.no_grad():
        a, b, c = (
            own.sight(batch(own, [[clip(*seeds)]], ["colour?"])).x
            for seeds in ((0, 1, 2), (2, 0, 1), (0, 1, 9))
        )
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(a, c, atol=1e-3)


def test_frames_are_weighed_as_published_and_without_gradient(
    projected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against transformers' own modules; the question is read alone by the pretrained network."""
    own = model(projected)
    given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spy(text: torch.Tensor, frames: torch.Tensor, *rest: Any) -> torch.Tensor:
        given.append((text, frames))
        found = frame_weights(text, frames, *rest)
        assert not found.requires_grad
        return found

    monkeypatch.setattr(_cross, "frame_weights", spy)
    both = batch(own, [[clip(0, 1, 2)], [clip(3, 4, 5)]], ["w7", "w8 w9"])
    seen = own.sight(both)
    (text, frames), tensors = given[0], load_file(Path(projected) / "model.safetensors")
    with torch.no_grad():
        own_text = own.reader(both["question"]).pooled
        shown = own.shown(both).x.unflatten(1, (T, -1))
        pairs = ((own_text, text, "text"), (shown[:, :, 0], frames, "vision"))
        for state, found, name in pairs:
            by = [tensors[f"{name}_proj.{part}"] for part in ("weight", "bias")]
            torch.testing.assert_close(found, F.normalize(F.linear(state, *by), dim=-1))
        plain = open_blip(projected, "answering", None, None).network.text_encoder  # type: ignore[attr-defined]
        ids, mask = (both["question"].tensors[n] for n in ("ids", "mask"))
        alone = plain(ids, attention_mask=mask.long()).last_hidden_state[:, 0]
        torch.testing.assert_close(own_text, alone, atol=1e-5, rtol=1e-4)
        weights = frame_weights(text, frames, shown.shape[2])
        looked = own.shown(both).x
        by_hand = own.cross(ids, None if mask.all() else mask, Seen(looked, weights=weights))
        torch.testing.assert_close(seen.x, by_hand)
        assert not torch.equal(seen.x, own.cross(ids, None if mask.all() else mask, Seen(looked)))
    seen.x.sum().backward()
    assert own.projections is not None
    assert all(p.grad is None for p in own.projections.parameters())
    assert not any("proj" in name for name in own.trained_state())


def test_where_the_network_s_own_parameters_are_trained_questions_weigh_by_what_they_became(
    projected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, pretrained = (model(projected, method=method) for method in (Full(), SMALL))
    with torch.no_grad():
        for parameter in own.reader.parameters():
            assert parameter.requires_grad
            parameter.add_(torch.randn_like(parameter) * 0.3)
    given: list[torch.Tensor] = []
    monkeypatch.setattr(
        _cross,
        "frame_weights",
        lambda text, *rest: (given.append(text), frame_weights(text, *rest))[1],
    )
    both = batch(own, [[clip(0, 1, 2)]], ["w7 w8"])
    with torch.no_grad():
        for one in (own, pretrained):
            one.sight(both)
            assert one.projections is not None
            said = one.projections[1](one.reader(both["question"]).pooled)
            torch.testing.assert_close(given[-1], F.normalize(said, dim=-1))
    assert not torch.allclose(given[0], given[1], atol=1e-2)


def test_projections_are_found_in_a_checkpoint_of_several_files(
    projected: str, tmp_path: Path
) -> None:
    tensors = load_file(Path(projected) / "model.safetensors")
    (tmp_path / "config.json").write_bytes((Path(projected) / "config.json").read_bytes())
    make_tokenizer(tmp_path)
    where = {name: f"part-{i % 3}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(where.values()):
        own = {name: t for name, t in tensors.items() if where[name] == file}
        save_file(own, tmp_path / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": where}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = model(str(tmp_path))
    assert found.weighs_by == model(projected).weighs_by != ""


def test_projections_are_looked_for_where_clips_are_asked_about_alone(
    fitted: QuestionAnswerer, projected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(_blip, "_projections", lambda *place: looked.append(place))
    clips = replace(fitted.fitted_.plan, backbone=Blip(projected, frames=T))
    pictures = Schema((Column("clip", "image", "told"), *clips.schema.columns[1:]))
    for plan in (
        clips,
        replace(clips, backbone=Blip(projected, frames=T, frame_aware=False)),
        replace(clips, schema=pictures),
        replace(clips, question=None),
    ):
        model_of(plan)
    assert len(looked) == 1


def test_step_0_is_the_pretrained_network(fitted: QuestionAnswerer) -> None:
    """Against transformers' own towers, called one after the other."""
    begun = model_of(fitted.fitted_.plan)
    network: Any = open_blip(TINY, "answering", None, None).network
    both = batch(begun, [[clip(0, 1, 2)], [clip(3, 4, 5)]], ["colour?", "colour?"])
    ids = torch.tensor([[*begun.writer.start, *b"red"]] * 2)
    with torch.no_grad():
        frames = network.vision_model(
            numbers(begun.encoder("clip"), both["clip"])
        ).last_hidden_state
        looked = frames.unflatten(0, (2, T)).flatten(1, 2)
        words = both["question"].tensors["ids"]
        state = network.text_encoder(words, encoder_hidden_states=looked).last_hidden_state
        expected = network.text_decoder(ids, encoder_hidden_states=state).logits
        torch.testing.assert_close(
            begun.writer(ids, begun.sight(both)), expected, atol=1e-6, rtol=1e-5
        )
        shaken = model(TINY)
        assert not torch.allclose(shaken.writer(ids, shaken.sight(both)), expected, atol=1e-3)


# --- fits ----------------------------------------------------------------------------------------


def right(model: QuestionAnswerer, table: pd.DataFrame, home: Path, **options: Any) -> float:
    return float((model.predict(table, root=home, **options) == table["answer"]).mean())


def test_it_learns_what_only_one_of_the_frames_shows(
    learned: QuestionAnswerer, table: pd.DataFrame, home: Path
) -> None:
    """Who sees the middle frame alone knows a third of the clips, and guesses a third of the others."""
    losses = [e["loss"] for e in learned.fitted_.info["history"]["epochs"]]
    assert losses[-1] < losses[0] / 2
    measured = learned.evaluate(table, root=home)
    assert (
        measured["protocol"]
        .str.endswith("over 24 groups of questions; 3 frames of each clip")
        .all()
    )
    found = measured["value"]
    assert found["exact_match", "adapted"] > 0.8
    assert found["exact_match", "adapted"] > found["exact_match", "zero-shot"] + 0.2
    assert right(learned, table, home, how="beam") > 0.8
    grey = table.assign(clip=[[f"{c}/{int(c[-1]) % T}.png"] for c in table["clip"]])
    assert right(learned, grey, home) > 0.8
    others = [[f"{c}/{(int(c[-1]) + k) % T}.png" for k in (1, 2)] for c in table["clip"]]
    assert right(learned, table.assign(clip=others), home) < 0.6


def test_films_folders_and_lists_of_pictures_are_one(fitted: QuestionAnswerer, home: Path) -> None:
    cells = [
        "red-0.mp4",
        "red-0",
        [f"red-0/{k}.png" for k in range(T)],
        np.array(frames_of("red", 0)),
    ]
    rows = pd.DataFrame({"clip": pd.Series(cells, dtype=object), "question": "colour?"})
    ranked = fitted.rank(rows, root=home)
    for other in ranked[1:]:
        pd.testing.assert_frame_equal(other, ranked[0])


@pytest.mark.parametrize("name", ["fitted", "weighing"])
def test_saved_and_loaded_it_says_the_same(
    name: str, table: pd.DataFrame, home: Path, projected: str, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """Also from another place, whose name says nothing of frames."""
    one: QuestionAnswerer = request.getfixturevalue(name)
    one.save(tmp_path / "model")
    source = one.fitted_.plan.backbone.source  # type: ignore[attr-defined]
    for place in (None, source):
        again = QuestionAnswerer.load(tmp_path / "model", backbone=place, device="cpu")
        for mine, theirs in zip(
            again.rank(table, root=home), one.rank(table, root=home), strict=True
        ):
            pd.testing.assert_frame_equal(mine, theirs)
        assert again.fitted_.model.weighs_by == one.fitted_.model.weighs_by
        assert bool(again.fitted_.model.weighs_by) is (name == "weighing")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["image"], config["schema"]["columns"][0]["kind"]) == ("clip", "video")


def test_weights_that_can_no_longer_be_had_are_told(
    weighing: QuestionAnswerer, projected: str, tmp_path: Path
) -> None:
    """The network is the same, but for what frames were weighed by."""
    weighing.save(tmp_path / "model")
    network: Any = open_blip(projected, "answering", None, None).network
    network.save_pretrained(tmp_path / "bare")
    make_tokenizer(tmp_path / "bare")
    with pytest.raises(ArtifactError, match=r"frames are weighed must be .* has none; name"):
        QuestionAnswerer.load(tmp_path / "model", backbone=str(tmp_path / "bare"))


def test_who_weighs_frames_and_who_says_that_it_does_not(
    home: Path, table: pd.DataFrame, projected: str, caplog: pytest.LogCaptureFixture
) -> None:
    alike = "clip: all frames count alike, since random:blip-tiny holds no projections"
    for backbone, weighs, told in (
        (Blip(TINY, frames=T), False, 1),
        (Blip(TINY, frames=T, frame_aware=False), False, 0),
        (Blip(TINY, frames=1), False, 0),
        (Blip(projected, frames=T), True, 0),
        (Blip(projected, frames=T, frame_aware=False), False, 0),
        (Blip("starter", frames=T), True, 0),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="multiadapt"):
            one = answerer(backbone, Frozen()).fit(table.iloc[:2], **ASKED, root=home)
            one.predict(table.iloc[:2], root=home)
        assert bool(one.fitted_.model.weighs_by) is weighs
        assert caplog.text.count(alike) == caplog.text.count("count alike") == told


def test_a_run_taken_up_again_ends_with_the_same_bits(
    weighing: QuestionAnswerer, table: pd.DataFrame, home: Path, projected: str, tmp_path: Path
) -> None:
    """With clips held out; no question about them is trained on."""
    twice, states = pd.concat([table, table.assign(question="w7?")]), []
    for epochs, file in ((1, "run"), (2, "run"), (2, "other")):
        training = QUICK.with_params(epochs=epochs)
        one = answerer(Blip(projected, frames=T), training=training, validation=0.25)
        one.fit(twice, **ASKED, root=home, resume=tmp_path / f"{file}.safetensors")
        assert one.fitted_.info["validation_rows"] == 12
        states.append(one.fitted_.model.trained_state())
    assert all(torch.equal(t, states[1][name]) for name, t in states[2].items())


def test_a_run_is_not_taken_up_where_frames_are_weighed_by_other_projections(
    table: pd.DataFrame, home: Path, projected: str, tmp_path: Path
) -> None:
    """All else of the checkpoint is the same."""
    place = Path(shutil.copytree(projected, tmp_path / "network"))
    run = {"root": home, "resume": tmp_path / "run.safetensors"}
    one = answerer(Blip(str(place), frames=T))
    one.fit(table.iloc[:4], **ASKED, **run)
    tensors = load_file(place / "model.safetensors")
    tensors["text_proj.bias"] += 1
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match="belongs to another run"):
        one.fit(table.iloc[:4], **ASKED, **run)


@pytest.mark.parametrize("method", [SMALL, "lora", "bitfit"])
def test_what_was_learned_on_pictures_serves_clips(
    method: Any, table: pd.DataFrame, home: Path, tmp_path: Path
) -> None:
    """One tower sees both; what retrieval learned on clips serves answering as well."""
    shots = table.iloc[:6].assign(clip=table["clip"][:6] + "/0.png")
    donor = answerer(Blip(TINY), method)
    donor.fit(shots, image="clip", question="question", answer="answer", root=home)
    donor.save(tmp_path / "pictures")
    finder = CrossModalRetriever(
        method, backbone=Blip(TINY, frames=T), training=QUICK, validation=0.0, device="cpu",
        column_types={"caption": "text", "clip": "video"}, verbose=False,
    )  # fmt: skip
    finder.fit(table.iloc[:6], query="clip", target="caption", root=home)
    finder.save(tmp_path / "clips")
    kept = answerer(method=method, training=QUICK.with_params(learning_rate=1e-12))
    for place in ("pictures", "clips"):
        kept.fit(table.iloc[:2], **ASKED, root=home, init_from=tmp_path / place)
        count, state = kept.fitted_.info["taken_over"], kept.fitted_.model.trained_state()
        assert count > 0
        if place == "pictures":
            own = donor.fitted_.model.trained_state()
            mine = [name for name in state if ":pooled." not in name]
            assert count == len(mine)
        else:  # captions are no questions, and nothing there writes
            own = finder.fitted_.model.trained_state()
            mine = [name for name in state.keys() & own.keys() if ":pooled." not in name]
            assert 0 < len(mine) <= count
        for name in mine:
            torch.testing.assert_close(state[name], own[name], atol=1e-6, rtol=0)


def test_captions_of_clips_are_written_measured_and_kept(
    home: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    """Without training the decoder looks at what transformers' own tower says of all frames."""
    training = QUICK.with_params(epochs=25, learning_rate=2e-3)
    one = captioner("full", training=training).fit(table, **SAID, root=home)
    found = one.predict(table, root=home, beams=1, max_length=12)
    assert (found == table["caption"]).mean() > 0.5
    few = table.iloc[:6]
    value = one.evaluate(few, root=home, beams=1, max_length=12)["value"]
    assert value["cider_d", "adapted"] > value["cider_d", "zero-shot"]
    begun = model_of(one.fitted_.plan)
    named = [name.split("-") for name in few["clip"]]
    cells = [[Clip(tuple(frames_of(word, int(i))))] for word, i in named]
    raw = begun.encoder("clip").prepare(cells)
    network: Any = open_blip(TINY, "captioning", None, None).network
    with torch.no_grad():
        frames = network.vision_model(numbers(begun.encoder("clip"), raw)).last_hidden_state
        looked = begun.sight({"clip": raw}).x
    torch.testing.assert_close(looked, frames.unflatten(0, (6, T)).flatten(1, 2))
    one.save(tmp_path / "model")
    again = Captioner.load(tmp_path / "model", backbone=TINY, device="cpu")
    pd.testing.assert_series_equal(again.predict(few, root=home), one.predict(few, root=home))


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("empty", "'empty': it has no frames"),
        ("cut.mp4", "'cut.mp4': it is truncated"),
        ("nowhere.mp4", "'nowhere.mp4': no such file"),
        (np.zeros((0, 32, 32, 3), np.uint8), "<ndarray>: it has no frames"),
    ],
)
def test_a_clip_that_cannot_be_read_is_named(
    cell: object, says: str, fitted: QuestionAnswerer, home: Path, table: pd.DataFrame
) -> None:
    broken = table.iloc[:6].astype(object).copy()
    broken.at["r5", "clip"] = cell
    with pytest.raises(CellError, match=rf"row 'r5' \(position 5\), column 'clip', file {says}"):
        answerer().fit(broken, **ASKED, root=home)
    with pytest.raises(CellError, match=r"row 'r5' \(position 5\), column 'clip'"):
        fitted.predict(broken, root=home)
    for one in (answerer(on_error="missing"), captioner(on_error="missing")):
        roles = ASKED if isinstance(one, QuestionAnswerer) else SAID
        with pytest.raises(CellError, match=r"its 'clip', 1 are missing:\n  row 'r5'"):
            one.fit(broken, **roles, root=home)


def test_pictures_and_clips_are_named_by_what_they_are(home: Path, table: pd.DataFrame) -> None:
    both = {**ASKED, "image": "clip"}
    with pytest.raises(
        SpecError, match=r"one column that is looked at.*image='clip' and video='clip'"
    ):
        answerer().fit(table, **both, root=home)
    with pytest.raises(SpecError, match=r"one column that is looked at.*image='' and video='clip'"):
        answerer().fit(table, **{**ASKED, "image": ""}, root=home)
    with pytest.raises(SpecError, match=r"one column that is looked at.*image=None and video=None"):
        captioner().fit(table, caption="caption", root=home)
    films = table.iloc[:3].assign(clip=[["red-0.mp4"], "red-0", "red-1"])
    roles = {"image": "clip", "question": "question", "answer": "answer"}
    with pytest.raises(
        SchemaError, match=r"holds films such as 'red-0.mp4': name it with video='clip'"
    ):
        answerer().fit(films, **roles, root=home)
    with pytest.raises(SchemaError, match=r"columns 'film' \(video\) are absent"):
        answerer().fit(table, **{**ASKED, "video": "film"}, root=home)


def test_the_table_of_msrvtt_qa_goes_straight_into_a_fit(tmp_path: Path) -> None:
    folder = make_msrvtt_qa(tmp_path)
    for number, word in enumerate(COLOURS):
        (folder / f"videos/all/video{number}.mp4").write_bytes(film(frames_of(word, number)))
    with pytest.warns(CountWarning):
        data = msrvtt_qa(folder)
    one = answerer().fit(
        data.frame, video="video", question="question", answer=data.label, split_column="split",
        root=data.root,
    )  # fmt: skip
    assert (one.fitted_.info["rows"], one.fitted_.info["validation_rows"]) == (4, 1)
    found = one.evaluate(data.part("test"), root=data.root)
    assert set(found["rows"]) == {2}
    assert found.loc[("exact_match", "adapted"), "value"] == 1  # all answers are "dog"


# --- two encoders --------------------------------------------------------------------------------


def test_two_encoders_answer_questions_about_clips(
    home: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    """Frames by the picture tower, joined by their mean; the colour is in one frame of three."""
    source = str(make_clip(tmp_path / "clip"))
    training = QUICK.with_params(epochs=30)
    sides = {"video": VideoEncoder(source, frames=T), "text": TextEncoder(source)}
    one = answerer(sides, Frozen(), training=training).fit(table, **ASKED, root=home)
    assert right(one, table, home) > 0.8
    one.save(tmp_path / "model")
    for place in (None, source, {"video": source}):
        again = QuestionAnswerer.load(tmp_path / "model", backbone=place, device="cpu")
        pd.testing.assert_series_equal(
            again.predict(table, root=home), one.predict(table, root=home)
        )
    again.fit(table.iloc[:4], **ASKED, root=home)
    named = answerer(source).fit(table.iloc[:4], **ASKED, root=home)
    frames = named.fitted_.model.encoder("clip").stream.sampling
    assert frames is not None
    assert frames.frames == 8
    with pytest.raises(SpecError, match="'clip' holds video, for which no encoder is named"):
        answerer({"image": source, "text": source}).fit(table, **ASKED, root=home)
    broken = table.iloc[:6].assign(clip=[*table["clip"][:5], "empty"])
    with pytest.raises(CellError, match=r"row 'r5' \(position 5\), column 'clip', file 'empty'"):
        named.predict(broken, root=home)
    shutil.rmtree(source)
    with pytest.raises(
        ArtifactError, match=r"load\(folder, backbone=\{'video': \.\.\., 'text': \.\.\.\}\)"
    ):
        QuestionAnswerer.load(tmp_path / "model", device="cpu")


# --- the shell -----------------------------------------------------------------------------------

SHORT = [
    "--set",
    "training.epochs=1",
    "--set",
    "adapter.r=4",
    "--backbone",
    TINY,
    "--set",
    "backbone.frames=2",
    "--device",
    "cpu",
]


@pytest.mark.filterwarnings("ignore:.*after training and was")
def test_the_shell_answers_and_captions_clips(
    home: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.iloc[:6].to_csv(home / "table.csv", index=False)
    asked = [
        "--task",
        "answering",
        "--video",
        "clip",
        "--question",
        "question",
        "--answer",
        "answer",
    ]
    told = ["--task", "captioning", "--video", "clip", "--caption", "caption"]
    for words, model in ((asked, "answerer"), (told, "captioner")):
        call("fit", home / "table.csv", *words, *SHORT, "--quiet", "--out", tmp_path / model)
        found = json.loads(call("evaluate", tmp_path / model, home / "table.csv", "--json").stdout)
        assert found["zero_shot"] is not None
        config = json.loads((tmp_path / model / "config.json").read_text())
        assert config["backbone"] == Blip(TINY, frames=2).to_dict()
    answers = [
        call("answer", tmp_path / "answerer", home / clip, "colour?").stdout
        for clip in ("red-0", "red-0.mp4")
    ]
    assert answers[0] == answers[1]
    assert answers[0].strip() in COLOURS
    words = ["--how", "beam", "--max-length", 3, "--beams", 1]
    said = call("caption", tmp_path / "captioner", home / "red-0.mp4", *words).stdout
    assert said.count("\n") == 1
    out = tmp_path / "said.csv"
    call("answer", tmp_path / "answerer", home / "table.csv", "--out", out)
    assert len(pd.read_csv(out)) == 6


def test_the_shell_wants_pictures_or_clips(home: Path, table: pd.DataFrame) -> None:
    table.iloc[:6].to_csv(home / "table.csv", index=False)
    films = table.iloc[:6].assign(clip="red-0.mp4")
    films.to_csv(home / "films.csv", index=False)
    fit = ["fit", home / "table.csv", "--task", "captioning", "--caption", "caption"]
    done = call(*fit, "--video", "clip", "--image", "clip", code=2)
    assert "--image names pictures and --video clips: give one of them" in done.stderr
    done = call(*fit, code=2)
    assert "name them with --image and --caption; --video in place of --image" in done.stderr
    done = call("fit", home / "table.csv", "--label", "answer", "--video", "clip", code=2)
    assert "--video goes with --task answering or captioning" in done.stderr
    films_fit = ["fit", home / "films.csv", *fit[2:], "--image", "clip", *SHORT]
    assert "(in the shell: --video clip)" in call(*films_fit, code=2).stderr
