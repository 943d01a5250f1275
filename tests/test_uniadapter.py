"""UniAdapter: one module a layer for vision, text and cross-modal branches, beside a frozen BLIP."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny import numbers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BlipForImageTextRetrieval

from multiadapt.adapters.lora import LoRA
from multiadapt.adapters.unified import Unified
from multiadapt.attach import Adapter, attach
from multiadapt.crossmodal._blip import Parts, open_blip
from multiadapt.crossmodal._cross import Seen
from multiadapt.crossmodal._frames import frame_weights
from multiadapt.crossmodal._retrieval import Contrast, RetrievalModel
from multiadapt.crossmodal.blip import Blip
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.errors import EncoderError, SpecError
from multiadapt.methods._base import Method
from multiadapt.methods.frozen import Frozen
from multiadapt.methods.houlsby import Houlsby
from multiadapt.methods.ia3 import PlainIA3
from multiadapt.methods.lora import PlainLoRA
from multiadapt.methods.uniadapter import UniAdapter
from multiadapt.types import Column, Inputs, Site, Stream

PUBLISHED = {64: 2_406_144, 128: 4_766_208, 512: 18_926_592}
"""Trained parameters of the adapters at BLIP-base, without LN_c."""


@dataclass
class Tiny:
    parts: Parts
    photo: PretrainedEncoder
    caption: PretrainedEncoder

    @property
    def sites(self) -> tuple[Site, ...]:
        return (*self.photo.sites(), *self.caption.sites(), *self.parts.cross.sites())

    def attach(self, placed: Mapping[Site, Adapter]) -> list[object]:
        homes = {"photo": self.photo, "caption": self.caption, "fusion": self.parts.cross}
        return [
            attach(home, {s: a for s, a in placed.items() if s.stream == stream})
            for stream, home in homes.items()
        ]

    @torch.no_grad()
    def run(self, photos: Inputs, texts: Inputs) -> list[Tensor]:
        seen = Seen(self.photo(photos).x)
        ids, mask = texts.tensors["ids"], texts.tensors["mask"]
        return [seen.x, self.caption(texts).pooled, self.parts.cross(ids, mask, seen)]


def tiny(parts: Parts | None = None) -> Tiny:
    parts = parts or open_blip("random:blip-tiny", "retrieval", None, None)
    photo = Stream("photo", "image", (Column("photo", "image", "told"),))
    caption = Stream("caption", "text", (Column("caption", "text", "told"),))
    return Tiny(
        parts,
        PretrainedEncoder(photo, parts.vision, "vision"),
        PretrainedEncoder(caption, parts.text, "text"),
    )


@pytest.fixture
def blip() -> Tiny:
    return tiny()


@pytest.fixture
def batch(blip: Tiny) -> tuple[Inputs, Inputs]:
    rng = np.random.default_rng(0)
    photos = [[rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)] for _ in range(3)]
    return blip.photo.prepare(photos), blip.caption.prepare([["a"], ["longer one"], ["b c"]])


def modules(placed: Mapping[Site, Adapter]) -> list[Adapter]:
    return list({id(a): a for a in placed.values()}.values())


def trained(placed: Mapping[Site, Adapter]) -> int:
    return sum(p.numel() for a in modules(placed) for p in a.parameters())


def shake(placed: Mapping[Site, Adapter]) -> None:
    with torch.no_grad():
        for adapter in modules(placed):
            for parameter in adapter.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)


@pytest.fixture(scope="module")
def base_sites() -> tuple[Site, ...]:
    with torch.device("meta"):
        parts = open_blip("random:blip-base", "retrieval", None, None)
    return tiny(parts).sites


@pytest.mark.parametrize("r", PUBLISHED)
def test_counts_are_the_published_ones(r: int, base_sites: tuple[Site, ...]) -> None:
    with torch.device("meta"):
        plain = UniAdapter(Unified(r=r, norm_cross=False)).adapters(base_sites)
        normed = UniAdapter(Unified(r=r)).adapters(base_sites)
    assert trained(plain) == PUBLISHED[r]
    assert trained(normed) == PUBLISHED[r] + 18_432


def test_separate_adapters_have_six_matrices_a_layer_and_shared_ones_four(
    base_sites: tuple[Site, ...],
) -> None:
    def matrices(share: str) -> int:
        with torch.device("meta"):
            spec = Unified(r=64, share=share, query_residual=False)  # type: ignore[arg-type]
            placed = UniAdapter(spec).adapters(base_sites)
        parameters = [p for a in modules(placed) for p in a.parameters()]
        return sum(p.numel() for p in parameters if p.ndim == 2)

    unit = 12 * 768 * 64
    assert [matrices(s) // unit for s in ("none", "down", "up", "all")] == [6, 4, 4, 2]


def test_layer_i_of_all_networks_shares_one_module(blip: Tiny) -> None:
    placed = UniAdapter().adapters(blip.sites)
    for block in range(2):
        own = {s.stream: a for s, a in placed.items() if s.block == block}
        assert set(own) == {"photo", "caption", "fusion"}
        assert len({id(a) for a in own.values()}) == 1
    assert len(modules(placed)) == 2


@pytest.mark.parametrize("share", ["none", "down", "up", "all"])
@pytest.mark.parametrize("norm_cross", [True, False])
def test_step_0_equals_the_pretrained_network(
    blip: Tiny, batch: tuple[Inputs, Inputs], share: str, norm_cross: bool
) -> None:
    before = blip.run(*batch)
    spec = Unified(r=4, share=share, norm_cross=norm_cross)  # type: ignore[arg-type]
    blip.attach(UniAdapter(spec).adapters(blip.sites))
    for x, y in zip(before, blip.run(*batch), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("share", ["none", "down", "up", "all"])
def test_every_parameter_learns_and_no_frozen_one_does(
    blip: Tiny, batch: tuple[Inputs, Inputs], share: str
) -> None:
    placed = UniAdapter(Unified(r=4, share=share, learn_scale=True)).adapters(blip.sites)  # type: ignore[arg-type]
    blip.attach(placed)
    shake(placed)
    photos, texts = batch
    seen = Seen(blip.photo(photos).x)
    crossed = blip.parts.cross(texts.tensors["ids"], texts.tensors["mask"], seen)
    (crossed.square().sum() + blip.caption(texts).pooled.square().sum()).backward()
    for adapter in modules(placed):
        for name, parameter in adapter.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    assert all(p.grad is None for p in blip.parts.network.parameters())


def test_removal_restores_the_network_bit_for_bit(blip: Tiny, batch: tuple[Inputs, Inputs]) -> None:
    before = blip.run(*batch)
    placed = UniAdapter().adapters(blip.sites)
    attached = blip.attach(placed)
    shake(placed)
    assert not any(torch.equal(x, y) for x, y in zip(before, blip.run(*batch), strict=True))
    for one in attached:
        one.remove()  # type: ignore[attr-defined]
    assert all(torch.equal(x, y) for x, y in zip(before, blip.run(*batch), strict=True))


@pytest.mark.parametrize("method", [PlainLoRA(), PlainIA3(), Houlsby()])
def test_other_methods_are_removed_from_all_passes_too(
    blip: Tiny, batch: tuple[Inputs, Inputs], method: Method
) -> None:
    before = blip.run(*batch)
    placed = method.adapters(blip.sites)
    attached = blip.attach(placed)
    assert all(torch.equal(x, y) for x, y in zip(before, blip.run(*batch), strict=True))
    shake(placed)
    assert not any(torch.equal(x, y) for x, y in zip(before, blip.run(*batch), strict=True))
    for one in attached:
        one.remove()  # type: ignore[attr-defined]
    assert all(torch.equal(x, y) for x, y in zip(before, blip.run(*batch), strict=True))


def test_a_width_alone_stands_for_its_adapter() -> None:
    assert UniAdapter(r=64) == UniAdapter(Unified(r=64))
    assert UniAdapter(r=64).to_dict() == UniAdapter(adapter=Unified(r=64)).to_dict()
    assert UniAdapter.from_dict(UniAdapter(r=64).to_dict()).adapter.r == 64
    assert UniAdapter(r=64).with_params(adapter__r=32).adapter.r == 32
    assert UniAdapter().adapter.r == 128
    with pytest.raises(SpecError, match=r"r=8 stands for adapter=Unified\(r=8\), and adapter="):
        UniAdapter(Unified(scale=0.2), r=8)
    with pytest.raises(SpecError, match="r must be at least 1, got 0"):
        UniAdapter(r=0)


def test_layers_follow_the_papers_formulas(blip: Tiny, batch: tuple[Inputs, Inputs]) -> None:
    """One layer of each branch, written out by hand from the specification."""
    placed = UniAdapter(Unified(r=4)).adapters(blip.sites)
    blip.attach(placed)
    shake(placed)
    photos, texts = batch
    own = copy.deepcopy(next(a for s, a in placed.items() if s.block == 0))
    plain = tiny().parts.network  # the same seed: the same weights, and no hooks
    text, layer = plain.text_encoder, plain.text_encoder.encoder.layer[0]

    def hidden(x: Tensor) -> Tensor:
        return F.relu(own.down["all"](own.norm_in(x)))

    with torch.no_grad():
        x = plain.vision_model.embeddings(numbers(blip.photo, photos))
        block = plain.vision_model.encoder.layers[0]
        x = x + block.self_attn(block.layer_norm1(x))[0]
        by_hand = x + block.mlp(block.layer_norm2(x)) + 0.1 * own.up["vision"](hidden(x))
        start = blip.photo.backbone.start(photos.tensors, 0)[0]
        seen = blip.photo.prefix(photos, 0)
        assert seen is photos
        walked = _first_block(blip, "photo", start)
        torch.testing.assert_close(walked, by_hand)

        x = text.embeddings(input_ids=texts.tensors["ids"])
        a = layer.attention(x)[0]
        y = layer.output(layer.intermediate(a), a) + 0.1 * own.up["text"](hidden(a))
        torch.testing.assert_close(_first_block(blip, "caption", x), y)

        image = torch.randn(3, 5, 32)
        q = 0.1 * own.up["text"](hidden(a))
        c = layer.crossattention(a, encoder_hidden_states=image)[0]
        d = own.norm_cross(own.up["cross"](hidden(c)) + own.up["text"](hidden(c)))
        y = layer.output(layer.intermediate(c), c) + q + 0.1 * d
        torch.testing.assert_close(_first_block(blip, "fusion", x, image), y)


def _first_block(blip: Tiny, stream: str, state: Tensor, image: Tensor | None = None) -> Tensor:
    from multiadapt.attach import running

    if stream == "photo":
        layer = blip.parts.vision.family.network.encoder.layers[0]
    else:
        layer = blip.parts.text.family.network.encoder.layer[0]
    with running(stream):
        return layer(state) if image is None else layer(state, image)


def test_a_padded_picture_sequence_changes_nothing(
    blip: Tiny, batch: tuple[Inputs, Inputs]
) -> None:
    """transformers drops this mask; an answer would depend on its neighbours' padding."""
    _, texts = batch
    ids, mask = texts.tensors["ids"], texts.tensors["mask"]
    seen = torch.randn(3, 5, 32)
    longer = torch.cat([seen, torch.randn(3, 4, 32)], dim=1)
    real = torch.arange(9).expand(3, 9) < 5
    with torch.no_grad():
        alone = blip.parts.cross(ids, mask, Seen(seen))
        padded = blip.parts.cross(ids, mask, Seen(longer, real))
    torch.testing.assert_close(alone, padded, atol=1e-6, rtol=1e-5)


