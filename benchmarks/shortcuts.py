"""What training sooner costs in accuracy: adapters in the last blocks alone, and half precision.

    python benchmarks/shortcuts.py --data DATA --weights WEIGHTS --minilm MINILM --work WORK \
        --out benchmarks/results/shortcuts.csv

Season of a product, 1,500 training rows drawn with each seed, the whole validation and test splits: from its
name by LoRA in all-MiniLM-L6-v2 (six blocks), and from its photo at 128 pixels and four attributes by
TI-Adapter bc1 in ResNet-18 without stage 4. Differences are against the first of each, which is in all blocks
and in fp32. Seconds are those of a whole fit that finds nothing in the cache. Finished runs are kept in WORK.
"""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace

import record
import torch
from comparison import Comparison, drawn
from fashion import ATTRIBUTES, LABEL, PIXELS, TRAINING_ROWS
from missing import NAME, read

from multiadapt import (
    Frozen,
    ImageEncoder,
    LoRA,
    MultimodalClassifier,
    PlainLoRA,
    TextEncoder,
    TIAdapter,
    Training,
)
from multiadapt.methods._base import Method
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.reports.compare import Design

HALF = Training(precision="bf16")
LORA = LoRA(r=8, lora_alpha=8.0)
NAMES: Mapping[str, tuple[Method, Training]] = {
    "lora": (PlainLoRA(LORA), Training()),
    "lora, last 4": (PlainLoRA(replace(LORA, blocks="last 4")), Training()),
    "lora, last 2": (PlainLoRA(replace(LORA, blocks="last 2")), Training()),
    "frozen": (Frozen(), Training()),
    "lora, bf16": (PlainLoRA(LORA), HALF),
}
PHOTOS: Mapping[str, tuple[Method, Training]] = {
    "bc1": (TIAdapter(ImageBranch("bc1")), Training()),
    "bc1, bf16": (TIAdapter(ImageBranch("bc1")), HALF),
}


def estimator(
    method: Method, training: Training, given: argparse.Namespace, *, photos: bool
) -> MultimodalClassifier:
    trunk = ImageEncoder(str(given.weights / "resnet18-trunk"), size=PIXELS)
    kinds, encoders = {NAME: "text"}, {"text": TextEncoder(str(given.minilm))}
    if photos:
        kinds = {"image": "image", **dict.fromkeys(ATTRIBUTES, "categorical")}
        encoders = {"image": trunk, "tabular": "mlp"}
    return MultimodalClassifier(
        method,
        encoders=encoders,
        training=training,
        column_types={**dict.fromkeys([NAME, "image", *ATTRIBUTES], "ignore"), **kinds},
        device="cpu",
        verbose=False,
    )


def work(given: argparse.Namespace) -> list[dict[str, object]]:
    table = read(given.data, LABEL)
    design = Design(LABEL, split_column="split", seeds=given.seeds, root=given.data / "fashion")
    runs = drawn(table["split"].to_numpy(), given.seeds, TRAINING_ROWS)
    asked = record.chosen(given.methods, [*NAMES, *PHOTOS], ";")
    rows: list[dict[str, object]] = []
    for methods in (NAMES, PHOTOS):
        comparison = Comparison(table, design, runs, given.work)
        for run in runs:
            for name, (method, training) in methods.items():
                one = estimator(method, training, given, photos=methods is PHOTOS)
                comparison.estimator(name, one, run, fit=name in asked)
        rows += comparison.rows(list(methods)[:1], "accuracy")
    return rows


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "weights", "minilm", "work", "out")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", help="names with semicolons between them; default all")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("multiadapt").setLevel(logging.WARNING)
    origin = record.origin("shortcuts.py", argparse.Namespace(**{**vars(given), "methods": None}))
    record.write(given.out, work(given), origin)


if __name__ == "__main__":
    main()
