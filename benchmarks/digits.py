"""A spoken digit beside a handwritten one, either of them missing: U2A's fillings on a table of two modalities.

    python benchmarks/digits.py --data DATA --work WORK --out benchmarks/results/missing_digits.csv

300 training rows drawn with each seed, so that one modality alone is not enough; white noise 5 dB below the
signal on every recording, noise of a third of the range on every picture. The starter encoders, with U2A's own
defaults. The pairs were put together by class: a picture is not of the person who speaks. No training row has a
hole. Differences are against "u2a".
"""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import record
import soundfile
import torch
from coalitions import Runs
from comparison import drawn
from PIL import Image

from multiadapt import U2A, Frozen, MultimodalClassifier, Training
from multiadapt.methods._base import Method
from multiadapt.missing.mean import Mean
from multiadapt.missing.token import MaskToken
from multiadapt.missing.zero import Zero
from multiadapt.reports.compare import Design

TRAINING_ROWS, VALIDATION_ROWS = 300, 200
LABEL, BASE = "digit", "u2a"
NOISE_DB, NOISE_SHARE = 5.0, 0.33
SEED = 0

METHODS: Mapping[str, Method] = {
    "frozen": Frozen(),
    "frozen, tokens": Frozen(missing=MaskToken()),
    BASE: U2A(),
    "u2a, zeros": U2A(missing=Zero()),
    "u2a, mean": U2A(missing=Mean()),
    "u2a, zeros and dropping": U2A(missing=Zero(drop=None)),
    "u2a, mean and dropping": U2A(missing=Mean(drop=None)),
    "u2a, tokens without dropping": U2A(missing=MaskToken(drop=0.0)),
    "u2a, alignment 0": U2A(missing=MaskToken(alignment=0.0)),
    "u2a, alignment 0.1": U2A(missing=MaskToken(alignment=0.1)),
    "u2a, alignment 0.5": U2A(missing=MaskToken(alignment=0.5)),
    "u2a, full visibility": U2A(missing=MaskToken(visibility="full")),
}


def noised(data: Path, work: Path) -> pd.DataFrame:
    """The table with every file copied to WORK with its noise, drawn by its row."""
    table = pd.read_csv(data / "spoken-digits/table.csv")
    table["row"] = np.arange(len(table))
    for row, audio, image in zip(table["row"], table["audio"], table["image"], strict=True):
        rng = np.random.default_rng([SEED, row])
        sound, picture = work / f"noisy/{row}.wav", work / f"noisy/{row}.png"
        if picture.exists():
            continue
        sound.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(data / "spoken-digits" / audio)
        level = np.sqrt(np.mean(samples**2)) * 10 ** (-NOISE_DB / 20)
        soundfile.write(sound, np.clip(samples + rng.normal(0, level, len(samples)), -1, 1), rate)
        pixels = np.asarray(Image.open(data / "spoken-digits" / image), dtype=np.float64)
        grainy = np.clip(pixels + rng.normal(0, 255 * NOISE_SHARE, pixels.shape), 0, 255)
        Image.fromarray(grainy.astype(np.uint8)).save(picture)
    table["audio"] = [f"noisy/{row}.wav" for row in table["row"]]
    table["image"] = [f"noisy/{row}.png" for row in table["row"]]
    table[LABEL] = table[LABEL].astype(str)
    return table[["audio", "image", LABEL, "split"]]


def estimator(method: Method) -> MultimodalClassifier:
    return MultimodalClassifier(
        method,
        encoders={"audio": "starter", "image": "starter"},
        training=Training(),
        column_types={"audio": "audio", "image": "image"},
        device="cpu",
        verbose=False,
    )


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "work", "out")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", help="names with semicolons between them; default all")
    given = parser.parse_args()
    asked = record.chosen(given.methods, list(METHODS), ";")
    torch.set_num_threads(given.threads)
    logging.getLogger("multiadapt").setLevel(logging.WARNING)
    table = noised(given.data, given.work)
    design = Design(LABEL, split_column="split", seeds=given.seeds, root=given.work)
    split = table["split"].to_numpy()
    runs = drawn(split, given.seeds, TRAINING_ROWS, VALIDATION_ROWS)
    found = Runs(table, design, runs, given.work / "cells")
    for run in found.runs:
        for name, method in METHODS.items():
            found.add(name, estimator(method), run, fit=name in asked)
    origin = record.origin("digits.py", argparse.Namespace(**{**vars(given), "methods": None}))
    rows = sorted(found.rows(BASE), key=lambda row: list(METHODS).index(row["method"]))
    record.write(given.out, [{"label": LABEL, **row} for row in rows], origin)


if __name__ == "__main__":
    main()
