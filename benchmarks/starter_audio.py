"""What the starter audio encoder's vectors are worth on spoken digits, beside its own random weights.

    python benchmarks/starter_audio.py --data DATA --work WORK \
        --out benchmarks/results/starter_audio.csv

A logistic regression on frozen vectors of recordings of spoken digits (Free Spoken Digit Dataset,
8 kHz, six speakers who are in all parts; each recording once: 1,200 for training, 300 for validation,
300 to test). Few training rows are drawn with each seed, the regression's strength is chosen on the
validation recordings, accuracy is on all test recordings. "noisy": white noise, as loud as the
signal less 5 dB, in every part. The recordings only measure; the encoder was pretrained without them.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import record
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoConfig, AutoModel

from multiadapt import AudioEncoder
from multiadapt.data.sounds import read_sound
from multiadapt.encoders._families._waves import FilterBank, resampled
from multiadapt.types import Sound, Stream

ROWS = (100, 300, 1000)
STRENGTHS = (1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
DECIBELS = 5.0
RANDOM = "the starter's network, random weights"
PLAIN = "mean and deviation of the log-mel spectrogram"
STARTER = Path(__file__).resolve().parents[1] / "src/multiadapt/starter/audio"

Vectors = Callable[[], np.ndarray]


def noisy(sounds: Sequence[Sound]) -> list[Sound]:
    """With white noise of its own for every recording, the same in every run."""
    found: list[Sound] = []
    for number, sound in enumerate(sounds):
        noise = np.random.default_rng(number).normal(size=len(sound.samples))
        scale = np.sqrt(np.mean(sound.samples**2) * 10 ** (-DECIBELS / 10))
        found.append(Sound((sound.samples + scale * noise).astype(np.float32), sound.rate))
    return found


def pooled(source: str, sounds: Sequence[Sound]) -> np.ndarray:
    """The vectors that the library's own encoder makes of sounds."""
    spec = AudioEncoder(source)
    encoder = spec.build(Stream("audio", "audio", ()), spec.open("classification"), "network")
    parts: list[torch.Tensor] = []
    for start in range(0, len(sounds), 64):
        inputs = encoder.prepare([[sound] for sound in sounds[start : start + 64]])
        parts.append(encoder.prefix(inputs, encoder.blocks + 1).tensors["pooled"])
    return torch.cat(parts).numpy()


def random_network(sounds: Sequence[Sound], seed: int) -> np.ndarray:
    """The starter's architecture and preparation with fresh weights, as transformers starts them."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(STARTER, folder, dirs_exist_ok=True)
        torch.manual_seed(seed)
        network = AutoModel.from_config(AutoConfig.from_pretrained(STARTER), dtype=torch.float32)
        network.save_pretrained(folder)
        return pooled(folder, sounds)


def plain(sounds: Sequence[Sound]) -> np.ndarray:
    """No network: over its own frames, the mean and the deviation of each of 64 mel bands."""
    found: list[np.ndarray] = []
    for sound in sounds:
        wave = resampled(sound, 16_000, 16_000 * 60)
        frames = 1 + (len(wave) - 400) // 160
        bank = FilterBank(16_000, 64, frames, 0.0, 1.0).tensors([wave])["features"][0].numpy()
        found.append(np.concatenate([bank.mean(0), bank.std(0)]))
    return np.stack(found)


def probe(x: np.ndarray, y: np.ndarray, parts: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Test accuracy of the strength that is best on the validation rows; ties: the stronger."""
    best: tuple[float, float, float] = (-1.0, 0.0, 0.0)
    for strength in STRENGTHS:
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, tol=1e-3, max_iter=1000)
        )
        model.fit(x[parts["train"]], y[parts["train"]])
        score = float(model.score(x[parts["val"]], y[parts["val"]]))
        if score > best[0]:
            best = (score, strength, float(model.score(x[parts["test"]], y[parts["test"]])))
    return {"value": best[2], "validation": best[0], "C": best[1]}


def measure(table: pd.DataFrame, options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One row for each condition, encoder, seed and number of rows; what is in WORK is not run again."""
    folder = options.data / "spoken-digits"
    clean = [read_sound(name, folder) for name in table["audio"]]
    for condition, sounds in (("clean", clean), ("noisy", noisy(clean))):
        for name, seed, vectors in _encoders(sounds, options.seeds):
            for rows in ROWS:
                kept = options.work / f"{condition}-{name}-{rows}-{seed}.json"
                if not kept.exists():
                    found = probe(vectors(), table["digit"].to_numpy(), drawn(table, rows, seed))
                    told = {"rows": rows, "seed": seed, "metric": "accuracy", **found}
                    where = {"dataset": "spoken digits", "condition": condition, "encoder": name}
                    kept.write_text(json.dumps(where | told | {"commit": record.commit()}))
                row = json.loads(kept.read_text())
                print(f"{condition}, {name}, {rows} rows, seed {seed}: {row['value']:.4f}")
                yield row


def _encoders(sounds: Sequence[Sound], seeds: int) -> Iterator[tuple[str, int, Vectors]]:
    same = {
        "starter": cache(lambda: pooled("starter", sounds)),
        PLAIN: cache(lambda: plain(sounds)),
    }
    for seed in range(seeds):
        for name, vectors in same.items():
            yield name, seed, vectors
        yield RANDOM, seed, cache(lambda seed=seed: random_network(sounds, seed))


def drawn(table: pd.DataFrame, rows: int, seed: int) -> dict[str, np.ndarray]:
    parts = {p: np.flatnonzero(table["split"] == p) for p in ("train", "val", "test")}
    dice = np.random.default_rng(seed)
    parts["train"] = dice.choice(parts["train"], rows, replace=False)
    return parts


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(options.data / "spoken-digits/table.csv").drop_duplicates("audio")
    rows = list(measure(table, options))
    record.write(options.out, rows, record.origin("starter_audio.py", options))


def arguments() -> argparse.Namespace:
    parser = record.parser(__doc__.splitlines()[0], "data", "work", "out")
    parser.add_argument("--seeds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
