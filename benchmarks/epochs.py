"""What an epoch costs where the frozen part is kept, against one that computes it again.

    python benchmarks/epochs.py --data DATA --weights WEIGHTS --out benchmarks/results/epochs.csv

Fashion's photos at 224 pixels beside an mlp encoder, TI-Adapter, a batch of 32. "again" decodes every
picture and runs the whole network in every epoch (memory=0 and no cache); "kept" is what `fit` does by
itself. Seconds of the second and later epochs without validation, the median of --turns in which both
take turns; the losses of both agree.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd
import record
import torch

from multiadapt import ImageEncoder, MultimodalClassifier, TIAdapter, Training
from multiadapt.methods._image_branch import ImageBranch

CASES = [
    ("random:resnet-50", "embedding"),
    ("random:resnet-50", "bc1"),
    ("random:resnet-50", "bc2"),
    ("resnet50-trunk", "bc1"),
    ("resnet50-trunk", "bc2"),
]
COLUMNS = ["image", "gender", "season"]


def seconds(source: str, variant: str, memory: float, given: argparse.Namespace) -> dict[str, Any]:
    """Of each epoch, and its loss."""
    table = pd.read_csv(given.data / "fashion/table.csv")[COLUMNS]
    place = source if source.startswith("random:") else str(given.weights / source)
    model = MultimodalClassifier(
        TIAdapter(ImageBranch(variant)),  # type: ignore[arg-type]
        encoders={"image": ImageEncoder(place, size=224), "tabular": "mlp"},
        training=Training(
            epochs=given.epochs, batch_size=32, patience=None, precision=given.precision
        ),
        validation=0.0, memory=memory, device="cpu", verbose=False,
    )  # fmt: skip
    torch.manual_seed(0)  # weights that no checkpoint names
    model.fit(table.iloc[: given.rows], label="season", root=given.data / "fashion")
    epochs = model.fitted_.info["history"]["epochs"]
    ends = [epoch["seconds"] for epoch in epochs]
    return {"seconds": np.diff(ends).tolist(), "loss": [epoch["loss"] for epoch in epochs]}


def case(source: str, variant: str, given: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, list[float]] = {"again": [], "kept": []}
    for _ in range(given.turns):
        turn = {
            name: seconds(source, variant, memory, given)
            for name, memory in (("again", 0.0), ("kept", 8.0))
        }
        if not np.allclose(turn["again"]["loss"], turn["kept"]["loss"], rtol=given.tolerance):
            raise SystemExit(f"{source} {variant}: the losses differ: {turn}")
        for name in found:
            found[name] += turn[name]["seconds"]
    median = {name: float(np.median(all_)) for name, all_ in found.items()}
    return {
        "source": source,
        "variant": variant,
        "precision": given.precision,
        "rows": given.rows,
        "again_s": median["again"],
        "kept_s": median["kept"],
        "again_over_kept": median["again"] / median["kept"],
        "turns": given.turns,
        "load": record.load(),
    }


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "weights", "out")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of losses, relative")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    for source, variant in CASES:
        rows.append(case(source, variant, given))
        print(rows[-1], flush=True)
    record.write(given.out, rows, record.origin("epochs.py", given))


if __name__ == "__main__":
    main()
