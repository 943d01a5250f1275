"""Texts, pictures and clips that find each other: whose frames count by how near they are to what asks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from films import film
from PIL import Image
from tiny import make_transformer
from tiny_text import make_text_network
from torch.nn import functional as F

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
    VideoEncoder,
)
from multiadapt.crossmodal import _cross
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._frames import frame_weights, middle, similarity
from multiadapt.crossmodal._matching import points_of
from multiadapt.crossmodal._retrieval import RetrievalModel
from multiadapt.errors import CellError, SpecError
from multiadapt.types import Clip, Column, Inputs, Kind, Sampling, Stream

T = 3
QUICK = Training(epochs=1, batch_size=8, learning_rate=1e-3)
COLOURS = {"w7": (220, 30, 30), "w8": (30, 200, 40), "w9": (40, 60, 230), "w10": (230, 220, 40)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, as folders of frames; two films; a tiny picture network and a tiny text network."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for i in range(12):
        (folder / f"clip{i}").mkdir()
        first, last = (np.array(list(COLOURS.values())[(i + j) % 4]) for j in (0, 1))
        frames = []
        for k in range(6):
            pixels = first + (last - first) * k / 5 + rng.integers(-15, 16, (32, 32, 3))
            frames.append(pixels.clip(0, 255).astype(np.uint8))
            Image.fromarray(frames[-1]).save(folder / f"clip{i}/{k}.png")
        if i < 2:
            (folder / f"clip{i}.mp4").write_bytes(film(frames))
    make_transformer(folder / "vit")
    (folder / "text").mkdir()
    make_text_network(
        folder / "text", "Bert", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, vocab_size=60, max_position_embeddings=24,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    words = list(COLOURS)
    said = [f"{words[i % 4]} w20 {words[(i + 1) % 4]} w{30 + i}" for i in range(12)]
    return pd.DataFrame({"said": said, "clip": [f"clip{i}" for i in range(12)]})


def dual(home: Path, **options: Any) -> Dual:
    encoders = {
        "video": VideoEncoder(str(home / "vit"), frames=T),
        "text": TextEncoder(str(home / "text")),
        "image": ImageEncoder(str(home / "vit")),
    }
    return Dual({**encoders, **options.pop("encoders", {})}, **options)


def retriever(backbone: Any, method: Any = None, **options: Any) -> CrossModalRetriever:
    options = {"column_types": {"said": "text", "clip": "video"}, "training": QUICK} | options
    chosen = method or UniAdapter(Unified(r=4))
    return CrossModalRetriever(
        chosen, backbone=backbone, validation=0.0, device="cpu", verbose=False, **options
    )


@pytest.fixture(scope="module")
def by_two(home: Path, table: pd.DataFrame) -> CrossModalRetriever:
    return retriever(dual(home), Frozen()).fit(table, query="said", target="clip", root=home)


@pytest.fixture(scope="module")
def by_blip(home: Path, table: pd.DataFrame) -> CrossModalRetriever:
    backbone = Blip("random:blip-tiny", frames=T)
    return retriever(backbone).fit(table, query="said", target="clip", root=home)


def model(backbone: BackboneSpec, kinds: tuple[Kind, Kind] = ("text", "video")) -> RetrievalModel:
    names = ("said", "clip")
    streams = [Stream(n, k, (Column(n, k, "told"),)) for n, k in zip(names, kinds, strict=True)]
    torch.manual_seed(0)
    return RetrievalModel(backbone.open(streams), Frozen(), Contrast(), 8).eval()


def clip(seed: int, frames: int = T) -> Clip:
    rng = np.random.default_rng(seed)
    return Clip(tuple(rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(frames)))


def batch(model: RetrievalModel, *clips: list[Clip]) -> dict[str, Inputs]:
    texts = [[f"w{7 + i} w20"] for i in range(len(clips))]
    return {
        "said": model.encoder("said").prepare(texts),
        "clip": model.encoder("clip").prepare(list(clips)),
    }


# --- what is compared ----------------------------------------------------------------------------


def test_similarity_with_weighed_frames_is_the_published_one() -> None:
    torch.manual_seed(0)
    text = F.normalize(torch.randn(4, 1, 6), dim=-1)
    frames = torch.randn(3, 5, 6)
    found = similarity(text, frames)
    unit = F.normalize(frames, dim=-1)
    for a in range(4):
        for b in range(3):
            weights = 5 * torch.softmax(unit[b] @ text[a, 0] / 4, dim=0)
            whole = F.normalize((weights[:, None] * frames[b]).mean(0), dim=0)
            torch.testing.assert_close(found[a, b], whole @ text[a, 0])
    torch.testing.assert_close(similarity(frames, text), found.T)
    same = frames[:, :1].expand(-1, 5, -1)
    torch.testing.assert_close(similarity(text, same), text[:, 0] @ middle(same).T)


def test_no_gradient_flows_through_the_weights() -> None:
    text = torch.tensor([[[1.0, 0.0]]])
    frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], requires_grad=True)
    (grad,) = torch.autograd.grad(similarity(text, frames).sum(), frames)
    share = torch.softmax(torch.tensor([1.0, 0.0]) / 4, 0)
    fixed = frames.detach().clone().requires_grad_()
    mean = (share[:, None] * fixed[0]).sum(0)
    (by_hand,) = torch.autograd.grad(F.normalize(mean, dim=0)[0], fixed)
    torch.testing.assert_close(grad, by_hand)


def test_frames_that_are_padding_do_not_count() -> None:
    text = F.normalize(torch.randn(2, 8), dim=-1)
    frames = F.normalize(torch.randn(2, 4, 8), dim=-1)
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    weights = frame_weights(text, frames, 5, real).unflatten(1, (4, 5))
    alone = frame_weights(text[1:], frames[1:, :2], 5).unflatten(1, (2, 5))
    torch.testing.assert_close(weights[1, :2], alone[0])
    assert not weights[1, 2:, 1:].any()


def test_of_two_encoders_one_sees_frames_and_the_other_weighs_them(home: Path) -> None:
    aware = model(dual(home))
    plain = model(dual(home, frame_aware=False))
    assert (aware.points, plain.points) == ({"said": 1, "clip": T}, {"said": 1, "clip": 1})
    both = batch(aware, [clip(0)], [clip(1)], [clip(2), clip(3)])
    with torch.no_grad():
        weighed, mean = (m.vectors(m.tokens(both)) for m in (aware, plain))
        torch.testing.assert_close(middle(weighed["clip"]), mean["clip"][:, 0])
        parts = aware.vectors(aware.tokens(batch(aware, [clip(2)], [clip(3)])))["clip"]
    torch.testing.assert_close(weighed["clip"][2], parts.mean(0))
    assert not torch.allclose(similarity(*weighed.values()), similarity(*mean.values()))
    deep = {"clip": aware.encoder("clip").prefix(both["clip"], aware.encoder("clip").blocks + 1)}
    with torch.no_grad():
        torch.testing.assert_close(aware.vectors(aware.tokens(deep))["clip"], weighed["clip"])
    loss = aware.loss(both, torch.arange(3)[:, None].expand(3, 2), torch.ones(3))
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in aware.heads.projections.parameters())
    again = aware.loss(both, torch.arange(3, 6)[:, None].expand(3, 2), torch.ones(3))
    assert aware.queue.side(1)[0].shape == (3, T, 256)
    assert torch.isfinite(again)


@torch.no_grad()
def test_a_text_looks_at_the_tokens_of_all_frames_and_weighs_their_keys() -> None:
    aware = model(Blip("random:blip-tiny", frames=T))
    plain = model(Blip("random:blip-tiny", frames=T, frame_aware=False))
    both = batch(aware, [clip(0)], [clip(1)])
    tokens = aware.tokens(both)
    seen = aware.sight(both, tokens)
    each = (32 // 16) ** 2 + 1
    assert seen.x.shape == (2, T * each, 32)
    said = aware.vectors(tokens)
    torch.testing.assert_close(said["clip"], plain.vectors(plain.tokens(both))["clip"])
    project = aware.heads.projections[1]
    frames = F.normalize(project(seen.x.unflatten(1, (T, each))[:, :, 0]), dim=-1)
    weights = frame_weights(said["said"][:, 0], frames, each)
    assert aware.cross is not None
    ids = both["said"].tensors["ids"]
    by_hand = aware.heads.match(aware.cross(ids, None, type(seen)(seen.x, weights=weights))[:, 0])
    torch.testing.assert_close(aware.matched(both["said"], seen), by_hand)
    torch.testing.assert_close(aware.matched(both["said"], seen, said["said"][:, 0]), by_hand)
    without = plain.matched(both["said"], plain.sight(both, plain.tokens(both)))
    assert not torch.equal(without, by_hand)


@pytest.mark.parametrize("frame_aware", [True, False])
def test_frames_are_weighed_in_training_too(
    frame_aware: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed: list[int] = []

    def spy(text: torch.Tensor, *given: Any) -> torch.Tensor:
        weighed.append(len(text))
        return frame_weights(text, *given)

    monkeypatch.setattr(_cross, "frame_weights", spy)
    own = model(Blip("random:blip-tiny", frames=T, frame_aware=frame_aware))
    both = batch(own, [clip(0)], [clip(1)], [clip(2)])
    own.loss(both, torch.arange(3)[:, None].expand(3, 2), torch.ones(3)).backward()
    assert weighed == ([9] if frame_aware else [])  # three pairs, and two hard others for each


@torch.no_grad()
def test_a_cell_of_one_clip_beside_one_of_two_is_as_alone() -> None:
    aware = model(Blip("random:blip-tiny", frames=T))
    both = batch(aware, [clip(0)], [clip(1), clip(2)])
    alone = {s: i.select(torch.tensor([0])) for s, i in both.items()}
    found = [aware.matched(b["said"], aware.sight(b, aware.tokens(b)))[0] for b in (both, alone)]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_who_weighs_frames_and_who_cannot(home: Path) -> None:
    blip = Blip("random:blip-tiny", frames=T)
    assert model(blip, ("text", "image")).clips is None
    assert model(blip, ("video", "video")).clips is None
    pictured = model(blip, ("image", "video"))
    assert (pictured.matches, pictured.points) == (False, {"said": 1, "clip": T})
    learned = VideoEncoder(str(home / "vit"), frames=T, pool="attention")
    assert model(dual(home, encoders={"video": learned})).clips is None
    one = VideoEncoder(str(home / "vit"), frames=1)
    assert model(dual(home, encoders={"video": one})).clips is None
    turned = model(blip, ("video", "text"))
    assert (turned.matches, turned.seen, turned.clips) == (True, "said", "said")


def test_frames_are_sampled_as_asked() -> None:
    backbone = Blip("random:blip-tiny", frames=5, sampling="stride", stride=2)
    assert model(backbone).encoder("clip").stream.sampling == Sampling(5, "stride", 2)
    for wrong in ("frames", "stride"):
        with pytest.raises(SpecError, match=f"{wrong} must be at least 1, got 0"):
            Blip("random:blip-tiny", **{wrong: 0})
    with pytest.raises(SpecError, match="BLIP reads texts, pictures and clips; 'clip' holds audio"):
        model(Blip("random:blip-tiny"), ("text", "audio"))


# --- fits ----------------------------------------------------------------------------------------


def test_evaluate_weighs_frames_and_says_so(
    by_two: CrossModalRetriever, table: pd.DataFrame, home: Path
) -> None:
    found = by_two.evaluate(table, root=home)
    assert found["protocol"].str.contains("frames weighed").all()
    inner = by_two.fitted_
    texts = points_of(inner.model, inner.kept(table[["said"]], "query", home))
    clips = points_of(inner.model, inner.kept(table[["clip"]], "target", home))
    assert clips.shape[1] == T
    near = similarity(texts, clips)
    ranks = (near >= near.diag()[:, None]).sum(1)
    r1 = found.loc[("said to clip", "r@1", "adapted"), "value"]
    assert r1 == pytest.approx(float((ranks == 1).float().mean()))
    np.testing.assert_allclose(by_two.embed(table, "target", root=home), middle(clips), atol=1e-6)


def test_a_text_network_beside_clips_is_evaluated_in_two_stages(
    by_blip: CrossModalRetriever, table: pd.DataFrame, home: Path
) -> None:
    found = by_blip.evaluate(table.iloc[:6], k=3, root=home)
    assert found["protocol"].str.contains("nearest 3 by match logit").all()
    assert "zero-shot" in found.index.get_level_values("model")


def test_an_index_keeps_means_and_search_weighs_frames_again(
    by_two: CrossModalRetriever, table: pd.DataFrame, home: Path, tmp_path: Path
) -> None:
    index = by_two.index(table, root=home)
    index.save(tmp_path / "index")
    index = by_two.open_index(tmp_path / "index")
    text = table["said"][3]
    found = by_two.search(index, text, k=12)
    inner = by_two.fitted_
    one = points_of(inner.model, inner.kept(table[["said"]].iloc[[3]], "query", home))
    clips = points_of(inner.model, inner.kept(table[["clip"]], "target", home))
    near = pd.Series(similarity(one, clips)[0], table["clip"]).sort_values(ascending=False)
    assert list(found["id"]) == list(near.index)
    np.testing.assert_allclose(found["score"], near, atol=1e-5)
    means = pd.Series((one[:, 0] @ middle(clips).T)[0], table["clip"])
    np.testing.assert_allclose(found["similarity"], means[found["id"]], atol=1e-5)
    asked = by_two.search(by_two.index(table, side="query"), "clip3", 2, side="target", root=home)
    assert "similarity" in asked


def test_a_film_and_its_folder_of_frames_are_found_alike(
    by_blip: CrossModalRetriever, home: Path
) -> None:
    cells = ["clip0.mp4", "clip1", "clip2"]
    index = by_blip.index(cells, root=home)
    assert "similarity" in by_blip.search(index, "w7 w20", k=2)
    like = by_blip.search(index, "clip0", k=1, side="target", root=home)
    assert list(like["id"]) == ["clip0.mp4"]
    frames = [f"clip1/{k}.png" for k in range(6)]
    (named,) = by_blip.search(by_blip.index([frames, "clip2"], root=home), [frames], 1,
                              side="target", root=home)  # fmt: skip
    assert list(named["id"]) == [0]
    assert by_blip.index([frames], root=home).sources.cells == {0: frames}  # type: ignore[union-attr]


def test_saved_and_loaded_it_says_the_same_of_clips(
    by_two: CrossModalRetriever, by_blip: CrossModalRetriever, table: pd.DataFrame, home: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    for name, one in (("two", by_two), ("blip", by_blip)):
        one.save(tmp_path / name)
        again = CrossModalRetriever.load(tmp_path / name, device="cpu")
        np.testing.assert_array_equal(
            again.embed(table, "target", root=home), one.embed(table, "target", root=home)
        )
        assert again.fitted_.model.clips == "clip"


def test_pictures_find_clips_and_clips_find_clips(home: Path) -> None:
    rows = pd.DataFrame(
        {"a": [f"clip{i}/2.png" for i in range(6)], "b": [f"clip{i}" for i in range(6)]}
    )
    kinds: dict[str, Kind] = {"a": "image", "b": "video"}
    model = retriever(Blip("random:blip-tiny", frames=2), column_types=kinds)
    found = model.fit(rows, query="a", target="b", root=home).evaluate(rows, root=home)
    assert found["protocol"].str.contains("frames weighed").all()
    both = rows.assign(a=rows["b"].iloc[::-1].to_numpy())
    same = retriever(Blip("random:blip-tiny", frames=2), column_types={"a": "video", "b": "video"})
    same.fit(both, query="a", target="b", root=home)
    assert len(same.embed(both, "query", root=home)) == 6


def test_a_clip_that_cannot_be_read_is_named(home: Path, table: pd.DataFrame) -> None:
    (home / "empty").mkdir(exist_ok=True)
    broken = table.assign(clip=[*table["clip"][:11], "empty"])
    with pytest.raises(
        CellError, match=r"(?s)row 11, column 'clip', file 'empty': it has no frames"
    ):
        retriever(dual(home), Frozen()).fit(broken, query="said", target="clip", root=home)
