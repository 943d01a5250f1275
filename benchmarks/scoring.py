"""Rows a second of scoring against the bare encoder's forward pass, and what half precision makes of both and of a step.

    python benchmarks/scoring.py --out benchmarks/results/scoring.csv

Networks with random weights at 128 pixels, generated pictures, two numbers and a category in an mlp encoder. The
bare side runs the frozen network over the same prepared pixels in the same batches and takes its pooled vector;
multiadapt's own adapts it, embeds the table, fuses and scores. LoRA is folded into the weights, as `fold` does.
Half precision is autocast to bfloat16 on both sides, channels last. Scoring takes turns with the bare side and with
the other precision; CPU seconds of one thread, medians of --turns. A step's are those of all steps but the first
epoch's; runs of the two precisions take turns. `score_gap` is the largest difference of scores between the two
precisions, over the deviation of the scores.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import record
import torch
from step_time import CLASSES, Library, table

from multiadapt import Training
from multiadapt.folding import folded
from multiadapt.scoring import precision, scores
from multiadapt.training import Event

CASES = (
    ("resnet-18", "embedding"),
    ("resnet-18", "bc1"),
    ("resnet-18", "bc2"),
    ("resnet-18", "lora"),
    ("vit-tiny", "lora"),
)
PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and what it gave."""
    since = time.process_time()
    found = work()
    return time.process_time() - since, found


def scoring(library: Library, given: argparse.Namespace) -> dict[str, float]:
    """Median seconds of all rows, bare and with everything, in both precisions."""
    feed, model, photo = library.feed, library.model, library.model.encoder("photo")
    cpu, recipes = torch.device("cpu"), {p: Training(precision=p) for p in PRECISIONS}

    def bare(recipe: Training) -> None:
        with torch.inference_mode(), precision(recipe, cpu):
            for batch in feed.batches(feed.in_order()):
                photo.prefix(batch["photo"], photo.blocks + 1)

    found: dict[str, list[float]] = {}
    said: dict[str, np.ndarray] = {}
    for _ in range(given.turns + 1):
        for name, recipe in recipes.items():
            spent, _ = timed(lambda r=recipe: bare(r))
            found.setdefault(f"bare_{name}", []).append(spent)
            spent, said[name] = timed(lambda r=recipe: scores(model, feed, r))
            found.setdefault(name, []).append(spent)
    gap = np.abs(said["bf16"] - said["fp32"]).max() / said["fp32"].std()
    return {k: float(np.median(v[1:])) for k, v in found.items()} | {"gap": float(gap)}


def stepping(
    case: tuple[str, str], frame: pd.DataFrame, given: argparse.Namespace
) -> dict[str, float]:
    """Median seconds of a step in both precisions."""
    found: dict[str, list[float]] = {p: [] for p in PRECISIONS}
    for _ in range(2):
        for name in PRECISIONS:
            library, since = made(case, frame), [time.process_time()]

            def tell(event: Event, since: list[float] = since, own: str = name) -> None:
                now = time.process_time()
                if event.epoch > 1 and event.metric is None and event.rows > given.batch:
                    found[own].append(now - since[0])
                since[0] = time.process_time()

            library.train(given.batch, 1 + given.turns // 2, tell, name)
    return {p: float(np.median(s)) for p, s in found.items()}


def made(case: tuple[str, str], frame: pd.DataFrame, *, pixels: bool = False) -> Library:
    labels = pd.Series(np.arange(len(frame)) % CLASSES, name="label")
    return Library(case[1], frame, labels, f"random:{case[0]}", pixels=pixels)


def measure(case: tuple[str, str], given: argparse.Namespace) -> dict[str, Any]:
    frame, load = table(given.rows), record.load()
    library = made(case, frame, pixels=True)
    lora = case[1] == "lora"
    fold = folded(library.feed.encoders, library.model.placed) if lora else contextlib.nullcontext()
    with fold:
        score = scoring(library, given)
    step = stepping(case, frame, given)
    return {
        "network": case[0],
        "method": case[1],
        "rows_s": given.rows / score["fp32"],
        "over_bare": score["bare_fp32"] / score["fp32"],
        "bf16_rows_s": given.rows / score["bf16"],
        "bf16_over_bare": score["bare_bf16"] / score["bf16"],
        "bf16_over_fp32": score["fp32"] / score["bf16"],
        "score_gap": score["gap"],
        "step_ms": 1000 * step["fp32"],
        "bf16_step_ms": 1000 * step["bf16"],
        "step_bf16_over_fp32": step["fp32"] / step["bf16"],
        "batch": given.batch,
        "turns": given.turns,
        "load": load,
    }


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "out")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    for case in CASES:
        rows.append(measure(case, given))
        print(rows[-1], flush=True)
        record.write(given.out, rows, record.origin("scoring.py", given))


if __name__ == "__main__":
    main()
