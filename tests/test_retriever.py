"""Retrieval from a table of pairs: captions of coloured squares, through a tiny BLIP and through two encoders."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
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
    Frozen,
    ImageEncoder,
    TextEncoder,
    Training,
    UniAdapter,
    Unified,
    retrieving,
)
from multiadapt.adapted import unique
from multiadapt.crossmodal import _retrieval
from multiadapt.crossmodal._blip import open_blip
from multiadapt.crossmodal._choice import moved
from multiadapt.crossmodal._known import Known, Queue
from multiadapt.crossmodal._matching import logits, two_stage
from multiadapt.crossmodal._pairs import CellFeed, Excerpt, paired
from multiadapt.crossmodal._retrieval import RetrievalModel, _Batch, _cross_entropy, _drawn
from multiadapt.data.reading import Reading
from multiadapt.errors import ArtifactError, CellError, SchemaError, SpecError
from multiadapt.retriever import _warn_worse
from multiadapt.retrieving import FittedRetriever, Part, Protocol, _divided, model_of
from multiadapt.spec import names, resolve
from multiadapt.tasks._retrieval_metrics import best_ranks, relevance
from multiadapt.types import Column, Inputs, Stream

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


def test_pairs_are_seen_as_they_are(table: pd.DataFrame, pictures: Path) -> None:
    with pytest.raises(SpecError, match="got 3 where every picture is seen as it is"):
        retriever(training=QUICK.with_params(views=3)).fit(
            table[:16], query="caption", target="photo", root=pictures
        )


def test_the_folder_of_the_fit_is_known_afterwards(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    expected = fitted.embed(table, "target", root=pictures)
    for model in (fitted, CrossModalRetriever.load(tmp_path / "model")):
        np.testing.assert_array_equal(model.embed(table, "target"), expected)
    assert len(fitted.evaluate(table[:6], k=0))


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


@pytest.mark.parametrize("method", ["uniadapter", "lora", "ia3", "bitfit"])
def test_the_network_before_training_is_the_one_in_memory_bit_for_bit(
    method: str, table: pd.DataFrame, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But where its own parameters were trained: those it was opened with are gone."""
    model = retriever(method=method, training=QUICK.with_params(epochs=1, learning_rate=0.1)).fit(
        table.iloc[:24], query="caption", target="photo", root=pictures
    )
    fitted, frame = model.fitted_, table.iloc[:8]
    trained = {side: fitted.vectors(frame, side, pictures) for side in ("query", "target")}
    anew = FittedRetriever(fitted.plan, model_of(fitted.plan, fitted.model.rows))
    opened: list[object] = []
    real = retrieving.model_of
    monkeypatch.setattr(retrieving, "model_of", lambda *a: (opened.append(a), real(*a))[1])
    protocol = Protocol(k=3)
    with fitted.base() as base:
        for side in ("query", "target"):
            vectors = anew.vectors(frame, side, pictures)
            np.testing.assert_array_equal(base.vectors(frame, side, pictures), vectors)
            assert not np.allclose(
                vectors, fitted.vectors(frame, side, pictures)
            )  # no adapters yet
    assert len(opened) == (method == "bitfit")
    read: list[object] = []
    whole = FittedRetriever._read
    monkeypatch.setattr(FittedRetriever, "_read", lambda *a: (read.append(a), whole(*a))[1])
    mine = fitted.measured(frame, pictures, protocol, 0, zero_shot=True)
    assert len(read) == 1 + (method == "bitfit")  # one network reads its cells once
    theirs = anew.measured(frame, pictures, protocol, 0, zero_shot=False)["adapted"]
    alone = fitted.measured(frame, pictures, protocol, 0, zero_shot=False)["adapted"]
    for found, expected in (("zero-shot", theirs), ("adapted", alone)):
        for one, other in zip(mine[found], expected, strict=True):
            np.testing.assert_array_equal(one.ranks, other.ranks)
    np.testing.assert_array_equal(fitted.vectors(frame, "query", pictures), trained["query"])


