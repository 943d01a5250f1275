"""Rows a second of training: several processes against one, of one thread each, the same batches.

    python benchmarks/processes.py --out benchmarks/results/processes.csv

ResNet-18 at 128 pixels with random weights, generated pictures and two numbers, ten classes, no validation. The
processes of a launch divide every batch. One launch of one process and one of several run in turns; the first epoch
warms up. A ratio is that of the medians over all epochs of all launches, its bounds those of the ratios of
launches side by side. Before training the frozen part is computed, each process its share: its seconds are told apart.
What both end with is compared by the last loss.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import record

VARIANTS = ("bc1", "bc2", "full")
PIXELS, CLASSES = 128, 10


def table(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    photos = list(rng.integers(0, 256, (rows, PIXELS, PIXELS, 3), dtype=np.uint8))
    return pd.DataFrame(
        {
            "width": rng.normal(size=rows),
            "height": rng.normal(size=rows),
            "photo": pd.Series(photos, dtype=object),
            "label": np.arange(rows) % CLASSES,
        }
    )


def work(given: argparse.Namespace) -> None:
    """What each process of a launch does; the main one writes what it saw."""
    import torch

    from multiadapt import (
        Full,
        ImageEncoder,
        MLPEncoder,
        MultimodalClassifier,
        TIAdapter,
        Training,
        processes,
    )
    from multiadapt.methods._image_branch import ImageBranch

    torch.set_num_threads(given.threads)
    method = Full() if given.variant == "full" else TIAdapter(ImageBranch(given.variant))
    model = MultimodalClassifier(
        method,
        encoders={
            "image": ImageEncoder("random:resnet-18", size=PIXELS),
            "tabular": MLPEncoder(dropout=0.0),
        },
        training=Training(epochs=given.epochs + 1, batch_size=given.batch, decay=1.0),
        validation=0.0, device="cpu", memory=8.0, verbose=False,
    )  # fmt: skip
    frame = table(given.rows)
    started = time.monotonic()
    model.fit(frame, label="label")
    whole = time.monotonic() - started
    epochs = model.fitted_.info["history"]["epochs"]
    seconds = np.diff([e["seconds"] for e in epochs])
    if processes.main():
        told = {
            "epochs": seconds.tolist(),
            "before": whole - epochs[-1]["seconds"],
            "loss": epochs[-1]["loss"],
        }
        given.worker.write_text(json.dumps(told))


def launch(variant: str, processes: int, given: argparse.Namespace) -> dict[str, Any]:
    """Start so many processes and wait for them."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "told.json"
        several = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes)
        own = ("rows", "batch", "epochs", "threads")
        options = [word for name in own for word in (f"--{name}", getattr(given, name))]
        command = [*(several if processes > 1 else ()), __file__, "--out", given.out, *options]
        command += ["--variant", variant, "--worker", out]
        environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
        subprocess.run([sys.executable, *map(str, command)], env=environment, check=True)
        return json.loads(out.read_text())


def measure(variant: str, given: argparse.Namespace) -> dict[str, Any]:
    load = record.load()
    found = [
        (launch(variant, 1, given), launch(variant, given.processes, given))
        for _ in range(given.turns)
    ]
    one, several = zip(*found, strict=True)
    alone, together = (np.median([t["epochs"] for t in told]) for told in (one, several))
    each = [np.median(a["epochs"]) / np.median(b["epochs"]) for a, b in found]
    return {
        "variant": variant,
        "processes": given.processes,
        "batch": given.batch,
        "one_rows_s": given.rows / alone,
        "several_rows_s": given.rows / together,
        "ratio": alone / together,
        "ratio_low": min(each),
        "ratio_high": max(each),
        "one_before_s": np.median([t["before"] for t in one]),
        "several_before_s": np.median([t["before"] for t in several]),
        "loss_gap": max(abs(a["loss"] - b["loss"]) for a, b in found),
        "epochs": given.epochs,
        "turns": given.turns,
        "load": load,
    }


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "out")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(given)
        return
    rows = [measure(v, given) for v in given.variants.split(",")]
    record.write(given.out, rows, record.origin("processes.py", given))


if __name__ == "__main__":
    main()
