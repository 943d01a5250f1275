"""Captions of coloured squares, written by a tiny BLIP."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from squares import BLIP, COLOURS, QUICK, squares
from tiny import numbers

from multiadapt import Captioner, QuestionAnswerer, UniAdapter, Unified
from multiadapt.crossmodal._adopt import adopt
from multiadapt.crossmodal._blip import open_blip
from multiadapt.crossmodal._pairs import Excerpt
from multiadapt.crossmodal._texts import said
from multiadapt.crossmodal._writing import DECODER, Decoding, Writer
from multiadapt.errors import CellError, EncoderError, SchemaError, SpecError, TargetError
from multiadapt.types import Inputs
from multiadapt.writing import model_of
from multiadapt.writing_files import read_donor

ROLES = {"image": "photo", "caption": "caption"}
SMALL = UniAdapter(Unified(r=4))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return squares()


def captioner(**options: object) -> Captioner:
    given = {"backbone": BLIP, "training": QUICK, "verbose": False, "device": "cpu", **options}
    given = {"validation": 0.0, **given}
    return Captioner(given.pop("method", SMALL), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned(table: pd.DataFrame, pictures: Path) -> Captioner:
    """Every weight trained until the squares are known."""
    training = QUICK.with_params(epochs=35, learning_rate=2e-3, patience=None)
    return captioner(method="full", training=training).fit(table, **ROLES, root=pictures)


@pytest.fixture(scope="module")
def fitted(table: pd.DataFrame, pictures: Path) -> Captioner:
    return captioner().fit(table, **ROLES, root=pictures)


def test_the_folder_of_the_fit_is_known_afterwards(
    fitted: Captioner, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    expected = fitted.predict(table[:3], root=pictures)
    pd.testing.assert_series_equal(fitted.predict(table[:3]), expected)
    fitted.save(tmp_path / "model")
    pd.testing.assert_series_equal(Captioner.load(tmp_path / "model").predict(table[:3]), expected)


def test_an_absent_column_is_told_with_what_it_is_for(
    fitted: Captioner, table: pd.DataFrame, pictures: Path
) -> None:
    with pytest.raises(SchemaError, match=r"columns 'foto' \(image\) are absent.*mean 'photo'"):
        captioner().fit(table, image="foto", caption="caption", root=pictures)
    with pytest.raises(SchemaError, match=r"columns 'photo' \(image\) are absent"):
        fitted.predict(table.drop(columns="photo"))


def batch_of(model: Captioner, table: pd.DataFrame, root: Path) -> dict[str, Inputs]:
    feed = model.fitted_.feed(Excerpt.whole(table), root, said(table["caption"], several=False))
    return next(feed.batches(feed.in_order()))


def test_it_learns_what_the_squares_are(
    learned: Captioner, table: pd.DataFrame, pictures: Path
) -> None:
    losses = [e["loss"] for e in learned.fitted_.info["history"]["epochs"]]
    assert losses[-1] < losses[0] / 2
    found = learned.predict(table, root=pictures)
    assert list(found.index) == list(table.index)
    assert (found == table["caption"]).mean() > 0.8


def test_evaluate_captions_each_picture_once_and_tells_zero_shot_beside(
    learned: Captioner, table: pd.DataFrame, pictures: Path
) -> None:
    twice = pd.concat([table, table.assign(caption="a thing of one colour")])
    found = learned.evaluate(twice, root=pictures, beams=1, max_length=16)
    assert set(found.index.get_level_values("model")) == {"adapted", "zero-shot"}
    names = {"cider_d", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"}
    assert set(found.index.get_level_values("metric")) == names
    assert set(found["rows"]) == {len(table)}
    assert found["protocol"].str.contains("24 captions against 48 references").all()
    assert found["value"]["cider_d", "adapted"] > found["value"]["cider_d", "zero-shot"]


def test_step_0_is_the_pretrained_network(table: pd.DataFrame, pictures: Path) -> None:
    for method in (SMALL, "lora"):
        model = captioner(method=method, training=QUICK.with_params(epochs=1))
        model.fit(table.iloc[:4], **ROLES, root=pictures)
        begun = model_of(model.fitted_.plan)
        batch = batch_of(model, table, pictures)
        network = open_blip("random:blip-tiny", "captioning", None, None).network
        cells = [[np.array(Image.open(pictures / name))] for name in table["photo"]]
        pixels = {"photo": begun.encoder("photo").prepare(cells)}
        ids = batch[DECODER].tensors["ids"]
        with torch.no_grad():
            expected = network(numbers(begun.encoder("photo"), pixels["photo"]), ids).logits
            got = begun.writer(ids, begun.sight({**batch, **pixels}))
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_the_prompt_is_given_and_not_learned(fitted: Captioner) -> None:
    """Losses are over the caption's tokens and the closing one alone."""
    writer = fitted.fitted_.model.writer
    assert writer.tokens.text(writer.start[1:]) == "a picture of"
    texts = writer.prepare([["red"]])
    ids = texts.tensors["ids"][0].tolist()
    assert ids == [*writer.start, *b"red", writer.closing]
    seen = fitted.fitted_.model.sight
    assert seen is not None
    from multiadapt.crossmodal._cross import Seen

    looked = Seen(torch.randn(1, 5, 32))
    with torch.no_grad():
        loss, tokens = writer.losses(texts, looked, 0.0)
        says = writer(texts.tensors["ids"], looked).log_softmax(-1)[0]
    at = range(len(writer.start), len(ids))
    assert tokens.tolist() == [4]
    torch.testing.assert_close(loss[0], -sum(says[i - 1, ids[i]] for i in at))


