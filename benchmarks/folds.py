"""Five folds of three methods by `multiadapt compare` against fifteen single fits that compute everything anew.

    python benchmarks/folds.py --data DATA --weights WEIGHTS --out benchmarks/results/folds.csv

Houses, the front photo alone at 128 pixels, ResNet-18 without stage 4, three numbers in an mlp encoder, a fixed
number of epochs. The single side is `multiadapt fit` on the four other folds, no row of them held out, with
`--memory 0` and no cache, fifteen times; it evaluates nothing. The other, whose fits hold out a fifth of these rows
and score them after every epoch, is one `multiadapt compare`, its cache empty ("first") and once
more with what the first left there and another folder of results ("later"). CPU seconds of whole processes of one
thread, imports included.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import record

METHODS = {
    "frozen": ("frozen", ()),
    "embedding": ("ti-adapter", ("--set", "image.variant=embedding")),
    "bc1": ("ti-adapter", ("--set", "image.variant=bc1")),
}
COLUMNS = ["bedrooms", "bathrooms", "area_sqft", "img_frontal", "price_usd"]
FOLDS = 5


def spent(words: list[Any], cache: str, threads: int) -> float:
    """CPU seconds of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "MULTIADAPT_CACHE": cache, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "multiadapt", *map(str, words)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    table = pd.read_csv(given.data / "houses/table.csv")[COLUMNS]
    order = np.random.default_rng(0).permutation(len(table))
    table["fold"] = (order * FOLDS // len(table)).astype(str)
    table.to_csv(folder / "table.csv", index=False)
    common = [
        folder / "table.csv", "--label", "price_usd", "--root", given.data / "houses",
        "--column-type", "fold=ignore", "--device", "cpu",
        "--encoder", f"image={given.weights / 'resnet18-trunk'}", "--encoder", "tabular=mlp",
        "--set", "encoders.image.size=128", "--set", f"training.epochs={given.epochs}",
        "--set", "training.patience=null",
    ]  # fmt: skip
    singles: list[float] = []
    for name, (method, options) in METHODS.items():
        for fold in range(FOLDS):
            rest = ["--where", f"fold!={fold}", "--validation", 0, "--memory", 0]
            out = ["--out", folder / f"{name}{fold}"]
            words = ["fit", *common, *rest, "--method", method, *options, *out]
            singles.append(spent(words, "off", given.threads))
            print(f"{name}, fold {fold}: {singles[-1]:.1f} s", flush=True)
    asked = ",".join(
        method + "".join(f":{o}" for o in options[1:]) for method, options in METHODS.values()
    )
    rows: list[dict[str, Any]] = []
    for run in ("first", "later"):
        whole = ["compare", *common, "--methods", asked, "--folds", FOLDS, "--out", folder / run]
        seconds = spent(whole, str(folder / "cache"), given.threads)
        rows.append(
            {
                "cache": run,
                "rows": len(table),
                "epochs": given.epochs,
                "folds": FOLDS,
                "methods": len(METHODS),
                "singles_s": sum(singles),
                "compare_s": seconds,
                "singles_over_compare": sum(singles) / seconds,
                "load": record.load(),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "weights", "out")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(given, Path(folder))
    record.write(given.out, rows, record.origin("folds.py", given))


if __name__ == "__main__":
    main()
