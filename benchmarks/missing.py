"""What a missing modality costs: U2A, its fillings and its options beside other methods, on real tables.

    python benchmarks/missing.py --data DATA --weights WEIGHTS --minilm MINILM --work WORK \
        --out benchmarks/results/missing_season.csv

Season (or usage) of a product from its photo, its name and four attributes: ResNet-18 without stage 4 at
128 pixels, all-MiniLM-L6-v2, a trained network of the attributes. 1,500 training rows drawn with each
seed, none of them with a hole; the whole validation and test splits. Every fit is scored with each set of
modalities removed from the test rows, from which the curves over missing rates are made.

U2A's corrections sit in the last two blocks of each network, so that those before are computed once a
fit; "all blocks" is its own default. Differences are against "u2a".
"""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import record
import torch
from coalitions import Runs
from comparison import drawn

from multiadapt import (
    U2A,
    BitFit,
    Frozen,
    Full,
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
from multiadapt.missing.mean import Mean
from multiadapt.missing.token import MaskToken
from multiadapt.missing.zero import Zero
from multiadapt.reports.compare import Design

ATTRIBUTES = ("gender", "masterCategory", "subCategory", "baseColour")
NAME = "productDisplayName"
TRAINING_ROWS = 1500
LEAST_ROWS = 50
"""Classes with fewer rows in the whole table are left out: usage has two such."""
PIXELS = 128
BASE = "u2a"

LAST = LoRA(
    r=1,
    lora_alpha=1,
    roles=("query", "key", "value", "out", "ffn_in", "ffn_out"),
    blocks="last 2",
)


@dataclass(frozen=True)
class Entry:
    method: Method
    training: Training = Training()
    without: tuple[str, ...] = ()
    """Columns that it does not read."""


def u2a(missing: MaskToken | Zero | Mean | None = None, **options: object) -> Entry:
    adapter = replace(LAST, **options)  # type: ignore[arg-type]
    return Entry(U2A(adapter, missing=missing or MaskToken()))


METHODS: Mapping[str, Entry] = {
    "frozen": Entry(Frozen()),
    "ti-adapter bc1": Entry(TIAdapter(ImageBranch("bc1"))),
    "lora": Entry(PlainLoRA(replace(LAST, r=8, lora_alpha=8.0))),
    "bitfit": Entry(BitFit()),
    "full": Entry(Full(), Full.training),
    BASE: u2a(),
    "u2a, zeros": u2a(Zero()),
    "u2a, mean": u2a(Mean()),
    "u2a, zeros and dropping": u2a(Zero(drop=None)),
    "u2a, mean and dropping": u2a(Mean(drop=None)),
    "u2a, tokens without dropping": u2a(MaskToken(drop=0.0)),
    "u2a, r 4": u2a(r=4, lora_alpha=4.0),
    "u2a, r 16": u2a(r=16, lora_alpha=16.0),
    "u2a, alignment 0": u2a(MaskToken(alignment=0.0)),
    "u2a, alignment 0.1": u2a(MaskToken(alignment=0.1)),
    "u2a, alignment 0.5": u2a(MaskToken(alignment=0.5)),
    "u2a, full visibility": u2a(MaskToken(visibility="full")),
    "u2a, photo and name": replace(u2a(), without=ATTRIBUTES),
    "u2a, photo and attributes": replace(u2a(), without=(NAME,)),
    "u2a, name and attributes": replace(u2a(), without=("image",)),
    "u2a, all blocks": u2a(blocks=None),
    "lora, all blocks": Entry(PlainLoRA(replace(LAST, r=8, lora_alpha=8.0, blocks=None))),
}


def read(data: Path, label: str) -> pd.DataFrame:
    table = pd.read_csv(data / "fashion/table.csv")
    counts = table[label].value_counts()
    kept = table[table[label].isin(counts.index[counts >= LEAST_ROWS])].reset_index(drop=True)
    return kept[["image", NAME, *ATTRIBUTES, label, "split"]]


def estimator(entry: Entry, given: argparse.Namespace) -> MultimodalClassifier:
    kinds = {"image": "image", NAME: "text", **dict.fromkeys(ATTRIBUTES, "categorical")}
    encoders = {
        "image": ImageEncoder(str(given.weights / "resnet18-trunk"), size=PIXELS),
        "text": TextEncoder(str(given.minilm)),
        "tabular": "mlp",
    }
    read = {column: kind for column, kind in kinds.items() if column not in entry.without}
    return MultimodalClassifier(
        entry.method,
        encoders={m: e for m, e in encoders.items() if _reads(m, read)},
        training=entry.training.with_params(precision=given.precision),
        column_types=read | dict.fromkeys(entry.without, "ignore"),
        device="cpu",
        verbose=False,
    )


def _reads(modality: str, kinds: Mapping[str, str]) -> bool:
    return modality in kinds.values() or (modality == "tabular" and "categorical" in kinds.values())


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "weights", "minilm", "work", "out")
    parser.add_argument("--label", default="season", choices=("season", "usage"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", help="names with semicolons between them; default all")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    given = parser.parse_args()
    asked = record.chosen(given.methods, list(METHODS), ";")
    if unknown := set(asked) - set(METHODS):
        raise SystemExit(f"no method is named {sorted(unknown)}; there are {list(METHODS)}")
    torch.set_num_threads(given.threads)
    logging.getLogger("multiadapt").setLevel(logging.WARNING)
    table = read(given.data, given.label)
    design = Design(
        given.label, split_column="split", seeds=given.seeds, root=given.data / "fashion"
    )
    runs = drawn(table["split"].to_numpy(), given.seeds, TRAINING_ROWS)
    found = Runs(table, design, runs, given.work)
    for run in found.runs:
        for name, entry in METHODS.items():
            found.add(name, estimator(entry, given), run, fit=name in asked)
    origin = record.origin("missing.py", argparse.Namespace(**{**vars(given), "methods": None}))
    rows = sorted(found.rows(BASE), key=lambda row: list(METHODS).index(row["method"]))
    record.write(given.out, [{"label": given.label, **row} for row in rows], origin)


if __name__ == "__main__":
    main()
