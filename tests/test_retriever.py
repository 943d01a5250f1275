"""Retrieval from a table of pairs: captions of coloured squares, through a tiny BLIP and through two encoders."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_text import make_text_network, make_tokenizer

from multiadapt import (
    Blip,
    Contrast,
    CrossModalRetriever,
    Dual,
    TextEncoder,
    Training,
    UniAdapter,
    Unified,
)
from multiadapt.crossmodal._blip import open_blip
from multiadapt.crossmodal._pairs import Excerpt, paired
from multiadapt.crossmodal._retrieval import _cross_entropy, _drawn, _same
from multiadapt.data.reading import Reading
from multiadapt.errors import ArtifactError, CellError, SchemaError, SpecError
from multiadapt.retriever import _warn_worse
from multiadapt.retrieving import _divided, _logits
from multiadapt.spec import names

COLOURS = {"w7": (220, 30, 30), "w8": (30, 200, 40), "w9": (40, 60, 230), "w10": (230, 220, 40)}
QUICK = Training(epochs=2, batch_size=8, learning_rate=1e-3)
BLIP = Blip("random:blip-tiny")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for word, colour in COLOURS.items():
        for i in range(10):
            pixels = np.clip(np.array(colour) + rng.integers(-20, 20, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{word}-{i}.png")
    return folder


@pytest.fixture(scope="module")
def table(pictures: Path) -> pd.DataFrame:
    """Two captions a picture; a caption names the colour."""
    rows = [
        {"caption": f"{word} w{20 + i} w{30 + j}", "photo": f"{word}-{i}.png"}
        for word in COLOURS
        for i in range(10)
        for j in range(2)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    make_text_network(
        folder, "Bert", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, vocab_size=60, max_position_embeddings=24,
    )  # fmt: skip
    return folder


def retriever(**options: object) -> CrossModalRetriever:
    given = {"backbone": BLIP, "training": QUICK, "verbose": False, "device": "cpu", **options}
    return CrossModalRetriever(given.pop("method", "uniadapter"), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted(table: pd.DataFrame, pictures: Path) -> CrossModalRetriever:
    return retriever().fit(table, query="caption", target="photo", root=pictures)


def test_texts_and_pictures_are_vectors_of_length_1_in_the_rows_order(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    captions = fitted.embed(table, "query", root=pictures)
    assert captions.shape == (80, 16)
    np.testing.assert_allclose(np.linalg.norm(captions, axis=1), 1, atol=1e-5)
    turned = fitted.embed(table.iloc[::-1], "query", root=pictures)
    np.testing.assert_allclose(turned[::-1], captions, atol=1e-5)


def test_two_encoders_learn_to_find_each_other(
    table: pd.DataFrame, pictures: Path, minilm: Path
) -> None:
    """By colour alone a picture shares its place with nine others, R@10 over the pictures of 40 is 1."""
    model = retriever(
        method="frozen",
        backbone={"image": "starter", "text": str(minilm)},
        training=Training(epochs=25, batch_size=16, learning_rate=1e-2, patience=None),
    ).fit(table, query="caption", target="photo", root=pictures)
    found = model.evaluate(table, root=pictures)["value"]
    assert found["caption to photo", "r@10", "adapted"] > 0.8
    assert set(found.index.get_level_values("model")) == {"adapted"}


def test_evaluate_tells_zero_shot_beside_and_the_pool(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    found = fitted.evaluate(table.iloc[:20], k=4, root=pictures, zero_shot=True)
    assert set(found.index.get_level_values("model")) == {"adapted", "zero-shot"}
    assert set(found.index.get_level_values("way")) == {"caption to photo", "photo to caption"}
    assert set(found.loc["caption to photo"]["pool"]) == {10}
    assert found["protocol"].str.contains("nearest 4 by match logit").all()
    assert (found["low"] <= found["value"]).all()


def test_the_cross_modal_pass_only_reorders_the_nearest(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    """With k of the pool's size and a large beta, similarity decides as it does alone."""
    alone = fitted.evaluate(table, k=0, root=pictures, zero_shot=False)["value"]
    both = fitted.evaluate(table, k=4, beta=1e6, root=pictures, zero_shot=False)["value"]
    pd.testing.assert_series_equal(alone, both)


