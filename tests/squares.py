"""Coloured squares with their colours' names, for tasks over a tiny BLIP."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from multiadapt import Blip, Training

__all__ = ["BLIP", "COLOURS", "QUICK", "make_squares", "squares"]

COLOURS = {"red": (230, 20, 20), "lime": (20, 230, 20), "blue": (20, 20, 230)}
BLIP = Blip("random:blip-tiny")
QUICK = Training(epochs=2, batch_size=8, learning_rate=3e-3)
EACH = 8


def make_squares(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for word, colour in COLOURS.items():
        for i in range(EACH):
            pixels = np.clip(np.array(colour) + rng.integers(-20, 20, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{word}-{i}.png")
    return folder


def squares() -> pd.DataFrame:
    """A row of every picture, with labels that are no positions."""
    rows = [
        {
            "photo": f"{word}-{i}.png",
            "question": "colour?",
            "answer": word,
            "caption": f"a {word} one",
        }
        for i in range(EACH)
        for word in COLOURS
    ]
    return pd.DataFrame(rows, index=[f"r{i}" for i in range(len(rows))])
