"""What it costs to serve many models over one frozen network: rows of a hundred models in a batch against one's.

    python benchmarks/many.py --out benchmarks/results/many.csv

Pictures drawn from a seed, one a row, with three numbers in an mlp encoder or without. One model is fitted
briefly; the others are it with its trained tensors moved at random, saved and loaded each as a folder of its own.
Every call of `predict` has as many rows as there are models: all are one model's, or each row another's.
CPU seconds of one thread, reading included; the two kinds of calls take turns, and the median of --turns counts.
The mixed answers are compared with what each model says alone. Memory is the growth of the process while all
models but the first are loaded.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import record
import torch

from multiadapt import ImageEncoder, MultimodalRegressor, TIAdapter, Training, load_many
from multiadapt.artifact import save
from multiadapt.many import ManyModels
from multiadapt.methods._base import Method
from multiadapt.methods._image_branch import ImageBranch

CASES: tuple[tuple[str, str, str | Method, bool], ...] = (
    ("starter", "starter", "lora", False),
    ("starter", "starter", TIAdapter(ImageBranch("bc1")), False),  # type: ignore[arg-type]
    ("starter", "starter", "lora", True),
    ("vit-tiny", "random:vit-tiny", "u2a", False),
    ("resnet-18", "random:resnet-18", TIAdapter(ImageBranch("bc1")), False),  # type: ignore[arg-type]
    ("resnet-18", "random:resnet-18", "lora", False),
    ("resnet-18", "random:resnet-18", "lora", True),
)
"""Name of the network, its source, the method, and whether there are numbers beside the pictures."""


def pictures(rows: int, side: int, *, numbers: bool) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {"photo": list(rng.integers(0, 256, (rows, side, side, 3), np.uint8))}
    if numbers:
        table |= {f"x{i}": rng.normal(size=rows) for i in range(3)}
    return pd.DataFrame({**table, "price": rng.normal(size=rows)})


def folders(case: tuple[str, str, str | Method, bool], home: Path, count: int) -> list[Path]:
    """Saved models that differ in every trained tensor."""
    _, source, method, numbers = case
    size = None if source == "starter" else 224
    model = MultimodalRegressor(
        method,
        encoders={"image": ImageEncoder(source, size=size), "tabular": "mlp"} if numbers
        else {"image": ImageEncoder(source, size=size)},
        training=Training(epochs=1, batch_size=8, patience=None),
        validation=0.0, device="cpu", verbose=False,
    )  # fmt: skip
    model.fit(pictures(8, 224, numbers=numbers), label="price")
    generator, found = torch.Generator().manual_seed(0), []
    for i in range(count):
        with torch.no_grad():
            for p in (p for p in model.fitted_.model.parameters() if p.requires_grad):
                p.add_(0.02 * torch.randn(p.shape, generator=generator))
        found.append(home / f"model{i}")
        save(model.fitted_, found[-1])
    return found


def seconds(many: ManyModels, table: pd.DataFrame, adapter: Any) -> tuple[float, np.ndarray]:
    since = time.process_time()
    found = many.predict(table, adapter=adapter)
    return time.process_time() - since, found.to_numpy(float)


def measured(
    case: tuple[str, str, str | Method, bool], given: argparse.Namespace
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        places = folders(case, Path(home), given.models)
        process = psutil.Process()
        many = load_many(places[:1], device="cpu")
        table = pictures(given.models, 224, numbers=case[3]).drop(columns="price")
        seconds(many, table, many.names[0])  # what is allocated once
        before, since = process.memory_info().rss, time.process_time()
        for place in places[1:]:
            many.add(place.name, place)
        loading = time.process_time() - since
        grown = process.memory_info().rss - before
        names = np.asarray(many.names, dtype=object)
        single, mixed = [], []
        for _ in range(given.turns):
            single.append(seconds(many, table, names[0])[0])
            spent, answers = seconds(many, table, names)
            mixed.append(spent)
        alone = [seconds(many, table.iloc[[i]], name)[1][0] for i, name in enumerate(names)]
    sizes, others = many.sizes(), max(given.models - 1, 1)
    return {
        "network": case[0],
        "method": case[2] if isinstance(case[2], str) else "ti-adapter bc1",
        "numbers": case[3],
        "models": given.models,
        "one_s": float(np.median(single)),
        "mixed_s": float(np.median(mixed)),
        "throughput": float(np.median(single) / np.median(mixed)),
        "difference": float(np.abs(answers - alone).max() / np.abs(alone).max()),
        "shared_mb": float(many.networks()["bytes"].sum()) / 1e6,
        "adapter_mb": float(sizes["adapter"].mean()) / 1e6,
        "grown_mb": grown / 1e6 / others,
        "load_s": loading / others,
        "turns": given.turns,
        "load": record.load(),
    }


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "out")
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--cases", type=int, nargs="*", help="numbers of cases, from 0; all by default"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(CASES):
        if given.cases is None or number in given.cases:
            rows.append(measured(case, given))
            print(rows[-1], flush=True)
    record.write(given.out, rows, record.origin("many.py", given))


if __name__ == "__main__":
    main()