def test_frame_weights_move_keys_of_patches_and_nothing_else(
    blip: Tiny, batch: tuple[Inputs, Inputs]
) -> None:
    text, frames = F.normalize(torch.randn(3, 8), dim=-1), F.normalize(torch.randn(3, 2, 8), dim=-1)
    weights = frame_weights(text, frames, tokens=5)
    by_hand = 2 * torch.softmax((frames @ text[..., None])[..., 0] / 4, dim=1)
    each = weights.unflatten(1, (2, 5))
    assert torch.equal(each[..., 0], torch.ones(3, 2))
    torch.testing.assert_close(each[..., 1:], by_hand[..., None].expand(3, 2, 4))
    keys: list[Tensor] = []
    key = blip.parts.cross.network.encoder.layer[0].crossattention.self.key
    key.register_forward_hook(lambda module, args, y: keys.append(y))
    _, texts = batch
    ids, mask = texts.tensors["ids"], texts.tensors["mask"]
    seen = torch.randn(3, 10, 32)
    with torch.no_grad():
        blip.parts.cross(ids, mask, Seen(seen))
        blip.parts.cross(ids, mask, Seen(seen, weights=weights))
    torch.testing.assert_close(keys[1], keys[0] * weights[..., None])


def test_what_an_adapter_adds_to_keys_is_weighed_too(
    blip: Tiny, batch: tuple[Inputs, Inputs]
) -> None:
    """The same as if it were folded into the key's own weight."""
    _, texts = batch
    ids, mask = texts.tensors["ids"], texts.tensors["mask"]
    seen = Seen(torch.randn(3, 10, 32), weights=torch.rand(3, 10) + 0.5)
    spec = LoRA(r=2, roles=("key",))
    placed = spec.build([s for s in blip.parts.cross.sites() if s.index == 1])
    shake(placed)
    folded = copy.deepcopy(blip.parts)
    for site, adapter in placed.items():
        key = folded.cross.get_submodule(site.path)
        with torch.no_grad():
            key.weight.copy_(adapter.fold(key.weight, key.bias)[0])  # type: ignore[index]
    blip.attach(placed)
    with torch.no_grad():
        by_hook, by_fold = (p.cross(ids, mask, seen) for p in (blip.parts, folded))
    torch.testing.assert_close(by_hook, by_fold)