def test_a_network_that_rests_in_one_thread_is_live_in_another(
    fitted: CrossModalRetriever, table: pd.DataFrame
) -> None:
    inner = fitted.fitted_
    live = inner.vectors(table.iloc[:3], "query", None)
    with inner.base() as base, ThreadPoolExecutor(1) as other:
        there = other.submit(inner.vectors, table.iloc[:3], "query", None).result()
        assert not np.array_equal(base.vectors(table.iloc[:3], "query", None), live)
    np.testing.assert_array_equal(there, live)


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
    found = fitted.search(index, "w7 w20 w30", k=3, rerank=0)
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
    again = fitted.search(fitted.open_index(tmp_path / "index"), "w7 w20 w30", k=3, rerank=0)
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


def test_a_recipe_without_a_learning_rate_takes_the_retriever_s(
    table: pd.DataFrame, pictures: Path
) -> None:
    model = retriever(training=Training(epochs=1, batch_size=8))
    model.fit(table.iloc[:16], query="caption", target="photo", root=pictures)
    assert model.fitted_.plan.training.learning_rate == 1e-4


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
    known = Known(pairs.ids)
    asked, found = pairs.ids.T
    texts = known.belong(asked, found, 0)
    assert texts.int().tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert known.belong(found, asked, 1).tolist() == texts.T.tolist()


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


def test_a_fitted_model_keeps_nothing_that_only_training_needs(
    fitted: CrossModalRetriever,
) -> None:
    model = fitted.fitted_.model
    assert (model.known, model.teacher, model.queue.state()) == (None, {}, {})
    assert model.queue._kept == ()


def test_the_teacher_starts_as_a_copy_and_follows_slowly(
    table: pd.DataFrame, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetrievalModel, "forget", lambda model: None)
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
    model.queue.settle()
    assert model.queue.filled == model.rows


def test_without_a_teacher_nothing_is_queued(
    table: pd.DataFrame, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetrievalModel, "forget", lambda model: None)
    model = retriever(contrast=Contrast(momentum=None), training=QUICK.with_params(epochs=1))
    inner = model.fit(table, query="caption", target="photo", root=pictures).fitted_.model
    assert inner.teacher == {}
    assert inner.queue.state() == {}


@pytest.mark.parametrize("idle", [{"queue": 64}, {"distill": 0.1}])
def test_what_a_teacher_says_is_not_asked_for_without_one(idle: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=f"needs momentum, got {next(iter(idle))}=.* momentum=None"):
        Contrast(momentum=None, **idle)  # type: ignore[arg-type]
    plain = Contrast(momentum=None)
    assert Contrast.from_dict(plain.to_dict()) == plain
    assert Contrast(momentum=None, queue=0, distill=0.0)


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
    together = logits(model, feeds.queries, feeds.targets, text, picture)
    for i in range(4):
        (one,) = feeds.queries.batches([text[i : i + 1]])
        (other,) = feeds.targets.batches([picture[i : i + 1]])
        with torch.inference_mode():
            pair = model.matched(one["caption"], model.sight(other, model.tokens(other)))[0]
        assert together[i] == pytest.approx(float(pair[1]), abs=1e-5)


@pytest.mark.parametrize(("query", "target"), [("caption", "photo"), ("photo", "caption")])
def test_nothing_stands_on_both_sides_of_validation(
    query: str, target: str, table: pd.DataFrame, pictures: Path
) -> None:
    model = retriever(training=QUICK.with_params(epochs=1), validation=0.2)
    plan = model.fit(table, query=query, target=target, root=pictures).fitted_.plan
    rows = Excerpt.whole(table)
    kept, held = _divided(plan, Part(rows, plan.paired(rows)))
    for column in (query, target):
        assert not set(kept.rows.frame[column]) & set(held.rows.frame[column])


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


# --- adapters in the matching pass ---------------------------------------------------------------


def streams() -> list[Stream]:
    found = {"caption": "text", "photo": "image"}
    return [Stream(n, kind, (Column(n, kind, "told"),)) for n, kind in found.items()]  # type: ignore[arg-type]


def network(method: object = None, **options: object) -> RetrievalModel:
    torch.manual_seed(0)
    chosen = method or Frozen()
    return RetrievalModel(BLIP.open(streams()), chosen, Contrast(**options), 8).eval()  # type: ignore[arg-type]


