"""What frozen computation that is kept saves: in every epoch, and from run to run.

    python benchmarks/cache.py --data DATA --weights WEIGHTS --out benchmarks/results/cache.csv

Houses, the front photo alone at 224 pixels, ResNet-18 without stage 4, three numbers in an mlp encoder, a
fixed number of epochs. CPU seconds of one thread inside `fit()`, the median of --turns; all four kinds of
fit take turns, and end in the same training loss to 1e-4: "again" computes everything in every epoch
(memory=0, no folder), "off" keeps it in memory, "first" writes it into a folder too, "later" finds it there.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import record
import torch

from multiadapt import ImageEncoder, MultimodalRegressor, TIAdapter, Training
from multiadapt.methods._image_branch import ImageBranch

VARIANTS = ("embedding", "bc1")
KINDS = {"again": "off", "off": "off", "first": "", "later": ""}
COLUMNS = ["bedrooms", "bathrooms", "area_sqft", "img_frontal", "price_usd"]


def fit(
    variant: str, table: pd.DataFrame, given: argparse.Namespace, memory: float = 4.0
) -> tuple[float, float]:
    """CPU seconds, and the last training loss."""
    model = MultimodalRegressor(
        TIAdapter(ImageBranch(variant)),  # type: ignore[arg-type]
        encoders={
            "image": ImageEncoder(str(given.weights / "resnet18-trunk"), size=224),
            "tabular": "mlp",
        },
        training=Training(epochs=given.epochs, patience=None),
        memory=memory, device="cpu", verbose=False,
    )  # fmt: skip
    since = time.process_time()
    model.fit(table, label="price_usd", root=given.data / "houses")
    spent = time.process_time() - since
    return spent, model.fitted_.info["history"]["epochs"][-1]["loss"]


def turn(variant: str, table: pd.DataFrame, given: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, float] = {}
        losses: list[float] = []
        for name, place in KINDS.items():
            os.environ["MULTIADAPT_CACHE"] = place or folder
            found[name], loss = fit(variant, table, given, 0.0 if name == "again" else 4.0)
            losses.append(loss)
        if not np.allclose(losses, losses[0], rtol=1e-4):
            raise SystemExit(f"{variant}: the losses differ: {losses}")
        size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
        return {**found, "mb": size / 1e6}


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "weights", "out")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    table = pd.read_csv(given.data / "houses/table.csv")[COLUMNS]
    fit("embedding", table[:40], given)  # what is imported when first used
    rows: list[dict[str, Any]] = []
    for variant in VARIANTS:
        turns = [turn(variant, table, given) for _ in range(given.turns)]
        median = {key: float(np.median([t[key] for t in turns])) for key in turns[0]}
        rows.append(
            {
                "variant": variant,
                "rows": len(table),
                "epochs": given.epochs,
                "again_s": median["again"],
                "off_s": median["off"],
                "first_s": median["first"],
                "later_s": median["later"],
                "again_over_first": median["again"] / median["first"],
                "again_over_later": median["again"] / median["later"],
                "off_over_first": median["off"] / median["first"],
                "off_over_later": median["off"] / median["later"],
                "mb": median["mb"],
                "turns": given.turns,
                "load": record.load(),
            }
        )
        print(rows[-1], flush=True)
    record.write(given.out, rows, record.origin("cache.py", given))


if __name__ == "__main__":
    main()