def test_no_scale_is_trained_that_nothing_reads(blip: Tiny, batch: tuple[Inputs, Inputs]) -> None:
    spec = Unified(r=4, branches=("cross",), query_residual=False, learn_scale=True)
    placed = UniAdapter(spec).adapters(blip.sites)
    blip.attach(placed)
    shake(placed)
    _, texts = batch
    seen = Seen(torch.randn(3, 5, 32))
    blip.parts.cross(texts.tensors["ids"], texts.tensors["mask"], seen).square().sum().backward()
    for adapter in modules(placed):
        for name, parameter in adapter.named_parameters():
            assert parameter.grad is not None, name


def test_the_cross_modal_branch_makes_its_hidden_state_once(
    blip: Tiny, batch: tuple[Inputs, Inputs]
) -> None:
    """And another one of what the queries read."""
    placed = UniAdapter(Unified(r=4)).adapters(blip.sites)
    blip.attach(placed)
    calls: list[nn.Module] = []
    for adapter in modules(placed):
        adapter.down["all"].register_forward_hook(lambda *given: calls.append(given[0]))  # type: ignore[index,union-attr]
    _, texts = batch
    blip.parts.cross(texts.tensors["ids"], texts.tensors["mask"], Seen(torch.randn(3, 5, 32)))
    assert len(calls) == 2 * len(modules(placed))