def test_smoothing_spreads_the_aim_over_all_tokens(fitted: Captioner) -> None:
    from multiadapt.crossmodal._cross import Seen

    writer, looked = fitted.fitted_.model.writer, Seen(torch.randn(1, 5, 32))
    texts = writer.prepare([["red"]])
    with torch.no_grad():
        hard, soft = (writer.losses(texts, looked, s)[0][0] for s in (0.0, 0.1))
        says = writer(texts.tensors["ids"], looked).log_softmax(-1)[0]
    at = slice(len(writer.start) - 1, len(writer.start) + 3)
    torch.testing.assert_close(soft, 0.9 * hard - 0.1 * says[at].mean(1).sum())


def test_what_is_generated_is_what_the_adapted_network_says(
    fitted: Captioner, table: pd.DataFrame, pictures: Path
) -> None:
    """One beam is a loop that takes the likeliest token."""
    model = model_of(fitted.fitted_.plan)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        seen = model.sight(batch_of(fitted, table.iloc[:4], pictures))
        ids = torch.tensor([model.writer.start] * 4)
        for _ in range(8):
            ids = torch.cat([ids, model.writer(ids, seen)[:, -1:].argmax(-1)], dim=1)
    by_hand = [model.writer._text(row) for row in ids[:, len(model.writer.start) :].tolist()]
    assert model.writer.written(seen, Decoding("beam", 1, max_length=8)) == by_hand


def test_more_beams_find_what_is_at_least_as_likely(
    learned: Captioner, table: pd.DataFrame, pictures: Path
) -> None:
    few = table.iloc[:3]
    one, three = (list(learned.predict(few, beams=n, root=pictures)) for n in (1, 3))
    losses = [learned.fitted_.losses(few, pictures, [[t] for t in told]) for told in (one, three)]
    assert (losses[1] <= losses[0] + 1e-4).all()
    drawn = learned.predict(few, how="nucleus", top_p=0.01, root=pictures)
    assert list(drawn) == one  # of so small a share only the likeliest token remains


@pytest.mark.parametrize("method", ["frozen", "full", "bitfit", "lora"])
def test_methods_train_what_they_say(method: str, table: pd.DataFrame, pictures: Path) -> None:
    model = captioner(method=method, training=QUICK.with_params(epochs=1))
    model.fit(table.iloc[:12], **ROLES, root=pictures)
    parts = {p.part: p.trainable for p in model.fitted_.model.parts()}
    assert (parts["decoder"] > 0) is (method in ("full", "bitfit"))
    assert (sum(parts.values()) > 0) is (method != "frozen")


