"""Season of a product from its photo and attributes: TI-Adapter, its siblings, and two outside baselines.

    python benchmarks/fashion.py --data DATA --weights WEIGHTS --work WORK \
        --out benchmarks/results/fashion.csv

1,500 training rows drawn with each seed, the whole validation and test splits. ResNet-18 without
stage 4 at 128 pixels. Differences are against the better of the two outside baselines.
"""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fashion_baselines as outside
import pandas as pd
import record
import torch
from comparison import Comparison, drawn

from multiadapt import (
    Frozen,
    Full,
    ImageEncoder,
    ImageOnly,
    MultimodalClassifier,
    TabularOnly,
    TIAdapter,
    Training,
    Trees,
)
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.methods._base import Method
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.reports.compare import Design

ATTRIBUTES = ("gender", "masterCategory", "subCategory", "baseColour")
LABEL = "season"
TRAINING_ROWS = 1500
PIXELS = 128

RECIPE = Training()
METHODS: Mapping[str, tuple[Method, Training]] = {
    "trees": (Trees(), RECIPE),
    "tabular only": (TabularOnly(), RECIPE),
    "image only (frozen)": (ImageOnly(image=None), RECIPE),
    "image only (bc1)": (ImageOnly(ImageBranch("bc1")), RECIPE),
    "frozen": (Frozen(), RECIPE),
    "frozen + tabular adapter": (Frozen(Bottleneck()), RECIPE),
    "ti-adapter embedding": (TIAdapter(ImageBranch("embedding")), RECIPE),
    "ti-adapter bc1": (TIAdapter(ImageBranch("bc1")), RECIPE),
    "ti-adapter bc2": (TIAdapter(ImageBranch("bc2")), RECIPE),
    "ti-adapter bc3": (TIAdapter(ImageBranch("bc3")), RECIPE),
    "full": (Full(), RECIPE.with_params(learning_rate=1e-4)),
    "full + tabular adapter": (Full(Bottleneck()), RECIPE.with_params(learning_rate=1e-4)),
    "frozen (raw embedding)": (Frozen(), RECIPE.with_params(normalize=False)),
    "ti-adapter bc1 (raw embedding)": (
        TIAdapter(ImageBranch("bc1")),
        RECIPE.with_params(normalize=False),
    ),
}
OUTSIDE = ("linear probe", "hand-written conv adapter")


def read(data: Path) -> pd.DataFrame:
    table = pd.read_csv(data / "fashion/table.csv")
    return table[["image", *ATTRIBUTES, LABEL, "split"]]


def estimator(
    method: Method, training: Training, given: argparse.Namespace
) -> MultimodalClassifier:
    trunk = ImageEncoder(str(given.weights / "resnet18-trunk"), size=PIXELS)
    return MultimodalClassifier(
        method,
        encoders={"image": trunk, "tabular": given.tabular},
        training=training,
        column_types={"image": "image", **dict.fromkeys(ATTRIBUTES, "categorical")},
        device="cpu",
        verbose=False,
    )


def work(given: argparse.Namespace) -> list[dict[str, Any]]:
    table = read(given.data)
    design = Design(LABEL, split_column="split", seeds=given.seeds, root=given.data / "fashion")
    all_runs = drawn(table["split"].to_numpy(), given.seeds, TRAINING_ROWS)
    comparison = Comparison(table, design, all_runs, given.work)
    asked = record.chosen(given.methods, [*METHODS, *OUTSIDE])
    unknown = set(asked) - {*METHODS, *OUTSIDE}
    if unknown:
        raise SystemExit(f"no method is named {sorted(unknown)}; there are {[*METHODS, *OUTSIDE]}")
    for run in all_runs:
        for name in sorted(
            [*METHODS, *OUTSIDE], key=lambda n: asked.index(n) if n in asked else 99
        ):
            if name in OUTSIDE:
                trunk = given.weights / "resnet18-trunk"
                setting = outside.Setting(table, design.root, trunk, run, LABEL, ATTRIBUTES, PIXELS)
                make = outside.PROBES[name]
                options = {"recipe": make.__doc__, "pixels": PIXELS}
                comparison.add(
                    name, options, run, lambda m=make, s=setting: m(s), fit=name in asked
                )
            else:
                one = estimator(*METHODS[name], given)
                comparison.estimator(name, one, run, fit=name in asked)
    order = [*METHODS, *OUTSIDE]
    rows = comparison.rows(OUTSIDE, "accuracy")
    return sorted(rows, key=lambda row: order.index(row["method"]))


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "weights", "work", "out")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", help="names with commas between them; default all")
    parser.add_argument("--tabular", default="mlp", help="the tabular encoder: mlp or starter")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("multiadapt").setLevel(logging.WARNING)
    origin = record.origin("fashion.py", argparse.Namespace(**{**vars(given), "methods": None}))
    rows = [{"tabular": given.tabular, **row} for row in work(given)]
    record.write(given.out, rows, origin)


if __name__ == "__main__":
    main()
