"""The audio encoder: its preparation, what it opens, and what it says about mistakes."""

import importlib.util
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly
from torch import Tensor

from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._waves import SoundPreparation, resampled
from multiadapt.encoders.audio import AudioEncoder
from multiadapt.errors import EncoderError, SpecError
from multiadapt.spec import resolve
from multiadapt.types import Sound, Stream

RATE = 16_000
WAVES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 8],
    "conv_stride": [5, 4],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
}
CONFIGS = {
    "ast": transformers.ASTConfig(),
    "whisper": transformers.WhisperConfig(),
    "whisper-large": transformers.WhisperConfig(num_mel_bins=128),
    "wav2vec2": transformers.Wav2Vec2Config(),
}


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> Sound:
    """Something with loud and silent parts."""
    generator = np.random.default_rng(seed)
    n = round(seconds * rate)
    swell = np.sin(np.arange(n) / rate * 3) ** 2
    return Sound((generator.normal(0, 0.1, n) * swell).astype(np.float32), rate)


def sine(hertz: float, seconds: float, rate: int) -> Sound:
    times = np.arange(round(seconds * rate)) / rate
    return Sound((0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), rate)


def built(spec: AudioEncoder, stream: str = "call") -> Encoder:
    return spec.build(Stream(stream, "audio", ()), spec.open("classification"), "net")


def tiny(folder: Path) -> Any:
    config = transformers.Wav2Vec2Config(**WAVES)
    network = transformers.Wav2Vec2Model(config)
    network.save_pretrained(folder)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wav2vec2")
    tiny(folder)
    return folder


def prepared(
    name: str, items: Sequence[Sound], seconds: float | None = None
) -> tuple[dict[str, Tensor], list[tuple[str, int]]]:
    """What one architecture's usual preparation makes of sounds, and what it notes."""
    notes: list[tuple[str, int]] = []
    preparation = SoundPreparation.read(None, CONFIGS[name], seconds, None)
    found = preparation.tensors(items, lambda what, n: notes.append((what, n)))
    return found, [(what, n) for what, n in notes if n]


# --- the library's own features ------------------------------------------------------------------

LENGTHS = (0.03, 0.5, 3.21, 9.9)


@pytest.mark.skipif(
    importlib.util.find_spec("torchaudio") is not None,
    reason="with torchaudio the library's extractor rounds otherwise",
)
@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_ast_hears_what_the_librarys_extractor_makes() -> None:
    items = [noise(s, seed=i) for i, s in enumerate((*LENGTHS, 10.255))]
    extractor = transformers.ASTFeatureExtractor()
    expected = extractor([s.samples for s in items], sampling_rate=RATE, return_tensors="pt")
    found, notes = prepared("ast", items)
    assert found.keys() == {"features"}
    # The logarithm of nearly nothing: the library computes its spectrum in single precision.
    torch.testing.assert_close(found["features"], expected.input_values, rtol=0, atol=1e-4)
    assert notes == []


@pytest.mark.parametrize(("name", "bins"), [("whisper", 80), ("whisper-large", 128)])
def test_whisper_hears_what_the_librarys_extractor_makes(name: str, bins: int) -> None:
    items = [noise(s, seed=i) for i, s in enumerate((0.001, *LENGTHS, 29.99, 30))]
    items += [sine(440, 2, RATE)]
    extractor = transformers.WhisperFeatureExtractor(feature_size=bins)
    expected = extractor(
        [s.samples for s in items],
        sampling_rate=RATE,
        return_attention_mask=True,
        return_tensors="pt",
    )
    found, notes = prepared(name, items)
    torch.testing.assert_close(found["features"], expected.input_features, rtol=0, atol=1e-4)
    assert found["mask"].sum(1).tolist() == ((expected.attention_mask.sum(1) + 1) // 2).tolist()
    assert notes == []


@pytest.mark.parametrize("normalize", [True, False])
def test_wav2vec2_hears_what_the_librarys_extractor_makes_of_each_alone(
    normalize: bool, tmp_path: Path
) -> None:
    tiny(tmp_path)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize)
    extractor.save_pretrained(tmp_path)
    items = [noise(s, seed=i) for i, s in enumerate(LENGTHS)]
    found = built(AudioEncoder(str(tmp_path))).prepare([[s] for s in items]).tensors
    assert found["mask"].sum(1).tolist() == [len(s.samples) for s in items]
    assert not found["waves"][~found["mask"]].any()
    for row, sound in enumerate(items):
        expected = extractor(sound.samples, sampling_rate=RATE, return_tensors="pt").input_values
        own = found["waves"][row, : len(sound.samples)]
        torch.testing.assert_close(own, expected[0], rtol=1e-5, atol=1e-5)