def test_saved_and_loaded_it_says_the_same(
    learned: Captioner, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    learned.save(tmp_path / "model")
    place = Path(learned.fitted_.plan.backbone.source)  # type: ignore[attr-defined]
    again = Captioner.load(tmp_path / "model", backbone=place, device="cpu")
    few = table.iloc[:6]
    pd.testing.assert_series_equal(
        again.predict(few, root=pictures), learned.predict(few, root=pictures)
    )
    assert again.prompt == "a picture of "


def test_a_run_taken_up_again_ends_with_the_same_bits(
    table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    """With pictures held out, whose loss decides which epoch is kept."""
    runs = []
    for epochs, file in ((1, "run"), (3, "run"), (3, "other")):
        model = captioner(training=QUICK.with_params(epochs=epochs), validation=0.25)
        place = tmp_path / f"{file}.safetensors"
        model.fit(table, **ROLES, root=pictures, resume=place)
        assert model.fitted_.info["validation_rows"] == 6
        runs.append(model.fitted_.model.trained_state())
    for name, tensor in runs[2].items():
        assert torch.equal(tensor, runs[1][name]), name


def test_what_answering_learned_serves_captioning(
    fitted: Captioner, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    """UniAdapter's modules; of full fine-tuning the vision tower and the decoder."""
    model = QuestionAnswerer(SMALL, backbone=BLIP, training=QUICK, verbose=False, device="cpu")
    model.fit(table, image="photo", question="question", answer="answer", root=pictures)
    model.save(tmp_path / "answerer")
    donor, taker = read_donor(tmp_path / "answerer"), model_of(fitted.fitted_.plan)
    count = adopt(taker, donor, SMALL.to_dict(), "same")
    state = taker.trained_state()
    mine = [name for name in state if name.startswith("adapter:")]
    assert count == len(mine) > 0
    assert all(torch.equal(state[n], donor.tensors[n]) for n in mine)
    model.set_params(method="bitfit").fit(
        table, image="photo", question="question", answer="answer", root=pictures
    ).save(tmp_path / "full")
    other = captioner(method="bitfit", training=QUICK.with_params(epochs=1))
    other.fit(table.iloc[:4], **ROLES, root=pictures, init_from=tmp_path / "full")
    native = [n for n in other.fitted_.model.trained_state() if ":pooled." not in n]
    assert other.fitted_.info["taken_over"] == len(native)


def test_rows_marked_for_validation_are_not_trained_on(table: pd.DataFrame, pictures: Path) -> None:
    marked = table.assign(part=["train"] * 18 + ["val"] * 6)
    model = captioner(training=QUICK.with_params(epochs=1))
    model.fit(marked, **ROLES, root=pictures, split_column="part")
    assert model.fitted_.info["rows"] == 18
    assert model.fitted_.info["validation_rows"] == 6
    model.fit(table.iloc[:18], **ROLES, root=pictures, val_data=table.iloc[18:])
    assert model.fitted_.info["validation_rows"] == 6
    with pytest.raises(SpecError, match="both val_data and 'val' rows"):
        model.fit(marked, **ROLES, root=pictures, split_column="part", val_data=table)
    with pytest.raises(SchemaError, match="must mark the training rows 'train'"):
        model.fit(marked, **ROLES, root=pictures, split_column="question")


@pytest.mark.parametrize("gap", [None, "", "  ", float("nan"), ["a", "b"]])
def test_an_empty_caption_is_named(gap: object, table: pd.DataFrame, pictures: Path) -> None:
    broken = table.astype(object).copy()
    broken.at["r5", "caption"] = gap
    with pytest.raises(TargetError, match=r"must have text; 1 do not:\n  row 'r5'"):
        captioner().fit(broken, **ROLES, root=pictures)


def test_a_row_that_lacks_its_picture_is_named(
    fitted: Captioner, table: pd.DataFrame, pictures: Path
) -> None:
    broken = table.astype(object).copy()
    broken.loc["r5", "photo"] = None
    with pytest.raises(CellError, match="row 'r5'"):
        captioner().fit(broken, **ROLES, root=pictures)
    broken.loc["r5", "photo"] = "nowhere.png"
    with pytest.raises(CellError, match=r"nowhere\.png"):
        fitted.predict(broken, root=pictures)


def test_what_cannot_write_is_refused(table: pd.DataFrame, pictures: Path) -> None:
    with pytest.raises(SpecError, match=r"prompt has 70 tokens.*positions for 64"):
        captioner(prompt="a" * 70).fit(table, **ROLES, root=pictures)
    with pytest.raises(SpecError, match=r"how must be .*beam.*nucleus"):
        Decoding("guess")  # type: ignore[arg-type]
    with pytest.raises(NotFittedError, match="not fitted"):
        captioner().predict(table)
    from multiadapt.crossmodal._captioning import CaptioningModel
    from multiadapt.types import Column, Stream

    parts = open_blip("random:blip-tiny", "retrieval", None, None)
    photo = Stream("photo", "image", (Column("photo", "image", "told"),))
    with pytest.raises(EncoderError, match="no decoder that could write"):
        CaptioningModel(parts, BLIP.encoder(photo, parts), "", SMALL, 0.1)


def test_the_network_stays_in_evaluation_mode(fitted: Captioner) -> None:
    writer: Writer = fitted.fitted_.model.writer
    fitted.fitted_.model.train()
    assert not any(m.training for m in writer.modules())
    fitted.fitted_.model.eval()
    assert len(COLOURS) == 3
