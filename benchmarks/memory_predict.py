"""Peak memory of `multiadapt predict` on a long table against a short one.

    python benchmarks/memory_predict.py --out benchmarks/results/memory_predict.csv

The table is drawn: two numbers, a category, and one of 64 small pictures that repeat. With the cache "off" each
is decoded and goes through the network again in every row; with it "on", each once. The model is TI-Adapter with
embedding-level adapters on the starter encoder of pictures. Every length is predicted by a process of its own,
whose allocator returns what is freed; `peak_mb` is the most that it held, libraries and model included, as the
kernel counts it. `table_mb` and `predictions_mb` are the files' sizes: what would grow.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import record
from PIL import Image

PICTURES = 64
STEP = 10_000
"""Rows that are drawn and written together."""


def draw(folder: Path) -> None:
    """Pictures whose colour tells the kind of a row."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(PICTURES):
        pixels = rng.integers(0, 90, (32, 32, 3), dtype=np.uint8)
        pixels[..., i % 2] += 120
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")


def rows_from(start: int, count: int) -> pd.DataFrame:
    rng = np.random.default_rng([1, start])
    which = rng.integers(0, PICTURES, count)
    return pd.DataFrame(
        {
            "size": rng.normal(size=count),
            "weight": rng.normal(size=count),
            "colour": rng.choice(["red", "green", "blue"], count),
            "photo": [f"photos/{i}.png" for i in which],
            "kind": np.where(which % 2, "odd", "even"),
        }
    )


def write_table(path: Path, rows: int) -> None:
    """As CSV: a part at a time, so that this process stays small too."""
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, rows, STEP):
            part = rows_from(start, min(STEP, rows - start))
            part.to_csv(file, index=False, header=start == 0)


def fit(folder: Path) -> None:
    from multiadapt import MultimodalClassifier, TIAdapter, Training

    model = MultimodalClassifier(
        TIAdapter().with_params(image__variant="embedding"),
        encoders={"image": "starter", "tabular": "mlp"},
        training=Training(epochs=2),
        validation=0.0,
        verbose=False,
        device="cpu",
    )
    model.fit(rows_from(0, 256), label="kind", root=folder).save(folder / "model")


PREDICT = """
import sys, torch
torch.set_num_threads(int(sys.argv[1]))
from multiadapt.cli import main
main(sys.argv[2:], standalone_mode=False)
lines = open("/proc/self/status").read().splitlines()
print(next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) * 1024 / 1e6)
"""


def predicted(folder: Path, table: Path, threads: int, chunk: int, cache: str) -> dict[str, float]:
    """Peak and seconds of a process that predicts the table, and what it wrote."""
    out = table.with_name(f"{table.stem}-predicted.csv")
    words = ["predict", folder / "model", table, "--out", out, "--chunk", chunk, "--device", "cpu"]
    started = time.perf_counter()
    asked = subprocess.run(
        [sys.executable, "-c", PREDICT, str(threads), *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            **record.GIVES_BACK,
            "MALLOC_ARENA_MAX": "1",
            "MULTIADAPT_CACHE": "off" if cache == "off" else str(folder / "cache"),
        },
    )
    seconds = time.perf_counter() - started
    with out.open("rb") as file:
        written = sum(1 for _ in file) - 1
    return {
        "predictions": written,
        "peak_mb": float(asked.stdout.split()[-1]),
        "seconds": seconds,
        "table_mb": table.stat().st_size / 1e6,
        "predictions_mb": out.stat().st_size / 1e6,
    }


def measure(lengths: list[int], threads: int, chunk: int, cache: str) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder)
        fit(folder)
        first: float | None = None
        for rows in lengths:
            table = folder / f"table{rows}.csv"
            write_table(table, rows)
            found = predicted(folder, table, threads, chunk, cache)
            first = found["peak_mb"] if first is None else first
            yield {
                "cache": cache,
                "rows": rows,
                "chunk": chunk,
                **found,
                "peak_over_first": found["peak_mb"] / first,
                "rows_per_second": rows / found["seconds"],
                "load": record.load(),
            }
            table.unlink()


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "out")
    parser.add_argument("--off", default="10000,100000", help="lengths of tables, the first is 1")
    parser.add_argument("--on", default="10000,1000000")
    parser.add_argument("--chunk", type=int, default=1000)
    given = parser.parse_args()
    os.environ["MULTIADAPT_CACHE"] = "off"  # of the model's training
    rows: list[dict[str, Any]] = []
    for cache, told in (("off", given.off), ("on", given.on)):
        lengths = [int(n) for n in told.split(",")]
        for row in measure(lengths, given.threads, given.chunk, cache):
            rows.append(row)
            print(json.dumps(row), flush=True)
            record.write(given.out, rows, record.origin("memory_predict.py", given))


if __name__ == "__main__":
    main()