def test_a_processors_settings_are_found_too(tmp_path: Path) -> None:
    tiny(tmp_path)
    held = {"feature_extractor": {"do_normalize": False, "sampling_rate": 8000}}
    (tmp_path / "processor_config.json").write_text(json.dumps(held))
    encoder = built(AudioEncoder(str(tmp_path)))
    sound = noise(0.5, 8000)
    found = encoder.prepare([[sound]]).tensors["waves"]
    assert torch.equal(found[0], torch.from_numpy(sound.samples))


# --- resampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_a_tone_keeps_its_pitch_and_strength(rate: int) -> None:
    wave = resampled(sine(440, 1, rate), RATE, 10 * RATE)
    assert len(wave) == RATE
    assert wave.dtype == np.float32
    inner = wave[1600:-1600]  # beyond the filter's reach from both ends
    strength = np.abs(np.fft.rfft(inner * np.hanning(len(inner))))
    peak = np.fft.rfftfreq(len(inner), 1 / RATE)[strength.argmax()]
    assert abs(peak - 440) < 2  # Hz; the transform's own step is 1.25
    assert abs(np.abs(inner).max() - 0.5) < 0.005
    expected = sine(440, 1, RATE).samples[1600:-1600]
    assert np.abs(inner - expected).max() < 0.005


@pytest.mark.parametrize("rate", [44_100, 96_000])
def test_a_tone_that_the_lower_rate_cannot_hold_vanishes(rate: int) -> None:
    assert np.abs(resampled(sine(12_000, 1, rate), RATE, RATE)[1600:-1600]).max() < 0.005


def test_the_networks_own_rate_is_left_alone() -> None:
    sound = noise(0.5)
    assert np.array_equal(resampled(sound, RATE, RATE), sound.samples)


@settings(deadline=None, max_examples=30)
@given(
    rate=st.sampled_from([8000, 11_025, 22_050, 44_100, 48_000]),
    length=st.integers(1, 4000),
    longest=st.integers(1, 4000),
)
def test_cutting_first_changes_nothing(rate: int, length: int, longest: int) -> None:
    sound = noise(length / rate, rate)
    shared = math.gcd(rate, RATE)
    whole = resample_poly(sound.samples, RATE // shared, rate // shared)
    np.testing.assert_allclose(resampled(sound, RATE, longest), whole[:longest], atol=1e-6)


# --- length, silence -----------------------------------------------------------------------------


def test_longer_sounds_are_cut_at_their_end_and_counted() -> None:
    items = [noise(s, seed=i) for i, s in enumerate((0.5, 1, 1.5, 2))]
    found, notes = prepared("wav2vec2", items, seconds=1.0)
    assert found["mask"].sum(1).tolist() == [8000, RATE, RATE, RATE]
    assert notes == [("sounds are longer than 1 s and are cut", 2)]
    cut = [replace(s, samples=s.samples[:RATE]) for s in items]
    again = prepared("wav2vec2", cut, seconds=1.0)[0]
    assert torch.equal(found["waves"], again["waves"])


@pytest.mark.parametrize(
    ("name", "seconds"), [("wav2vec2", "10"), ("ast", "10.255"), ("whisper", "30")]
)
def test_without_a_limit_of_the_users_the_networks_own_holds(name: str, seconds: str) -> None:
    _, notes = prepared(name, [noise(float(seconds)), noise(31)])
    assert notes == [(f"sounds are longer than {seconds} s and are cut", 1)]


@pytest.mark.parametrize("name", ["ast", "whisper"])
def test_a_limit_below_the_window_is_silence_behind_it(name: str) -> None:
    sound = noise(3)
    found = prepared(name, [sound], seconds=2.0)[0]
    expected = prepared(name, [replace(sound, samples=sound.samples[: 2 * RATE])])[0]
    assert all(torch.equal(found[k], expected[k]) for k in found)


def test_a_sound_too_short_for_one_frame_is_filled_up_and_counted(folder: Path) -> None:
    click = Sound(np.ones(1, np.float32), RATE)
    for name in ("wav2vec2", "ast"):
        found, notes = prepared(name, [click, noise(0.1)])
        assert all(torch.isfinite(t).all() for t in found.values())
        assert notes == [("sounds are shorter than 0.025 s and are filled up with silence", 1)]
    encoder = built(AudioEncoder(str(folder)))
    assert int(encoder(encoder.prepare([[click]])).mask.sum()) == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_silence_is_a_sound_and_counted(name: str) -> None:
    silence = Sound(np.zeros(RATE, np.float32), RATE)
    found, notes = prepared(name, [silence, noise(1), silence])
    assert notes == [("sounds are silent", 2)]
    assert all(torch.isfinite(t).all() for t in found.values())


def test_clipped_sounds_are_sounds(folder: Path) -> None:
    encoder = built(AudioEncoder(str(folder)))
    loud = Sound(np.clip(sine(440, 0.2, RATE).samples * 9, -1, 1), RATE)
    inputs = encoder.prepare([[loud]])
    assert torch.isfinite(encoder(inputs).pooled).all()
    assert inputs.notes == ()


def test_what_is_cut_is_counted(folder: Path) -> None:
    encoder = built(AudioEncoder(str(folder), seconds=0.5))
    inputs = encoder.prepare([[noise(1), noise(0.1)], [], [noise(2)]])
    assert inputs.notes == (("sounds are longer than 0.5 s and are cut", 2),)


# --- rows ----------------------------------------------------------------------------------------


def test_rows_keep_their_place(folder: Path) -> None:
    encoder = built(AudioEncoder(str(folder)))
    a, b, c, d = (noise(s, seed=i) for i, s in enumerate((0.2, 0.3, 0.1, 0.2)))
    cells = [[a], [], [b, c], [], [d]]
    inputs = encoder.prepare(cells)
    assert inputs.count.tolist() == [1, 0, 2, 0, 1]
    assert inputs.cut == 0
    found = encoder(inputs).pooled
    for row, cell in enumerate(cells):
        alone = encoder(encoder.prepare([cell])).pooled
        torch.testing.assert_close(alone[0], found[row], rtol=1e-5, atol=1e-5)
    assert not found[1].any()


@pytest.mark.parametrize("name", CONFIGS)
def test_many_threads_prepare_what_one_does(name: str) -> None:
    batches = [[noise(0.1 + i / 50, rate, seed=i) for rate in (8000, RATE)] for i in range(12)]
    expected = [prepared(name, items)[0] for items in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda items: prepared(name, items)[0], batches))
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[k], other[k]) for k in other)


