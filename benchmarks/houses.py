"""Price of a house from four photos and a few numbers: TI-Adapter and its siblings over five folds.

    python benchmarks/houses.py --data DATA --weights WEIGHTS --work WORK \
        --out benchmarks/results/houses.csv

The logarithm of the price is learned; R2 of the logarithm is compared. Without the zipcode (that is,
from the house alone) and with it, as a categorical column: neighbours share it, its size means nothing.
The four photo columns share one network and its adapters. Photos at 128 pixels.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import record
import torch
from comparison import Comparison

from multiadapt import (
    Frozen,
    Full,
    ImageEncoder,
    ImageOnly,
    MultimodalRegressor,
    TabularOnly,
    TIAdapter,
    Training,
    Trees,
)
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.methods._base import Method
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.reports.compare import Design, _runs

NUMBERS = ("bedrooms", "bathrooms", "area_sqft")
PHOTOS = ("img_frontal", "img_bedroom", "img_bathroom", "img_kitchen")
LABEL = "price_usd"
PIXELS = 128
FOLDS = 5

RECIPE = Training(batch_size=32)
METHODS: dict[str, tuple[Method, Training]] = {
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
}
BASE = "frozen"


def read(data: Path, *, zipcode: bool) -> pd.DataFrame:
    table = pd.read_csv(data / "houses/table.csv")
    return table[[*NUMBERS, *(["zipcode"] if zipcode else []), *PHOTOS, LABEL]]


def estimator(
    method: Method, training: Training, trunk: str, given: argparse.Namespace, table: pd.DataFrame
) -> MultimodalRegressor:
    kinds: dict[str, Any] = dict.fromkeys(NUMBERS, "numeric") | dict.fromkeys(PHOTOS, "image")
    if "zipcode" in table:
        kinds["zipcode"] = "categorical"
    image = ImageEncoder(str(given.weights / trunk), size=PIXELS)
    return MultimodalRegressor(
        method,
        encoders={"image": image, "tabular": given.tabular},
        training=training,
        column_types=kinds,
        target="log",
        device="cpu",
        verbose=False,
    )


def work(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    asked = record.chosen(given.methods, list(METHODS))
    for zipcode in (False, True):
        table = read(given.data, zipcode=zipcode)
        design = Design(LABEL, folds=FOLDS, root=given.data / "houses")
        runs = _runs(design, table, classes=False)
        for trunk in ("resnet18-trunk", "resnet50-trunk"):
            comparison = Comparison(table, design, runs, given.work)
            fit = (given.only_zipcode == zipcode) and given.trunk == trunk
            for run in runs[: given.folds]:
                for name, (method, training) in METHODS.items():
                    one = estimator(method, training, trunk, given, table)
                    comparison.estimator(name, one, run, fit=fit and name in asked)
            place = {"zipcode": "with" if zipcode else "without", "trunk": trunk}
            command = _command(given, trunk, zipcode=zipcode)
            for row in comparison.rows((BASE,), "r2_log"):
                yield {**place, "tabular": given.tabular, **row, "command": command}


def _command(given: argparse.Namespace, trunk: str, *, zipcode: bool) -> str:
    """What makes these rows, whichever call fitted which of them."""
    own = {"methods": None, "folds": None, "trunk": trunk, "only_zipcode": zipcode}
    return record.command("houses.py", argparse.Namespace(**{**vars(given), **own}))


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "weights", "work", "out")
    parser.add_argument(
        "--folds", type=int, default=FOLDS, help="run the first so many of five folds"
    )
    parser.add_argument("--methods", help="names with commas between them; default all")
    parser.add_argument("--trunk", default="resnet18-trunk")
    parser.add_argument(
        "--only-zipcode", action="store_true", help="fit with the zipcode, not without"
    )
    parser.add_argument("--tabular", default="mlp", help="the tabular encoder: mlp or starter")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("multiadapt").setLevel(logging.WARNING)
    rows = list(work(given))
    record.write(given.out, rows, record.origin("houses.py", given))


if __name__ == "__main__":
    main()