def some(model: RetrievalModel, rows: int = 4) -> dict[str, Inputs]:
    rng = np.random.default_rng(0)
    photos = [[rng.integers(0, 256, (32, 32, 3), np.uint8)] for _ in range(rows)]
    return {
        "caption": model.encoder("caption").prepare([[f"word {i}"] for i in range(rows)]),
        "photo": model.encoder("photo").prepare(photos),
    }


@torch.no_grad()
def matches(model: RetrievalModel, batch: dict[str, Inputs]) -> torch.Tensor:
    return model.matched(batch["caption"], model.sight(batch, model.tokens(batch)))


@pytest.mark.parametrize("method", ["lora", "ia3", "houlsby", "uniadapter"])
def test_adapters_reach_the_pass_that_matches_and_start_as_nothing(method: str) -> None:
    model = network(resolve("methods", method)())
    batch = some(model)
    before = matches(model, batch)
    assert torch.equal(before, matches(network(), batch))
    own = {k: a for k, a in unique(model.placed).items() if k.startswith("fusion/")}
    assert own or method == "uniadapter"
    with torch.no_grad():
        for adapter in own.values():
            for parameter in adapter.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert method == "uniadapter" or not torch.allclose(matches(model, batch), before)
    loss = model.loss(batch, torch.arange(4)[:, None].expand(4, 2), torch.ones(4))
    loss.backward()
    for key, adapter in own.items():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters()), key


def test_one_layer_has_one_lora_in_both_modes_and_is_counted_once() -> None:
    """r (in + out) each: q and v of 2 layers in the text's own mode, of their cross-attention, of vision."""
    model = network(resolve("methods", "lora")())
    counted = {p.part: p.trainable for p in model.parts() if p.part.startswith("adapters")}
    each = 8 * (32 + 32)
    assert counted == {
        "adapters caption + fusion": 4 * each,
        "adapters photo": 4 * each,
        "adapters fusion": 4 * each,
    }
    trained = sum(p.numel() for a in unique(model.placed).values() for p in a.parameters())
    assert trained == sum(counted.values())
    placed = {s.key: a for s, a in model.placed.items()}
    assert placed["caption/0/query"] is placed["fusion/0/query"]
    assert placed["fusion/0/query.1"] is not placed["fusion/0/query"]


# --- what belongs together -----------------------------------------------------------------------


