"""What every family of audio networks promises, on tiny networks of the real architectures."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from contracts import (
    Change,
    cuts_give_the_whole_pass,
    guests_see_and_are_not_seen,
    models_pass_together,
    recomputed_gradients_are_the_same,
    shake,
    sites_are_live,
)
from torch import Tensor

from multiadapt.attach import attach
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._base import families
from multiadapt.encoders.audio import AudioEncoder
from multiadapt.errors import EncoderError
from multiadapt.types import Inputs, Sound, Stream

RATE = 16_000
PLAIN: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": [8, 8, 12],
    "conv_kernel": [10, 3, 3],
    "conv_stride": [5, 4, 4],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
}
WAVES = PLAIN | CONVOLUTIONS
STABLE = WAVES | {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
SPECTROGRAM = PLAIN | {"max_length": 40, "num_mel_bins": 16, "patch_size": 8}
SPECTROGRAM |= {"time_stride": 6, "frequency_stride": 6}
WHISPER: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 8,
    "vocab_size": 64,
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "max_target_positions": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}


@dataclass(frozen=True)
class Case:
    """A tiny network: its class and config."""

    kind: str
    config: Mapping[str, Any]


CASES = {
    "ast": Case("AST", SPECTROGRAM),
    "wav2vec2-group": Case("Wav2Vec2", WAVES),
    "wav2vec2-layer": Case("Wav2Vec2", STABLE),
    "wav2vec2-group-stable": Case("Wav2Vec2", WAVES | {"do_stable_layer_norm": True}),
    "hubert-group": Case("Hubert", WAVES),
    "hubert-layer": Case("Hubert", STABLE),
    "hubert-batch": Case("Hubert", WAVES | {"conv_pos_batch_norm": True}),
    "hubert-no-projection-norm": Case("Hubert", WAVES | {"feat_proj_layer_norm": False}),
    "whisper": Case("Whisper", WHISPER),
}


@pytest.fixture(scope="module", params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(name)
    save(CASES[name], folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return built(AudioEncoder(str(folder)))


def save(case: Case, folder: Path) -> Any:
    config = getattr(transformers, f"{case.kind}Config")(**case.config)
    network = getattr(transformers, f"{case.kind}Model")(config).eval()
    shake(network)
    network.save_pretrained(folder)
    return network


def built(spec: AudioEncoder, stream: str = "call") -> Encoder:
    return spec.build(Stream(stream, "audio", ()), spec.open("classification"), "net")


def sounds(count: int) -> list[Sound]:
    """So many sounds of different lengths, always the same ones in the same order."""
    generator = np.random.default_rng(3)
    lengths = generator.integers(2000, 6000, 20)
    found = [generator.normal(0, 0.3, n).astype(np.float32) for n in lengths]
    return [Sound(wave, RATE) for wave in found[:count]]


def batch(encoder: Encoder, *count: int) -> Inputs:
    pool = iter(sounds(sum(count)))
    return encoder.prepare([[next(pool) for _ in range(n)] for n in count])


def library(encoder: Encoder, alone: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Tokens of one sound and their summary, by the library's own forward pass."""
    network: Any = encoder.get_submodule("backbone.network")
    if "waves" in alone:
        out = network(alone["waves"]).last_hidden_state
        return out[0], out[0].mean(0)
    out = network(alone["features"])
    if "mask" in alone:
        return out.last_hidden_state[0], out.last_hidden_state[0, alone["mask"][0]].mean(0)
    return out.last_hidden_state[0], out.pooler_output[0]


@torch.no_grad()
def test_each_sound_gets_what_the_library_says_of_it_alone(encoder: Encoder) -> None:
    found = encoder(batch(encoder, 1, 1, 1, 1))
    for row, sound in enumerate(sounds(4)):
        tokens, pooled = library(encoder, encoder.prepare([[sound]]).tensors)
        torch.testing.assert_close(found.pooled[row], pooled, rtol=1e-5, atol=1e-5)
        own = found.x[row, : len(tokens)]
        torch.testing.assert_close(own, tokens, rtol=1e-5, atol=1e-5)


