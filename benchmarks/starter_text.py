"""What the starter text encoder's vectors are worth on product names, beside its own random weights.

    python pretraining/text.py --steps 0 --out DIR
    python benchmarks/starter_text.py --data DATA --minilm MINILM --counted DIR/encoder --work WORK \
        --out benchmarks/results/starter_text.csv

A logistic regression on frozen vectors of the names of fashion products (Kaggle Fashion Product
Images, ids 10000 to 21539, split grouped by name). Few training rows are drawn with each seed, the
regression's strength is chosen on the validation split, accuracy is on the whole test split. MINILM
is a folder with all-MiniLM-L6-v2; DIR/encoder is the starter as counting leaves it, before the
network learns. The names only measure; the encoder was pretrained without them.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import record
import torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from transformers import AutoConfig, AutoModel

from multiadapt import TextEncoder
from multiadapt.types import Stream

TARGETS = ("season", "usage", "subCategory_ge50")
NAME = "productDisplayName"
ROWS = (100, 300, 1000)
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
COUNTED = (1.0, 10.0, 100.0, 1000.0)
"""Strengths for TF-IDF, whose numbers are smaller."""
RANDOM = "the starter's network, random weights"
STARTER = Path(__file__).resolve().parents[1] / "src/multiadapt/starter/text"

Vectors = Callable[[np.ndarray], Any]
"""From row numbers that a probe is trained on to vectors of all rows."""


def pooled(source: str, texts: list[str]) -> np.ndarray:
    """The vectors that the library's own encoder makes of texts."""
    spec = TextEncoder(source)
    encoder = spec.build(Stream(NAME, "text", ()), spec.open("classification"), "network")
    parts: list[torch.Tensor] = []
    for start in range(0, len(texts), 64):
        inputs = encoder.prepare([[text] for text in texts[start : start + 64]])
        parts.append(encoder.prefix(inputs, encoder.blocks + 1).tensors["pooled"])
    return torch.cat(parts).numpy()


def randomised(folder: Path, seed: int) -> None:
    """The starter's architecture and tokenizer with fresh weights, as transformers starts them."""
    shutil.copytree(STARTER, folder, dirs_exist_ok=True)
    torch.manual_seed(seed)
    network = AutoModel.from_config(AutoConfig.from_pretrained(STARTER), dtype=torch.float32)
    network.save_pretrained(folder)


def counted(texts: list[str]) -> Vectors:
    """TF-IDF of words and pairs of words, and of pieces of three to five letters."""

    def vectors(train: np.ndarray) -> sparse.csr_matrix:
        made = make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
        )
        made.fit([texts[i] for i in train])
        return sparse.csr_matrix(made.transform(texts))

    return vectors


def fixed(texts: list[str], options: argparse.Namespace) -> dict[str, Callable[[], Vectors]]:
    """What is the same with every seed, not yet computed."""
    sources = {
        "starter": "starter",
        "the starter after counting alone": str(options.counted),
        "all-MiniLM-L6-v2": str(options.minilm),
    }
    found = {name: cache(lambda at=at: _always(pooled(at, texts))) for name, at in sources.items()}
    return {"TF-IDF": lambda: counted(texts), **found}


def random_network(texts: list[str], seed: int) -> Vectors:
    with tempfile.TemporaryDirectory() as folder:
        randomised(Path(folder), seed)
        return _always(pooled(folder, texts))


def _always(vectors: np.ndarray) -> Vectors:
    return lambda train: vectors


def probe(x: Any, y: np.ndarray, parts: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Test accuracy of the strength that is best on the validation rows; ties: the stronger."""
    best: tuple[float, float, Any] = (-1.0, 0.0, None)
    scaled = [] if sparse.issparse(x) else [StandardScaler()]
    for strength in STRENGTHS if scaled else COUNTED:
        model = make_pipeline(*scaled, LogisticRegression(C=strength, tol=1e-3, max_iter=1000))
        model.fit(x[parts["train"]], y[parts["train"]])
        score = float(model.score(x[parts["val"]], y[parts["val"]]))
        if score > best[0]:
            best = (score, strength, model)
    test = parts["test"]
    value = float(best[2].score(x[test], y[test]))
    return {"value": value, "validation": best[0], "C": best[1]}


def measure(table: pd.DataFrame, options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One row for each encoder, target, number of rows and seed; what is in WORK is not run again."""
    texts = table[NAME].astype(str).tolist()
    same = fixed(texts, options)
    for seed in range(options.seeds):
        anew = cache(lambda seed=seed: random_network(texts, seed))
        for name, made in (same | {RANDOM: anew}).items():
            for target, rows in product(TARGETS, ROWS):
                kept = options.work / f"{name}-{target}-{rows}-{seed}.json"
                if not kept.exists():
                    y, parts = drawn(table, target, rows, seed)
                    where = {"dataset": "fashion", "target": target, "encoder": name}
                    told = {"rows": rows, "seed": seed, "metric": "accuracy"}
                    told |= probe(made()(parts["train"]), y, parts)
                    told |= {"most_common_class": most_common(y, parts)}
                    kept.write_text(json.dumps(where | told | {"commit": record.commit()}))
                row = json.loads(kept.read_text())
                print(f"{target}, {name}, {rows} rows, seed {seed}: {row['value']:.4f}", flush=True)
                yield row


def drawn(
    table: pd.DataFrame, target: str, rows: int, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The labels of all rows, and the rows of each part whose label is known."""
    known, split = table[target].notna().to_numpy(), table["split"].to_numpy()
    parts = {p: np.flatnonzero(known & (split == p)) for p in ("train", "val", "test")}
    dice = np.random.default_rng(seed)
    parts["train"] = dice.choice(parts["train"], rows, replace=False)
    return table[target].astype(str).to_numpy(), parts


def most_common(y: np.ndarray, parts: Mapping[str, np.ndarray]) -> float:
    """Test accuracy of always guessing the class that is most common in training."""
    most = pd.Series(y[parts["train"]]).mode()[0]
    return float((y[parts["test"]] == most).mean())


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(options.data / "fashion/table.csv")
    rows = list(measure(table, options))
    record.write(options.out, rows, record.origin("starter_text.py", options))


def arguments() -> argparse.Namespace:
    parser = record.parser(__doc__.splitlines()[0], "data", "minilm", "work", "out")
    parser.add_argument("--counted", type=Path, required=True, help="folder, see above")
    parser.add_argument("--seeds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