def test_search_finds_what_embed_says(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    photos = table.drop_duplicates("photo").set_index("photo", drop=False)
    index = fitted.index(table, root=pictures)
    assert len(index) == len(photos)
    found = fitted.search(index, "w7 w20 w30", k=3)
    near = (
        fitted.embed(photos, "target", root=pictures)
        @ fitted.embed(pd.DataFrame({"caption": ["w7 w20 w30"]}), "query")[0]
    )
    assert list(found["id"]) == [photos.index[i] for i in np.argsort(-near)[:3]]
    by_picture = fitted.search(index, "w7-0.png", k=1, side="target", root=pictures)
    assert list(by_picture["id"]) == ["w7-0.png"]
    several = fitted.search(index, ["w7", "w8"], k=2)
    assert [len(one) for one in several] == [2, 2]
    index.save(tmp_path / "index")
    again = fitted.search(fitted.open_index(tmp_path / "index"), "w7 w20 w30", k=3)
    pd.testing.assert_frame_equal(again, found)


def test_an_index_of_another_adapter_is_refused(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    other = retriever(seed=1).fit(table, query="caption", target="photo", root=pictures)
    index = other.index(table["photo"].unique().tolist(), root=pictures)
    with pytest.raises(SpecError, match="another model or adapter"):
        fitted.search(index, "w7")
    index.save(tmp_path / "index")
    with pytest.raises(ArtifactError, match="another"):
        fitted.open_index(tmp_path / "index")


def test_saved_and_loaded_it_says_the_same(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    again = CrossModalRetriever.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(
        again.embed(table, "target", root=pictures), fitted.embed(table, "target", root=pictures)
    )
    assert again.fitted_.made_by == fitted.fitted_.made_by
    files = {f.name for f in (tmp_path / "model").iterdir()}
    assert files == {"README.md", "adapter.safetensors", "config.json"}


def test_altered_files_are_refused(fitted: CrossModalRetriever, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    path = tmp_path / "model/config.json"
    path.write_text(path.read_text().replace('"r": 128', '"r": 64'))
    with pytest.raises(ArtifactError, match="must have shape"):
        CrossModalRetriever.load(tmp_path / "model")
    fitted.save(tmp_path / "other")
    (tmp_path / "other/adapter.safetensors").unlink()
    with pytest.raises(ArtifactError, match="incomplete"):
        CrossModalRetriever.load(tmp_path / "other")


def test_other_frozen_weights_are_refused(fitted: CrossModalRetriever, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    network = open_blip("random:blip-tiny", "retrieval", None, None).network
    with torch.no_grad():
        next(network.parameters()).add_(1)
    network.save_pretrained(tmp_path / "network")
    make_tokenizer(tmp_path / "network")
    with pytest.raises(ArtifactError, match="must be those it was trained on"):
        CrossModalRetriever.load(tmp_path / "model", backbone=str(tmp_path / "network"))


@pytest.mark.parametrize("method", ["frozen", "full", "bitfit", "lora", "uniadapter"])
def test_methods_train_what_they_say(method: str, table: pd.DataFrame, pictures: Path) -> None:
    model = retriever(method=method, training=QUICK.with_params(epochs=1))
    model.fit(table.iloc[:24], query="caption", target="photo", root=pictures)
    parts = {p.part: p.trainable for p in model.fitted_.model.parts()}
    assert all(type(p) is torch.nn.Parameter for p in model.fitted_.model.parameters())
    inner = sum(n for part, n in parts.items() if part != "heads")
    assert (inner > 0) is (method != "frozen")
    assert parts["heads"] > 0


def test_sides_may_be_turned_or_be_of_one_kind(table: pd.DataFrame, pictures: Path) -> None:
    turned = retriever(training=QUICK.with_params(epochs=1))
    turned.fit(table, query="photo", target="caption", root=pictures)
    assert turned.fitted_.model.matches
    both = table.assign(other=table["photo"].str.replace("-0", "-1"))
    same = retriever(training=QUICK.with_params(epochs=1))
    same.fit(both, query="photo", target="other", root=pictures)
    assert not same.fitted_.model.matches
    assert len(same.embed(both, "target", root=pictures)) == len(both)


def test_the_same_seed_gives_the_same_bits(table: pd.DataFrame, pictures: Path) -> None:
    states = [
        retriever().fit(table, query="caption", target="photo", root=pictures).fitted_.made_by
        for _ in range(2)
    ]
    assert states[0] == states[1]


def test_a_run_taken_up_again_ends_with_the_same_bits(
    table: pd.DataFrame, pictures: Path, tmp_path: Path, fitted: CrossModalRetriever
) -> None:
    """Teacher and queue are taken up too."""
    for epochs in (1, 2):
        model = retriever(training=QUICK.with_params(epochs=epochs))
        model.fit(
            table,
            query="caption",
            target="photo",
            root=pictures,
            resume=tmp_path / "run.safetensors",
        )
    assert model.fitted_.made_by == fitted.fitted_.made_by


def test_captions_of_one_picture_are_each_others_matches() -> None:
    frame = pd.DataFrame({"q": ["a", "b", "a", "c"], "t": ["x", "x", "y", "z"]})
    pairs = paired(Excerpt.whole(frame), "q", "t")
    assert [list(r) for r in pairs.relevant] == [[0, 1], [0], [2]]
    same = _same(pairs.ids, pairs.ids)
    assert same.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


def test_hard_negatives_are_never_matches() -> None:
    torch.manual_seed(0)
    allowed = torch.tensor([[False, True, False], [True, False, True]])
    for _ in range(20):
        assert all(allowed[i, j] for i, j in enumerate(_drawn(torch.randn(2, 3), allowed)))
    near = torch.tensor([[0.0, 9.0, 0.0]]).expand(200, 3)
    picked = _drawn(near, torch.ones(200, 3, dtype=torch.bool))
    assert (picked == 1).float().mean() > 0.95


def test_contrast_is_cross_entropy_with_several_matches() -> None:
    near, aim = torch.randn(3, 5), torch.eye(3, 5)
    torch.testing.assert_close(
        _cross_entropy(near, aim),
        torch.nn.functional.cross_entropy(near, torch.arange(3), reduction="none"),
    )


def test_the_teacher_starts_as_a_copy_and_follows_slowly(
    table: pd.DataFrame, pictures: Path
) -> None:
    model = (
        retriever(contrast=Contrast(momentum=0.9), training=QUICK.with_params(epochs=1))
        .fit(table, query="caption", target="photo", root=pictures)
        .fitted_.model
    )
    learning = dict(model._learning())
    assert set(model.teacher) == set(learning)
    assert sum(t.numel() for t in model.teacher.values()) == sum(
        p.numel() for p in learning.values()
    )
    assert any(not torch.equal(model.teacher[n], p) for n, p in learning.items())
    assert len(model.queue["vectors"]) == model.rows


def test_without_a_teacher_nothing_is_queued(table: pd.DataFrame, pictures: Path) -> None:
    model = retriever(contrast=Contrast(momentum=None), training=QUICK.with_params(epochs=1))
    inner = model.fit(table, query="caption", target="photo", root=pictures).fitted_.model
    assert inner.teacher == {}
    assert inner.queue == {}


@pytest.mark.parametrize("gap", [None, "", float("nan")])
def test_a_pair_that_lacks_a_side_is_named(
    gap: object, table: pd.DataFrame, pictures: Path
) -> None:
    broken = table.astype(object).copy()
    broken.loc[5, "photo"] = gap
    with pytest.raises(CellError, match=r"(?s)both of its sides.*row 5: photo missing"):
        retriever().fit(broken, query="caption", target="photo", root=pictures)


def test_a_picture_that_is_not_there_is_named(table: pd.DataFrame, pictures: Path) -> None:
    broken = table.copy()
    broken.loc[5, "photo"] = "nowhere.png"
    with pytest.raises(CellError, match=r"nowhere\.png"):
        retriever(column_types={"photo": "image"}).fit(
            broken, query="caption", target="photo", root=pictures
        )


def test_what_cannot_be_paired_is_refused(table: pd.DataFrame, pictures: Path) -> None:
    with pytest.raises(SchemaError, match="absent"):
        retriever().fit(table, query="caption", target="picture", root=pictures)
    with pytest.raises(SpecError, match="two columns"):
        retriever().fit(table, query="photo", target="photo", root=pictures)
    with pytest.raises(SchemaError, match="at least 2 different queries and targets, got 1 rows"):
        retriever().fit(table.iloc[:1], query="caption", target="photo", root=pictures)
    with pytest.raises(SchemaError, match="declared as categorical"):
        retriever(column_types={"caption": "categorical"}).fit(
            table, query="caption", target="photo", root=pictures
        )
    with pytest.raises(SpecError, match="trees"):
        retriever(method="trees").fit(table, query="caption", target="photo", root=pictures)
    with pytest.raises(SpecError, match="no encoder is named"):
        retriever(backbone={"image": "starter"}).fit(
            table, query="caption", target="photo", root=pictures
        )
    with pytest.raises(SpecError, match="momentum must be in"):
        Contrast(momentum=1.0)
    with pytest.raises(SpecError, match=r"\[ENC\]"):
        retriever(backbone=Blip("random:blip-tiny", first="enc")).fit(
            table, query="caption", target="photo", root=pictures
        )


def test_backbones_are_found_by_name() -> None:
    assert set(names("crossmodal")) == {"blip", "dual"}
    assert CrossModalRetriever().get_params()["method"] == "uniadapter"
    assert UniAdapter(Unified(r=64)).adapter.r == 64
    with pytest.raises(SpecError, match="width must be at least 1"):
        Dual({"text": TextEncoder("somewhere")}, width=0)


def test_pairs_are_matched_as_one_by_one(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    """Pictures are encoded in blocks and pairs matched in batches: each logit is that of its pair alone."""
    inner, model = fitted.fitted_, fitted.fitted_.model
    frame = table.iloc[:12].reset_index(drop=True)
    reading = Reading(pictures, 1, "raise")
    feeds = inner.paired(paired(Excerpt.whole(frame), "caption", "photo"), reading)
    text, picture = np.array([3, 0, 11, 5]), np.array([5, 5, 0, 2])
    together = _logits(model, feeds.queries, feeds.targets, text, picture)
    for i in range(4):
        (one,) = feeds.queries.batches([text[i : i + 1]])
        (other,) = feeds.targets.batches([picture[i : i + 1]])
        with torch.inference_mode():
            pair = model.matched(one["caption"], model.sight(model.tokens(other)))[0]
        assert together[i] == pytest.approx(float(pair[1]), abs=1e-5)


@pytest.mark.parametrize(("query", "target"), [("caption", "photo"), ("photo", "caption")])
def test_nothing_stands_on_both_sides_of_validation(
    query: str, target: str, table: pd.DataFrame, pictures: Path
) -> None:
    model = retriever(training=QUICK.with_params(epochs=1), validation=0.2)
    plan = model.fit(table, query=query, target=target, root=pictures).fitted_.plan
    kept, held = _divided(plan, Excerpt.whole(table))
    assert held is not None
    for column in (query, target):
        assert not set(kept.frame[column]) & set(held.frame[column])


def test_rows_are_grouped_by_all_they_share() -> None:
    frame = pd.DataFrame({"q": ["a", "b", "b", "c"], "t": ["x", "x", "y", "z"]})
    pairs = paired(Excerpt.whole(frame), "q", "t")
    assert pairs.groups.tolist() == [0, 0, 0, pairs.groups[3]]
    assert pairs.groups[3] != 0
    assert [len(set(side.tolist())) for side in pairs.of_side] == [2, 2]


def test_paths_are_cells_like_their_texts(table: pd.DataFrame) -> None:
    as_paths = table.assign(photo=table["photo"].map(Path))
    assert len(paired(Excerpt.whole(as_paths), "caption", "photo").targets) == 40


def test_too_few_pairs_to_hold_some_out_train_on_all(
    table: pd.DataFrame, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = table.iloc[[0, 20]]
    model = retriever(training=QUICK.with_params(epochs=1))
    model.fit(few, query="caption", target="photo", root=pictures)
    assert "too few to hold some out" in caplog.text
    assert model.fitted_.info["validation_rows"] == 0


def test_a_side_that_is_none_is_refused(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    with pytest.raises(SpecError, match="side must be 'query'"):
        fitted.embed(table, "caption", root=pictures)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="k must be at least 0"):
        fitted.evaluate(table, k=-3, root=pictures)
    with pytest.raises(SchemaError, match="at least one pair"):
        fitted.evaluate(table.iloc[:0], root=pictures)
    with pytest.raises(SchemaError, match="at least one cell"):
        fitted.index([], root=pictures)


def test_validation_pairs_lie_beside_the_training_pairs(
    table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    table.iloc[:8].to_csv(tmp_path / "val.csv", index=False)
    train = pictures / "train.csv"
    table.to_csv(train, index=False)
    with pytest.raises(SpecError, match="must be relative to the training table's folder"):
        retriever().fit(train, query="caption", target="photo", val_data=tmp_path / "val.csv")
    train.unlink()


def test_a_picture_itself_can_be_searched_for(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    index = fitted.index(table, root=pictures)
    pixels = np.asarray(Image.open(pictures / "w7-0.png"))
    found = fitted.search(index, pixels, k=1, side="target")
    assert list(found["id"]) == ["w7-0.png"]


def test_a_training_that_made_it_worse_is_told() -> None:
    def says(value: float) -> list[object]:
        return [SimpleNamespace(way="a to b", estimates={"r@1": SimpleNamespace(value=value)})]

    with pytest.warns(UserWarning, match=r"R@1 is 0\.100 after training and was 0\.300"):
        _warn_worse(says(0.1), says(0.3))