# The others' norms see the padding, or their windows are fixed: the library has no mask for them.
@pytest.mark.parametrize("name", ["wav2vec2-layer", "hubert-layer"], indirect=True)
@torch.no_grad()
def test_padding_is_masked_as_the_library_masks_it(encoder: Encoder) -> None:
    inputs = batch(encoder, 1, 1, 1, 1)
    network: Any = encoder.get_submodule("backbone.network")
    mask = inputs.tensors["mask"]
    expected = network(inputs.tensors["waves"], attention_mask=mask.long()).last_hidden_state
    found = encoder(inputs)
    assert not found.mask.all()
    own = network._get_feature_vector_attention_mask(expected.shape[1], mask.long())
    assert torch.equal(found.mask, own)
    torch.testing.assert_close(found.x[own], expected[own], rtol=1e-5, atol=1e-5)


def test_lengths_in_a_batch_do_not_influence_each_other(encoder: Encoder) -> None:
    together = encoder(batch(encoder, 1, 1, 1, 1))
    for row, sound in enumerate(sounds(4)):
        alone = encoder(encoder.prepare([[sound]]))
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], rtol=1e-5, atol=1e-5)
        assert int(alone.mask.sum()) == int(together.mask[row].sum())


def test_every_cut_gives_the_whole_pass(encoder: Encoder) -> None:
    cuts_give_the_whole_pass(encoder, partial(batch, encoder))


def test_parts_of_a_batch_join_at_every_cut(encoder: Encoder) -> None:
    a, b, c = sounds(3)
    parts = [[[a]], [[], [b, c]], [[], []]]  # of equal lengths, of different ones, of none
    whole = encoder(encoder.prepare([row for part in parts for row in part]))
    for cut in range(encoder.blocks + 2):
        made = [encoder.prefix(encoder.prepare(part), cut) for part in parts]
        for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
            joined = encoder(Inputs.join([made[i] for i in order]))
            at = [{0: [0], 1: [1, 2], 2: [3, 4]}[i] for i in order]
            expected = whole.pooled[[row for rows in at for row in rows]]
            torch.testing.assert_close(joined.pooled, expected, rtol=1e-5, atol=1e-5)


def test_guests_see_and_are_not_seen(encoder: Encoder) -> None:
    assert encoder.hosts(0) == "blocks"
    guests_see_and_are_not_seen(encoder, partial(batch, encoder))


def test_guests_do_not_look_at_the_padding_of_a_batch(encoder: Encoder) -> None:
    guests = torch.randn(2, encoder.width, generator=torch.Generator().manual_seed(5))
    encoder.entrance = 0
    together = encoder(batch(encoder, 1, 1, 1, 1), guests).guests
    for row, sound in enumerate(sounds(4)):
        alone = encoder(encoder.prepare([[sound]]), guests).guests[0]
        torch.testing.assert_close(alone, together[row], rtol=1e-4, atol=1e-5)
    encoder.entrance = None


def test_a_prefix_continues_a_prefix_and_leaves_it_alone(encoder: Encoder) -> None:
    inputs = batch(encoder, 1, 1)
    last = encoder.prefix(inputs, encoder.blocks + 1)
    for cut in range(1, encoder.blocks + 1):
        state = encoder.prefix(inputs, cut)
        kept = state.tensors["state"].clone()
        onward = encoder.prefix(state, encoder.blocks + 1)
        assert torch.equal(state.tensors["state"], kept), f"cut {cut} was written to"
        torch.testing.assert_close(
            onward.tensors["pooled"], last.tensors["pooled"], rtol=1e-5, atol=1e-5
        )


def test_every_site_is_live(encoder: Encoder) -> None:
    sites_are_live(encoder, partial(batch, encoder))


def test_an_adapter_is_live_from_its_own_cut_and_gets_gradient(encoder: Encoder) -> None:
    inputs = batch(encoder, 1, 1)
    for site in encoder.sites():
        adapter = Change(site)
        attachment = attach(encoder, {site: adapter})
        state = encoder.prefix(inputs, encoder.cut_for([site], []))
        late, whole = encoder(state).pooled, encoder(inputs).pooled
        torch.testing.assert_close(late, whole, rtol=1e-5, atol=1e-5)
        late.square().sum().backward()
        attachment.remove()
        assert adapter.factor.grad is not None, site.key
        assert adapter.factor.grad.abs().sum() > 0, site.key


def test_frozen_stays_frozen(encoder: Encoder) -> None:
    kept = {k: t.clone() for k, t in encoder.state_dict().items()}
    encoder.train()
    first, second = encoder(batch(encoder, 1, 1)).pooled, encoder(batch(encoder, 1, 1)).pooled
    assert torch.equal(first, second)  # no dropout, no masked or skipped parts either
    assert not first.requires_grad
    assert all(torch.equal(t, kept[k]) for k, t in encoder.state_dict().items())