def test_depths_and_widths_may_differ() -> None:
    """Layers are counted from the input; what has no partner, or another width, stands alone."""

    def site(stream: str, modality: str, block: int, width: int) -> Site:
        return Site(stream, f"{stream}.{block}", "residual", block, width, width, modality=modality)

    deep = [site("photo", "image", i, 8) for i in range(4)]
    placed = Unified(r=2).build([*deep, *(site("text", "text", i, 8) for i in range(2))])
    assert len(modules(placed)) == 4
    shared = [a for s, a in placed.items() if s.stream == "text"]
    assert [placed[s] for s in deep[:2]] == shared
    wide = Unified(r=2).build([*deep, *(site("text", "text", i, 12) for i in range(4))])
    assert len(modules(wide)) == 8


def test_branches_and_blocks_that_are_off_have_no_adapters(blip: Tiny) -> None:
    placed = Unified(branches=("vision",), blocks="last 1").build(blip.sites)
    assert {(s.stream, s.block) for s in placed} == {("photo", 1)}


def test_options_must_make_sense() -> None:
    with pytest.raises(SpecError, match="r must be at least 1"):
        Unified(r=0)
    with pytest.raises(SpecError, match="scale must be above 0"):
        Unified(scale=0.0)
    with pytest.raises(SpecError, match="branches must be some of vision, text, cross"):
        Unified(branches=())
    with pytest.raises(SpecError, match="last 4"):
        Unified(blocks="first 2")


