"""The starter audio encoder inside the package: small, and worth having."""

import shutil
from importlib.resources import files
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from multiadapt import AudioEncoder, MultimodalClassifier, Training
from multiadapt.encoders._base import Encoder
from multiadapt.types import Sound, Stream

STARTER = Path(str(files("multiadapt") / "starter" / "audio"))
RATE = 16_000
FORMANTS = {"ah": (750, 1200), "ee": (300, 2300), "oo": (320, 850), "eh": (560, 1800)}
FORMANTS |= {"uh": (620, 1250), "aw": (570, 850), "er": (490, 1350), "ih": (400, 1950)}


def built(source: str) -> Encoder:
    spec = AudioEncoder(source)
    return spec.build(Stream("call", "audio", ()), spec.open("classification"), "network")


def vowel(name: str, dice: np.random.Generator) -> Sound:
    """Overtones under two humps, by a voice of any size and pitch, in noise, loud or soft."""
    times = np.arange(round(dice.uniform(0.25, 0.5) * RATE)) / RATE
    pitch, size = dice.uniform(90, 260), np.exp(dice.normal(0.05, 0.1))
    humps = size * np.array(FORMANTS[name])
    wave = np.zeros_like(times)
    for k in range(1, int(4000 / pitch)):
        away = (k * pitch - humps) / (80, 120)
        wave += np.sin(2 * np.pi * k * pitch * times) * (1 / (1 + away**2)).sum() / k**0.5
    wave /= wave.std()
    wave += dice.uniform(0.1, 1.0) * dice.normal(size=len(times))
    wave *= 0.3 * 10 ** dice.uniform(-2, 0) / wave.std()
    return Sound(wave.astype(np.float32), RATE)


def probed(source: str, sounds: list[Sound], labels: np.ndarray) -> float:
    """Accuracy of a linear probe, 5 folds."""
    encoder = built(source)
    inputs = encoder.prepare([[sound] for sound in sounds])
    pooled = encoder.prefix(inputs, encoder.blocks + 1).tensors["pooled"]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    return float(np.mean(cross_val_score(probe, pooled.numpy(), labels, cv=5)))


def test_it_takes_less_than_3_and_a_half_mb() -> None:
    assert sum(f.stat().st_size for f in STARTER.iterdir()) < 3_500_000


def test_it_opens_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    encoder = built(AudioEncoder().source)
    assert (encoder.origin().source, encoder.origin().licence) == ("starter", "Apache-2.0")
    inputs = encoder.prepare([[Sound(np.ones(4000, np.float32), 8000)]])
    assert encoder(inputs).pooled.shape == (1, encoder.width)


def test_transformers_opens_it_and_hears_the_same() -> None:
    """Without this package: the mean over the tokens that a sound reaches into is the pooled vector."""
    dice = np.random.default_rng(0)
    sound = Sound(dice.normal(0, 0.1, RATE).astype(np.float32), RATE)
    encoder = built("starter")
    expected = encoder(encoder.prepare([[sound]])).pooled
    network = AutoModel.from_pretrained(STARTER).get_encoder().eval()
    extractor = AutoFeatureExtractor.from_pretrained(STARTER)
    heard = extractor(sound.samples, sampling_rate=RATE, return_tensors="pt").input_features
    with torch.inference_mode():
        pooled = network(heard).last_hidden_state[:, :50].mean(1)
    # The extractor computes its spectrum in other steps.
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-3)


def test_it_tells_vowels_of_many_voices_better_than_its_random_weights(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    labels = np.array(list(FORMANTS) * 20)
    sounds = [vowel(name, dice) for name in labels]
    shutil.copytree(STARTER, tmp_path, dirs_exist_ok=True)
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(STARTER)).save_pretrained(tmp_path)
    trained, untrained = probed("starter", sounds, labels), probed(str(tmp_path), sounds, labels)
    assert trained > 0.65
    assert trained > untrained + 0.2


def test_a_column_of_sounds_trains_without_a_named_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    dice = np.random.default_rng(1)
    rows: list[dict[str, object]] = []
    for number in range(80):
        name = ("ah", "ee")[number % 2]
        sound = vowel(name, dice)
        soundfile.write(tmp_path / f"{number}.wav", sound.samples, sound.rate)
        rows.append({"call": f"{number}.wav", "weight": dice.normal(), "says": name})
    frame = pd.DataFrame(rows)
    training = Training(epochs=20, batch_size=16, learning_rate=1e-2)
    model = MultimodalClassifier("frozen", training=training, verbose=False)
    model.fit(frame[:60], label="says", root=tmp_path)
    assert model.evaluate(frame[60:]).loc["accuracy", "value"] > 0.8
