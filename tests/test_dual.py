"""Two encoders that find each other: CLIP's and SigLIP's own projections, or new ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from contracts import shake
from tiny import numbers
from tiny_clip import make_clip, make_siglip
from tiny_text import VOCABULARY, make_text_network

from multiadapt import (
    Contrast,
    CrossModalRetriever,
    Dual,
    Frozen,
    ImageEncoder,
    TextEncoder,
    Training,
    UniAdapter,
    VideoEncoder,
)
from multiadapt.crossmodal._choice import backbone_of
from multiadapt.crossmodal._frames import similarity
from multiadapt.crossmodal._retrieval import RetrievalModel
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.types import Clip, Column, Inputs, Stream

MAKE = {"CLIP": make_clip, "Siglip": make_siglip}


def make(kind: str, folder: Path) -> Any:
    """A saved CLIP or SigLIP of random weights, all of them at work, with its tokenizer."""
    network = getattr(transformers, f"{kind}Model").from_pretrained(MAKE[kind](folder)).eval()
    shake(network)
    with torch.no_grad():
        network.logit_scale.fill_(3.0)
    network.save_pretrained(folder)
    return network


@pytest.fixture(scope="module", params=list(MAKE))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    return folder, make(request.param, folder)


def streams(modality: str = "image") -> list[Stream]:
    found = {"caption": "text", "photo": modality}
    return [Stream(n, kind, (Column(n, kind, "told"),)) for n, kind in found.items()]  # type: ignore[arg-type]


def model(image: EncoderSpec, text: EncoderSpec, **options: Any) -> RetrievalModel:
    joint = Dual({image.modality: image, "text": text}, **options).open(streams(image.modality))
    return RetrievalModel(joint, Frozen(), Contrast(), 3).eval()


def prepared(model: RetrievalModel) -> dict[str, Inputs]:
    rng = np.random.default_rng(0)
    photos = [[rng.integers(0, 256, (20, 20, 3), np.uint8)] for _ in range(3)]
    texts = [["w7 w9"], ["w20"], ["w11 w12 w13 w14"]]
    return {
        "caption": model.encoder("caption").prepare(texts),
        "photo": model.encoder("photo").prepare(photos),
    }


@torch.no_grad()
def test_untrained_it_says_what_the_library_s_own_network_says(saved: Any) -> None:
    folder, network = saved
    own = model(ImageEncoder(str(folder)), TextEncoder(str(folder)))
    assert not own.new
    batch = prepared(own)
    said = own.vectors(own.tokens(batch))
    near = similarity(said["caption"], said["photo"]) / own.heads.temperature
    given = batch["caption"].tensors
    whole = network(
        input_ids=given["ids"], attention_mask=given["mask"].long(),
        pixel_values=numbers(own.encoder("photo"), batch["photo"]),
    )  # fmt: skip
    bias = getattr(network, "logit_bias", torch.zeros(1))
    torch.testing.assert_close(near + bias, whole.logits_per_text, rtol=1e-4, atol=1e-5)
    assert near.std() > 1e-3


def test_its_own_projections_are_trained_and_saved(saved: Any) -> None:
    folder, _ = saved
    own = model(ImageEncoder(str(folder)), TextEncoder(str(folder)))
    heads = [n for n in own.trained_state() if n.startswith("heads:projections.")]
    assert heads
    assert all(p.requires_grad for p in own.heads.parameters())


def test_width_or_other_encoders_make_projections_new(saved: Any, tmp_path: Path) -> None:
    folder, _ = saved
    image, text = ImageEncoder(str(folder)), TextEncoder(str(folder))
    wide = model(image, text, width=9)
    assert wide.new
    assert [p.out_features for p in wide.heads.projections] == [9, 9]  # type: ignore[union-attr]
    assert wide.heads.temperature.item() == pytest.approx(0.07)
    make_text_network(
        tmp_path, "Bert", hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, vocab_size=VOCABULARY, max_position_embeddings=24,
    )  # fmt: skip
    other = model(image, TextEncoder(str(tmp_path)))
    assert other.new
    assert [p.out_features for p in other.heads.projections] == [256, 256]  # type: ignore[union-attr]
    warm = model(image, text, temperature=0.2)
    assert not warm.new
    assert warm.heads.temperature.item() == pytest.approx(0.2)


def test_new_projections_hide_half_of_what_they_read_in_training_alone(saved: Any) -> None:
    folder, _ = saved
    image, text = ImageEncoder(str(folder)), TextEncoder(str(folder))
    found = {}
    for dropout in (None, 0.0):
        wide: Any = model(image, text, width=16, dropout=dropout).heads.projections[0]
        with torch.no_grad():
            wide.weight.copy_(torch.eye(16, wide.in_features))
            wide.bias.zero_()
        ones = torch.ones(500, wide.in_features)
        assert (wide.eval()(ones) == 1).all()
        found[dropout] = wide.train()(ones)
    assert (found[0.0] == 1).all()
    assert ((found[None] == 0) | (found[None] == 2)).all()
    assert found[None].detach().mean().item() == pytest.approx(1, abs=0.1)
    with pytest.raises(
        SpecError, match=r"dropout=0\.1 is of new projections, and this network has"
    ):
        model(image, text, dropout=0.1)


def test_a_teacher_hides_nothing(saved: Any) -> None:
    folder, _ = saved
    wide = model(ImageEncoder(str(folder)), TextEncoder(str(folder)), width=16).train()
    batch = prepared(wide)
    for one, other in zip(wide._taught(batch), wide._taught(batch), strict=True):
        assert torch.equal(one, other)
    assert wide.heads.projections[0].training


@torch.no_grad()
def test_a_clip_of_one_picture_repeated_is_that_picture(saved: Any) -> None:
    folder, _ = saved
    pictures = model(ImageEncoder(str(folder)), TextEncoder(str(folder)))
    clips = model(VideoEncoder(str(folder), frames=3), TextEncoder(str(folder)))
    pixels = np.random.default_rng(1).integers(0, 256, (2, 20, 20, 3), np.uint8)
    text = {"caption": clips.encoder("caption").prepare([["w7"], ["w9 w8"]])}
    photo = {"photo": pictures.encoder("photo").prepare([[p] for p in pixels])}
    clip = {"photo": clips.encoder("photo").prepare([[Clip((p,) * 3)] for p in pixels])}
    one, other = (m.vectors(m.tokens(text | b)) for m, b in ((pictures, photo), (clips, clip)))
    assert other["photo"].shape[1] == 3
    torch.testing.assert_close(
        similarity(one["caption"], one["photo"]), similarity(other["caption"], other["photo"])
    )


def test_a_fit_is_measured_beside_the_network_as_it_was_and_saved(
    saved: Any, tmp_path: Path
) -> None:
    folder, _ = saved
    photos = list(np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), np.uint8))
    table = pd.DataFrame({"said": [f"w{7 + i}" for i in range(6)], "photo": photos})
    model = CrossModalRetriever(
        "uniadapter", backbone=str(folder), training=Training(epochs=1), validation=0.0,
        column_types={"said": "text", "photo": "image"}, device="cpu", verbose=False,
    )  # fmt: skip
    model.fit(table, query="said", target="photo")
    found = model.evaluate(table)
    assert set(found.index.get_level_values("model")) == {"adapted", "zero-shot"}
    model.save(tmp_path / "model")
    again = CrossModalRetriever.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(again.embed(table, "query"), model.embed(table, "query"))


def test_its_name_alone_is_enough(saved: Any) -> None:
    folder, _ = saved
    spec = backbone_of(folder)
    assert not spec.open(streams()).new
    clips = spec.open(streams("video"))
    assert not clips.new
    assert clips.encoders["photo"].stream.sampling is not None


@pytest.mark.parametrize("modality", ["image", "video"])
def test_the_network_before_training_is_the_one_in_memory(saved: Any, modality: str) -> None:
    """One network in two towers, whose own projections and temperature are trained; frames are weighed."""
    folder, _ = saved
    joint = Dual(
        {
            "image": ImageEncoder(str(folder)),
            "text": TextEncoder(str(folder)),
            "video": VideoEncoder(str(folder), frames=3),
        }
    )
    torch.manual_seed(0)
    begun = RetrievalModel(joint.open(streams(modality)), UniAdapter(), Contrast(), 3).eval()
    trained = RetrievalModel(joint.open(streams(modality)), UniAdapter(), Contrast(), 3).eval()
    assert trained.reversible
    assert (trained.clips == "photo") is (modality == "video")
    with torch.no_grad():
        for module in (trained.adapters, trained.heads):
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        rng = np.random.default_rng(0)
        shots = [rng.integers(0, 256, (20, 20, 3), np.uint8) for _ in range(9)]
        clips = [[Clip(tuple(shots[i::3]))] for i in range(3)]
        photos = clips if modality == "video" else [[shot] for shot in shots[:3]]
        batch = {
            "caption": begun.encoder("caption").prepare([["w7 w9"], ["w20"], ["w11 w12"]]),
            "photo": begun.encoder("photo").prepare(photos),
        }
        expected, live = (_near(one, batch) for one in (begun, trained))
        with trained.before() as found:
            assert torch.equal(_near(found, batch), expected)
        assert not torch.allclose(live, expected, atol=1e-2)
        assert torch.equal(_near(trained, batch), live)


def _near(model: RetrievalModel, batch: dict[str, Inputs]) -> torch.Tensor:
    said = model.vectors(model.tokens(batch))
    return similarity(said["caption"], said["photo"]) / model.heads.temperature


def test_new_projections_are_not_kept_as_they_began(saved: Any) -> None:
    folder, _ = saved
    image, text = ImageEncoder(str(folder)), TextEncoder(str(folder))
    assert model(image, text, width=9).began is None
    assert model(image, text).began is not None


def test_impossible_options_are_named() -> None:
    with pytest.raises(SpecError, match="width must be at least 1, got 0"):
        Dual({"text": TextEncoder("somewhere")}, width=0)
    with pytest.raises(SpecError, match=r"temperature must be above 0, got 0\.0"):
        Dual({"text": TextEncoder("somewhere")}, temperature=0.0)
    with pytest.raises(SpecError, match=r"dropout must be at least 0 and below 1, got 1\.0"):
        Dual({"text": TextEncoder("somewhere")}, dropout=1.0)