def test_a_source_that_is_no_blip_is_refused(tmp_path) -> None:
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path
    )
    with pytest.raises(EncoderError, match="type 'vit'; choose one of type blip"):
        open_blip(str(tmp_path), "retrieval", None, None)
    with pytest.raises(EncoderError, match="no architecture is named 'blip-none'"):
        open_blip("random:blip-none", "retrieval", None, None)


def test_large_has_a_deeper_and_wider_vision_tower_than_its_text_network() -> None:
    with torch.device("meta"):
        parts = open_blip("random:blip-large", "retrieval", None, None)
    sites = tiny(parts).sites
    layers = {s.stream: s for s in sites if s.role in ("block", "cross")}
    inner = [s for s in sites if s.role != "pooled"]
    own = {stream: [s for s in inner if s.stream == stream] for stream in layers}
    assert {k: 1 + max(s.block for s in v) for k, v in own.items()} == {
        "photo": 24, "caption": 12, "fusion": 12,
    }  # fmt: skip
    assert (parts.vision.family.width, parts.text.family.width) == (1024, 768)
    looks = parts.cross.network.encoder.layer[0].crossattention.self
    assert (looks.key.in_features, looks.query.in_features) == (1024, 768)
    assert parts.network.config.vision_config.num_attention_heads == 16
    with torch.device("meta"):
        assert trained(UniAdapter(Unified(r=64)).adapters(sites)) > PUBLISHED[64]


def test_matches_and_similarities_are_those_of_the_network_s_own_forward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = open_blip("random:blip-tiny", "retrieval", None, None)
    own = BlipForImageTextRetrieval(parts.network.config)
    own.load_state_dict(parts.network.state_dict())
    own.eval()
    monkeypatch.setattr("multiadapt.crossmodal.blip.open_blip", lambda *given: parts)
    streams = [tiny(parts).photo.stream, tiny(parts).caption.stream]
    model = RetrievalModel(Blip().open(streams), Frozen(), Contrast(), 3).eval()
    rng = np.random.default_rng(0)
    photos = [[rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)] for _ in range(3)]
    batch = {
        "photo": model.encoder("photo").prepare(photos),
        "caption": model.encoder("caption").prepare([["red"], ["tin"], ["oak"]]),
    }
    ids = batch["caption"].tensors["ids"]
    pixels = numbers(model.encoder("photo"), batch["photo"])
    assert batch["caption"].tensors["mask"].all()
    with torch.no_grad():
        tokens = model.tokens(batch)
        matched = model.matched(batch["caption"], model.sight(batch, tokens))
        said = model.vectors(tokens)
        near = said["photo"][:, 0] @ said["caption"][:, 0].T
        given = {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)}
        torch.testing.assert_close(matched, own(**given).itm_score, atol=1e-5, rtol=1e-5)
        cosine = own(**given, use_itm_head=False).itm_score
    torch.testing.assert_close(near, cosine, atol=1e-5, rtol=1e-5)
