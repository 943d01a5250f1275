"""An epoch of LoRA in a text encoder, with texts of like lengths in one batch and without.

    python benchmarks/lengths.py --minilm MINILM --out benchmarks/results/lengths.csv

Texts are drawn, 3 to 120 words long, their lengths log-normal ("wide") or all about the same ("alike"). CPU seconds
of one thread inside `fit()` for one epoch, the two ways in turns, medians.
"""

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
import record
import torch

from multiadapt import MultimodalClassifier, PlainLoRA, Training

WORDS = [
    "the", "of", "and", "red", "blue", "shoe", "shirt", "summer",
    "house", "quick", "brown", "fox", "over", "lazy", "dog", "wide",
]  # fmt: skip
SPREAD = {"wide": 0.8, "alike": 0.05}
"""Deviation of the logarithm of the length."""


def drawn(spread: float, rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.2, spread, rows), 3, 120).astype(int)
    texts = [" ".join(rng.choice(WORDS, n)) for n in lengths]
    return pd.DataFrame({"note": texts, "kind": np.where(np.arange(rows) % 2, "a", "b")})


def seconds(table: pd.DataFrame, given: argparse.Namespace, *, grouped: bool) -> float:
    recipe = Training(epochs=1, batch_size=32, group_by_length=grouped, normalize=False)
    model = MultimodalClassifier(
        PlainLoRA(), encoders={"text": str(given.minilm)}, training=recipe,
        column_types={"note": "text"}, validation=0.0, verbose=False, device="cpu",
    )  # fmt: skip
    since = time.process_time()
    model.fit(table, label="kind")
    return time.process_time() - since


def measure(name: str, given: argparse.Namespace) -> dict[str, Any]:
    table = drawn(SPREAD[name], given.rows)
    found: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(given.turns):
        for grouped, own in found.items():
            own.append(seconds(table, given, grouped=grouped))
    usual, alike = (float(np.median(found[grouped])) for grouped in (False, True))
    return {
        "lengths": name,
        "rows": given.rows,
        "usual_s": usual,
        "grouped_s": alike,
        "usual_over_grouped": usual / alike,
        "turns": given.turns,
        "load": record.load(),
    }


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "minilm", "out")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    seconds(drawn(0.8, 32), given, grouped=False)  # what is imported when first used
    rows = [measure(name, given) for name in SPREAD]
    record.write(given.out, rows, record.origin("lengths.py", given))


if __name__ == "__main__":
    main()