def test_a_pair_of_another_batch_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Query 0 belongs to target 1 too, by a row that is not in the batch."""
    model = network()
    allowed: list[torch.Tensor] = []

    def spy(near: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        allowed.append(given)
        return _drawn(near, given)

    monkeypatch.setattr(_retrieval, "_drawn", spy)
    target = torch.tensor([[0, 0], [1, 1], [2, 2]])
    model.known = Known(torch.cat([target, torch.tensor([[0, 1]])]))
    model.loss(some(model, 3), target, torch.ones(3))
    texts, pictures = allowed
    assert texts.tolist() == [[0, 0, 1], [1, 0, 1], [1, 1, 0]]
    assert pictures.tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 0]]
    model.known = None
    model.loss(some(model, 3), target, torch.ones(3))
    assert allowed[2].tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


def test_queued_rows_that_belong_count_as_right() -> None:
    model = network(distill=0.0)
    first, again = torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0, 0], [2, 2]])
    batch = some(model, 2)
    model.loss(batch, first, torch.ones(2))
    live = [v.float() for v in model.vectors(model.tokens(batch)).values()]
    sides = live[0], live[1]
    both = _Batch(sides, sides, sides, again)
    got = model._contrastive(both, again, torch.ones(2), Known(again))
    model.queue.settle()
    known = Known(torch.cat([first, again]))
    queued = model._contrastive(both, again, torch.ones(2), known)
    near = live[0][:, 0] @ torch.cat([live[1], live[1]])[:, 0].T / model.heads.temperature
    back = live[1][:, 0] @ torch.cat([live[0], live[0]])[:, 0].T / model.heads.temperature
    aim = torch.tensor([[0.5, 0, 0.5, 0], [0, 1, 0, 0]])
    by_hand = (_cross_entropy(near, aim) + _cross_entropy(back, aim)).mean() / 2
    torch.testing.assert_close(queued, by_hand)
    assert not torch.allclose(queued, got)


def test_the_queue_keeps_the_latest_rows_and_moves_none() -> None:
    queue = Queue(5)
    for start in (0, 3, 6):
        rows = torch.arange(start, start + 3)
        vectors = rows[:, None, None].float().expand(3, 1, 2)
        queue.put([vectors, -vectors], rows[:, None].expand(3, 2))
        where = queue._kept[0].data_ptr() if queue.filled else None
        queue.settle()
        assert where in (None, queue._kept[0].data_ptr())
    assert sorted(queue.rows()[0][:, 0].tolist()) == [4, 5, 6, 7, 8]
    assert queue.side(1)[0][:, 0, 0].tolist() == [-n for n in queue.rows()[0][:, 0].tolist()]
    other = Queue(5)
    other.restore(queue.state())
    more = torch.full((1, 1, 2), 9.0)
    for one in (queue, other):
        one.put([more, more], torch.tensor([[9, 9]]))
        one.settle()
    assert torch.equal(queue.rows()[0], other.rows()[0])
    empty = Queue(0)
    empty.put([more, more], torch.tensor([[9, 9]]))
    assert empty.state() == {}


# --- each thing once -----------------------------------------------------------------------------


def test_validation_computes_a_picture_once_not_once_a_caption(
    table: pd.DataFrame, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, int]] = []
    forward = RetrievalModel.forward

    def spy(self: RetrievalModel, batch: dict[str, Inputs]) -> object:
        rows.append({s: len(i) for s, i in batch.items()})
        return forward(self, batch)

    monkeypatch.setattr(RetrievalModel, "forward", spy)
    model = retriever(training=QUICK.with_params(epochs=1))
    model.fit(table, query="caption", target="photo", root=pictures, val_data=table.iloc[:20])
    assert rows == [{"caption": 20}, {"photo": 10}]


def test_the_held_out_loss_is_contrast_over_all_pairs(table: pd.DataFrame, pictures: Path) -> None:
    model = retriever(training=QUICK.with_params(epochs=1)).fit(
        table.iloc[:24], query="caption", target="photo", root=pictures
    )
    inner = model.fitted_
    pairs = paired(Excerpt.whole(table.iloc[:9]), "caption", "photo")
    feeds = inner.paired(pairs, Reading(pictures, 1, "raise"))
    cells = CellFeed(feeds)
    assert len(cells) == 14
    with torch.no_grad():
        scores = torch.cat([inner.model(b).scores for b in cells.batches(cells.in_order())])
        loss = inner.model.held_out_loss(scores, pairs.ids, torch.ones(9))
        (batch,) = feeds.batches(feeds.in_order())
        said = inner.model.vectors(inner.model.tokens(batch))
        near = said["caption"][:, 0] @ said["photo"][:, 0].T / inner.model.heads.temperature
        same = (pairs.ids[:, None, 1] == pairs.ids[None, :, 1]).float()
        aim = same / same.sum(1, keepdim=True)
        by_hand = (_cross_entropy(near, aim) + _cross_entropy(near.T, aim)).mean() / 2
    torch.testing.assert_close(loss, by_hand)


def test_a_pair_near_both_ways_is_matched_once() -> None:
    near = np.random.default_rng(0).normal(size=(7, 5))
    logit = np.random.default_rng(1).normal(size=(7, 5))
    asked: list[tuple[int, int]] = []

    def tell(query: np.ndarray, target: np.ndarray) -> np.ndarray:
        asked.extend(zip(query.tolist(), target.tolist(), strict=True))
        return logit[query, target]

    both = two_stage(near, 3, 0.5, tell)
    forward, backward = (rows(0, n) for rows, n in zip(both, near.shape, strict=True))
    assert len(asked) == len(set(asked)) < 7 * 3 + 5 * 3
    for scores, own, told in ((forward, near, logit), (backward, near.T, logit.T)):
        for i in range(len(own)):
            best = np.argsort(-own[i])[:3]
            np.testing.assert_allclose(scores[i, best], told[i, best] + 0.5 * own[i, best])
            rest = np.setdiff1d(np.arange(own.shape[1]), best)
            assert scores[i, rest].max() < scores[i, best].min()
            assert np.argsort(scores[i, rest]).tolist() == np.argsort(own[i, rest]).tolist()
    whole, _ = two_stage(near, 100, 0.0, lambda q, t: logit[q, t])
    np.testing.assert_allclose(whole(0, 7), logit)
    np.testing.assert_array_equal(whole(2, 5), whole(0, 7)[2:5])


def at_once(near: np.ndarray, told: np.ndarray, k: int, beta: float) -> np.ndarray:
    """What `two_stage` gives one way, as one matrix."""
    wide = near.astype(np.float64)
    nearest = np.argpartition(-wide, min(k, wide.shape[1]) - 1, axis=1)[:, :k]
    best = np.take_along_axis(told + beta * wide, nearest, axis=1)
    behind = wide + best.min(1, keepdims=True) - wide.max(1, keepdims=True) - 1
    np.put_along_axis(behind, nearest, best, axis=1)
    return behind


@pytest.mark.parametrize("k", [1, 9, 1000])
def test_ranks_of_some_rows_at_a_time_are_those_of_the_whole_ties_included(k: int) -> None:
    """Similarities and logits of few values tie everywhere; ties count against, in either way."""
    rng = np.random.default_rng(k)
    near = rng.integers(-4, 5, (300, 170)).astype(np.float32) / 4
    told = rng.integers(-2, 3, near.shape).astype(np.float64)
    related = relevance([[i % 170, (7 * i) % 170] for i in range(300)], 170)
    forward, backward = two_stage(near, k, 0.5, lambda q, t: told[q, t])
    for rows, whole, there in (
        (forward, at_once(near, told, k, 0.5), related),
        (backward, at_once(near.T, told.T, k, 0.5), related.turned()),
    ):
        expected = best_ranks(whole, there)
        assert len(np.unique(whole)) < whole.size / 20
        for block in (1, 37, 1000):
            np.testing.assert_array_equal(best_ranks(rows, there, block=block), expected)


def test_ranking_a_large_pool_holds_one_matrix_and_no_second() -> None:
    near = np.random.default_rng(0).normal(size=(1500, 3000)).astype(np.float32)
    there = relevance([[i] for i in range(1500)], 3000)
    tracemalloc.start()
    try:
        both = two_stage(near, 8, 1.0, lambda q, t: near[q, t].astype(np.float64))
        best_ranks(both[0], there, block=128)
        best_ranks(both[1], relevance([[i % 1500] for i in range(3000)], 1500), block=128)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < near.nbytes


def test_pairs_columns_and_hashes_are_made_once(
    table: pd.DataFrame, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(home: object, name: str) -> None:
        real = getattr(home, name)
        monkeypatch.setattr(home, name, lambda *a, **k: (calls.append(name), real(*a, **k))[1])

    import multiadapt.retriever as retriever_module
    import multiadapt.retrieving as retrieving_module

    counted(retriever_module, "guess_schema")
    counted(retrieving_module, "paired")
    numbers = table.assign(photo=table["photo"], caption=np.arange(80) // 2)
    model = retriever(training=QUICK.with_params(epochs=1))
    model.fit(numbers, query="caption", target="photo", root=pictures)
    assert calls == ["guess_schema", "paired"]
    assert [c.kind for c in model.fitted_.plan.schema.columns] == ["text", "image"]
    assert "else it would be" in model.fitted_.plan.schema.columns[0].reason
    counted(RetrievalModel, "trained_state")
    assert model.fitted_.made_by == model.fitted_.made_by
    assert calls.count("trained_state") == 1


def test_a_part_of_the_pairs_is_what_its_rows_make() -> None:
    frame = pd.DataFrame({"q": list("abacdd"), "t": list("xxyzuu")}, index=list("ABCDEF"))
    at = np.array([3, 0, 1, 2])
    whole = Excerpt(frame, np.arange(6) + 10)
    part, alone = paired(whole, "q", "t").take(at), paired(whole.take(at), "q", "t")
    for name in ("query", "target"):
        assert getattr(part, name).tolist() == getattr(alone, name).tolist()
    pd.testing.assert_frame_equal(part.queries, alone.queries)
    pd.testing.assert_frame_equal(part.targets, alone.targets)
    assert [p.tolist() for p in part.places] == [p.tolist() for p in alone.places]


# --- ranking again -------------------------------------------------------------------------------


def test_search_ranks_the_nearest_again_by_match_and_similarity(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    index = fitted.index(table, root=pictures)
    text = "w7 w20 w30"
    found = fitted.search(index, text, k=3, rerank=8, beta=2.0)
    near = fitted.search(index, text, k=8, rerank=0).set_index("id")["score"]
    assert set(found["id"]) <= set(near.index)
    inner, model = fitted.fitted_, fitted.fitted_.model
    texts = inner.kept(pd.DataFrame({"caption": [text]}), "query", None)
    photos = inner.kept(pd.DataFrame({"photo": list(near.index)}), "target", pictures)
    told = logits(model, texts, photos, np.zeros(8, np.int64), np.arange(8))
    scores = pd.Series(told + 2.0 * near.to_numpy(), near.index).sort_values(ascending=False)
    assert list(found["id"]) == list(scores.index[:3])
    np.testing.assert_allclose(found["score"], scores[:3], atol=1e-5)
    np.testing.assert_allclose(found["similarity"], near[found["id"]], atol=1e-6)
    index.save(tmp_path / "index")
    again = fitted.search(fitted.open_index(tmp_path / "index"), text, k=3, rerank=8, beta=2.0)
    pd.testing.assert_frame_equal(again, found)


def test_search_ranks_again_by_itself_where_it_can(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path, minilm: Path
) -> None:
    index = fitted.index(table, ids=list(range(80)), root=pictures)
    assert fitted.search(index, []) == []
    assert "similarity" in fitted.search(index, "w7", k=2)
    several = fitted.search(index, ["w7", "w8 w9"], k=2)
    alone = [fitted.search(index, text, k=2) for text in ("w7", "w8 w9")]
    for one, other in zip(several, alone, strict=True):
        pd.testing.assert_frame_equal(one, other, atol=1e-5)
    texts = fitted.index(table, side="query", root=pictures)
    turned = fitted.search(texts, "w7-0.png", k=2, side="target", root=pictures)
    assert list(turned.columns) == ["id", "score", "similarity"]
    like = fitted.search(index, "w7-0.png", k=2, side="target", root=pictures)
    assert list(like.columns) == ["id", "score"]
    pixels = [np.asarray(Image.open(pictures / f"w7-{i}.png")) for i in range(3)]
    arrays = fitted.index(pixels)
    assert list(fitted.search(arrays, "w7", k=2).columns) == ["id", "score"]
    with pytest.raises(SpecError, match="does not know the texts or paths"):
        fitted.search(arrays, "w7", k=2, rerank=3)
    with pytest.raises(SpecError, match="holds cells of the side that asks, 'target'"):
        fitted.search(index, "w7-0.png", k=2, side="target", rerank=3, root=pictures)
    with pytest.raises(SpecError, match="rerank must be 0 or at least k, which is 5, got 3"):
        fitted.search(index, "w7", k=5, rerank=3)
    dual = retriever(method="frozen", backbone={"image": "starter", "text": str(minilm)})
    dual.fit(table.iloc[:16], query="caption", target="photo", root=pictures)
    plain = dual.index(table, root=pictures)
    assert plain.sources is None
    with pytest.raises(SpecError, match="has no cross-modal part"):
        dual.search(plain, "w7", k=2, rerank=3)


def test_what_is_not_there_any_more_is_named(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path, tmp_path: Path
) -> None:
    for name in ("w7-0.png", "w8-0.png"):
        Image.open(pictures / name).save(tmp_path / name)
    index = fitted.index(["w7-0.png", "w8-0.png"], ids=["a", "b"], root=tmp_path)
    vector = fitted.embed(table.iloc[:1], "target", root=pictures)
    with pytest.raises(SpecError, match="each cell needs an id, got 1 ids for 2 cells"):
        fitted.index(["w7-0.png", "w8-0.png"], ids=["a"], root=tmp_path)
    index.add(["c"], vector, cells=["w8-0.png"])
    assert len(fitted.search(index, "w7", k=3)) == 3
    index.update(["c"], vector)
    with pytest.raises(SpecError, match=r"1 of the nearest have no cells .* such as 'c'"):
        fitted.search(index, "w7", k=3)
    assert len(fitted.search(index, "w7", k=3, rerank=0)) == 3
    index.remove(["c"])
    (tmp_path / "w8-0.png").unlink()
    with pytest.raises(
        CellError, match=r"row 'b' .*column 'photo', file 'w8-0\.png': no such file"
    ):
        fitted.search(index, "w7", k=2)


def test_pictures_that_moved_are_found_in_the_folder_that_is_named(
    fitted: CrossModalRetriever, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    for name in ("w7-0.png", "w8-0.png"):
        Image.open(pictures / name).save(tmp_path / "before" / name)
    index = fitted.index(["w7-0.png", "w8-0.png"], root=tmp_path / "before")
    index.save(tmp_path / "index")
    found = fitted.search(index, "w7", k=2)
    (tmp_path / "before").rename(tmp_path / "after")
    opened = fitted.open_index(tmp_path / "index")
    with pytest.raises(CellError, match=r"(?s)read again in .*before, .*open_index\(folder, root="):
        fitted.search(opened, "w7", k=2)
    moved = fitted.open_index(tmp_path / "index", root=tmp_path / "after")
    pd.testing.assert_frame_equal(fitted.search(moved, "w7", k=2), found)


@pytest.mark.parametrize("rerank", [None, 0, 8])
def test_a_search_of_nothing_is_refused_whether_it_ranks_again_or_not(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path, rerank: int | None
) -> None:
    index = fitted.index(table.iloc[:8], root=pictures)
    for k in (0, -1):
        with pytest.raises(SpecError, match=f"k must be at least 1, got {k}"):
            fitted.search(index, "w7", k=k, rerank=rerank)
    with pytest.raises(SpecError, match="beta must be finite, got nan"):
        fitted.search(index, "w7", k=1, rerank=rerank, beta=float("nan"))
    with pytest.raises(
        CellError, match=r"(?s)compared must not be missing.*row 0: caption missing"
    ):
        fitted.search(index, "", k=1, rerank=rerank)
    assert len(fitted.search(index, "w7", k=50, rerank=None if rerank == 8 else rerank)) == 4


def test_evaluate_refuses_a_weight_that_is_no_number(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    with pytest.raises(SpecError, match="beta must be finite, got inf"):
        fitted.evaluate(table, beta=float("inf"), root=pictures)


def test_cells_may_come_as_a_list_or_as_unique_gives_them(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    names = table["photo"].unique()
    whole = fitted.index(table, root=pictures)
    for cells in (names, np.array(names, dtype=object), pd.Index(names), list(names)):
        assert list(fitted.index(cells, root=pictures).ids) == list(whole.ids)
    captions = table["caption"].iloc[:2]
    kinds = (captions.array, captions.to_numpy(dtype=object))
    assert [len(fitted.search(whole, texts, k=2)) for texts in kinds] == [2, 2]
    picture = np.asarray(Image.open(pictures / names[0]))
    (found,) = fitted.search(whole, picture, k=1, side="target")["id"]  # type: ignore[call-overload]
    assert found == names[0]
    np.testing.assert_array_equal(
        fitted.embed(captions.tolist(), "query"), fitted.embed(table.iloc[:2], "query")
    )
    assert fitted.embed(table.iloc[:0], "target", root=pictures).shape == (0, 16)


def test_ids_are_counted_before_anything_is_read(fitted: CrossModalRetriever) -> None:
    with pytest.raises(SpecError, match="each cell needs an id, got 1 ids for 2 cells"):
        fitted.index(["nowhere.png", "neither.png"], ids=["a"])


def test_what_an_index_cannot_be_is_told_before_anything_is_read(
    fitted: CrossModalRetriever,
) -> None:
    for options, says in (
        ({"kind": "ivf", "nprob": 3}, r"no options \['nprob'\]; it has effort"),
        ({"dtype": "int8"}, "dtype must be float32 or float16"),
        ({"kind": "tree"}, "kind must be one of exact"),
    ):
        with pytest.raises(SpecError, match=says):
            fitted.index(["nowhere.png"], **options)  # type: ignore[arg-type]


def test_equal_cells_under_one_name_are_kept_once(
    fitted: CrossModalRetriever, table: pd.DataFrame, pictures: Path
) -> None:
    named = table.iloc[[0, 1, 2, 3, 0]].assign(name=[7, 7, "a", "b", 7])
    index = fitted.index(named, named["name"].tolist(), root=pictures)
    assert list(index.ids) == [7, "a", "b"]
    assert index.sources is not None
    assert index.sources.cells == {7: "w7-0.png", "a": "w7-1.png", "b": "w7-1.png"}
    with pytest.raises(CellError, match="an id must stand once; 7 stands 2 times"):
        fitted.index(named, [7, 7, 7, "b", 7], root=pictures)


def test_moved_encoders_keep_their_options(
    table: pd.DataFrame, pictures: Path, minilm: Path, tmp_path: Path
) -> None:
    """Only what has moved is named, by modality or column, and its width, token limit and so on stay."""
    own = {
        "photo": ImageEncoder("starter", size=32),
        "text": TextEncoder(str(minilm), max_length=9),
    }
    model = retriever(
        method="frozen", backbone=Dual(own, width=8), training=Training(epochs=1), validation=0.0
    ).fit(table.iloc[:8], query="caption", target="photo", root=pictures)
    model.save(tmp_path / "model")
    minilm = minilm.rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(
            ArtifactError, match=r"name its place: load\(folder, backbone=\{\.\.\.\}\)"
        ):
            CrossModalRetriever.load(tmp_path / "model", device="cpu")
        for place in ({"text": str(minilm)}, {"caption": str(minilm), "image": "starter"}):
            again = CrossModalRetriever.load(tmp_path / "model", backbone=place, device="cpu")
            assert again.embed(["w7"], "query").shape == (1, 8)
            np.testing.assert_array_equal(
                again.embed(["w7"], "query"), model.embed(["w7"], "query")
            )
        with pytest.raises(
            SpecError, match=r"backbone names \['audio'\]; this model has .*caption"
        ):
            CrossModalRetriever.load(tmp_path / "model", backbone={"audio": "x"}, device="cpu")
    finally:
        minilm.rename(own["text"].source)


def test_moved_encoders_keep_their_names() -> None:
    """What is fitted again may have other columns. A revision is one of the old place."""
    own = {"image": ImageEncoder("a", size=32, revision="v9"), "text": TextEncoder("b")}
    pictures, there = streams(), ImageEncoder("c", size=32)
    column = next(s.name for s in pictures if s.modality == "image")
    for place in ({"image": "c"}, {column: Path("c")}, {column: there}):
        assert moved(Dual(own, width=8), pictures, place) == Dual({**own, "image": there}, width=8)
    for place in ("c", Path("c")):
        found = moved(Dual(own, width=8), pictures, place)
        assert found == Dual({"image": there, "text": TextEncoder("c")}, width=8)
    both = [Stream(n, "image", (Column(n, "image", "told"),)) for n in ("front", "back")]
    for place, expected in (
        ({"back": "c"}, ["a", "c"]),
        ({"back": "c", "image": "d"}, ["d", "c"]),
        ("c", ["c", "c"]),
    ):
        found = moved(Dual(own), both, place)
        assert isinstance(found, Dual)
        assert [found.spec(s).source for s in both] == expected  # type: ignore[attr-defined]


def test_a_moved_blip_keeps_its_options(fitted: CrossModalRetriever) -> None:
    saved = Blip("starter", size=48, first="enc", frames=3, revision="main")
    for place in ("there", Path("there")):
        found = moved(saved, streams(), place)
        assert found == saved.with_params(source="there", revision=None)
    with pytest.raises(SpecError, match=r"one network reads both columns: .*, got \{"):
        moved(saved, streams(), {"text": "there"})