def test_rows_are_the_mean_of_their_sounds(encoder: Encoder) -> None:
    inputs = batch(encoder, 1, 0, 3, 1)
    encoder.eval()
    found = encoder(inputs)
    files = encoder(batch(encoder, 1, 1, 1, 1, 1))
    expected = torch.stack(
        [files.pooled[0], torch.zeros(encoder.width), files.pooled[1:4].mean(0), files.pooled[4]]
    )
    torch.testing.assert_close(found.pooled, expected, rtol=1e-5, atol=1e-5)
    own = files.mask.sum(1)
    assert found.mask.sum(1).tolist() == [own[0], 0, own[1:4].sum(), own[4]]
    inner = files.x[1:4][files.mask[1:4]]
    torch.testing.assert_close(found.x[2][found.mask[2]], inner, rtol=1e-5, atol=1e-5)


def test_a_batch_without_any_sound_passes(encoder: Encoder) -> None:
    inputs = batch(encoder, 0, 0)
    for cut in (0, 1, encoder.blocks, encoder.blocks + 1):
        found = encoder(encoder.prefix(inputs, cut))
        assert found.pooled.shape == (2, encoder.width)
        assert not found.pooled.any()
        assert not found.mask.any()


def test_sites_tell_the_widths_that_pass(name: str, encoder: Encoder) -> None:
    sites, seen = encoder.sites(), {}
    hooks = [
        encoder.get_submodule(path).register_forward_hook(
            lambda _, args, kwargs, y, path=path: seen.update(
                {path: (args[0] if args else next(iter(kwargs.values())), y)}
            ),
            with_kwargs=True,
        )
        for path in {path for s in sites for path in (s.path, *s.reads)}
    ]
    encoder(batch(encoder, 1, 1))
    for hook in hooks:
        hook.remove()
    for site in sites:
        y = seen[site.path][1]
        assert site.out_width == (y[0] if isinstance(y, tuple) else y).shape[-1], site.key
        (path,) = site.reads or (site.path,)
        assert site.in_width == seen[path][0].shape[-1], site.key
    assert len({s.key for s in sites}) == len(sites)
    assert {(s.stream, s.network, s.modality) for s in sites} == {("call", "net", "audio")}
    roles = {s.role for s in sites if s.block == 0} - {"entry", "residual"}
    assert roles == {
        *("query", "key", "value", "out", "ffn_in", "ffn_mid", "ffn_out", "ffn", "block")
    }
    assert any(s.role == "entry" for s in sites) == (name != "whisper")


def test_every_family_is_tried_here() -> None:
    tried = {getattr(transformers, f"{case.kind}Config")().model_type for case in CASES.values()}
    assert tried == {kind for family in families("audio") for kind in family.classes}


def test_whispers_decoder_is_let_go(tmp_path: Path) -> None:
    network = save(CASES["whisper"], tmp_path)
    encoder = built(AudioEncoder(str(tmp_path)))
    names = set(encoder.get_submodule("backbone.network").state_dict())
    assert names == set(network.encoder.state_dict())


def test_a_network_without_the_vector_for_masked_frames_opens_and_hashes_alike(
    tmp_path: Path,
) -> None:
    network = save(CASES["wav2vec2-group"], tmp_path)
    with_vector = built(AudioEncoder(str(tmp_path))).origin().sha256
    assert hasattr(network, "masked_spec_embed")
    del network.masked_spec_embed
    network.save_pretrained(tmp_path)
    first, second = (built(AudioEncoder(str(tmp_path))).origin().sha256 for _ in range(2))
    assert first == second == with_vector


def test_convolutions_behind_the_transformer_are_refused(tmp_path: Path) -> None:
    save(Case("Wav2Vec2", WAVES | {"add_adapter": True}), tmp_path)
    with pytest.raises(EncoderError, match=r"must end with its transformer, .* add_adapter=True"):
        AudioEncoder(str(tmp_path)).open("classification")


def test_an_image_network_is_no_audio_encoder(tmp_path: Path) -> None:
    transformers.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"type 'vit', .* adapted as audio encoder; .*hubert"):
        AudioEncoder(str(tmp_path)).open("classification")


def test_items_of_several_models_pass_together(encoder: Encoder) -> None:
    assert models_pass_together(encoder, partial(batch, encoder))


def test_recomputed_gradients_are_the_same(encoder: Encoder) -> None:
    recomputed_gradients_are_the_same(encoder, partial(batch, encoder))