def test_the_sounds_are_never_written_to(folder: Path) -> None:
    sound = noise(0.3)
    sound.samples.setflags(write=False)
    built(AudioEncoder(str(folder))).prepare([[sound]])
    prepared("ast", [sound])
    prepared("whisper", [sound])


# --- what a spec opens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Counted by transformers' own classes, without the vector for masked frames.
        ("ast-base", 86_187_264),
        ("wav2vec2-base", 94_370_944),
        ("hubert-base", 94_370_944),
        ("whisper-tiny", 8_208_384),
    ],
)
def test_known_architectures_have_their_published_size(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = AudioEncoder(f"random:{name}").open("classification")
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_opening_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = transformers.Wav2Vec2Config(**WAVES, vocab_size=32)
    transformers.Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    capfd.readouterr()
    encoder = built(AudioEncoder(str(tmp_path)))
    encoder.prepare([[noise(0.1)]])
    assert capfd.readouterr() == ("", "")


def test_the_spec_is_the_default_of_its_modality_and_travels() -> None:
    assert resolve("encoders", "audio") is AudioEncoder
    spec = AudioEncoder("random:ast-base", seconds=2.5)
    assert AudioEncoder.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.modality == "audio"


def test_streams_share_the_network(folder: Path) -> None:
    spec = AudioEncoder(str(folder))
    network = spec.open("classification")
    first, second = (spec.build(Stream(n, "audio", ()), network, "net") for n in ("in", "out"))
    assert first.get_submodule("backbone") is second.get_submodule("backbone")


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_impossible_lengths_are_named(seconds: float) -> None:
    with pytest.raises(SpecError, match=rf"seconds must be more than 0, got {seconds}"):
        AudioEncoder(seconds=seconds)


def test_an_empty_source_is_named() -> None:
    with pytest.raises(SpecError, match="source must name an audio network, got an empty text"):
        AudioEncoder("")


@pytest.mark.parametrize(
    ("name", "seconds", "limits"),
    [
        ("whisper", 30.5, "6.25e-05 and at most 30 seconds"),
        ("ast", 11.0, "0.025 and at most 10.255 seconds"),
        ("ast", 0.01, "0.025 and at most 10.255 seconds"),
        ("wav2vec2", 0.01, "0.025 seconds"),
    ],
)
def test_lengths_beyond_the_networks_limits_are_refused(
    name: str, seconds: float, limits: str
) -> None:
    with pytest.raises(EncoderError, match=f"at least {limits}, got seconds={seconds:g}"):
        prepared(name, [], seconds)


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(
        EncoderError, match=r"'wav2vec3'; there are ast-base, hubert-base, .*whisper-tiny$"
    ):
        AudioEncoder("random:wav2vec3").open("classification")


def test_a_hub_name_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=r'nobody/nothing cannot be .* local folder .* or "sta'):
        AudioEncoder("nobody/nothing").open("classification")
