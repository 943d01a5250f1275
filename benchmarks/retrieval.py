"""Photos found by their captions: two frozen encoders, what stands between them, and ridge regression.

    python benchmarks/retrieval.py --data DATA --weights WEIGHTS --minilm MINILM --work WORK \
        --out benchmarks/results/retrieval.csv

Flickr8k at 128 pixels, five captions a photo: 2,000 training photos, 500 to stop early on, the official
1,000 for test; a hit is one of the five captions, or the one photo. The trunk is a ResNet without its last
stage, the texts' encoder all-MiniLM-L6-v2. The ridge regression maps the trunk's standardised vectors to
TF-IDF of the five captions together, its strength chosen on validation. Finished runs are kept in WORK.
"""

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import record
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize

from multiadapt import (
    Contrast,
    CrossModalRetriever,
    Dual,
    Frozen,
    ImageEncoder,
    LoRA,
    PlainLoRA,
    TextEncoder,
    Training,
    UniAdapter,
    Unified,
)
from multiadapt.methods._base import Method
from multiadapt.reports.meter import Meter
from multiadapt.tasks._retrieval_metrics import measured, paired, ranks_both_ways

PIXELS = 128
RECIPE = Training(learning_rate=1e-3, batch_size=128, epochs=60, patience=5)
BARE = "frozen, no dropout"
METHODS: Mapping[str, Method] = {
    "frozen": Frozen(),
    BARE: Frozen(),
    "lora, last 2 blocks of the text": PlainLoRA(LoRA(blocks="last 2", map_roles=()), None),
    "uniadapter, last 2 blocks of the text": UniAdapter(Unified(r=64, blocks="last 2"), None, None),
}
RIDGE = "ridge to TF-IDF"


def backbone(name: str, given: argparse.Namespace) -> Dual:
    trunk = ImageEncoder(str(given.weights / given.trunk), size=PIXELS)
    towers = {"image": trunk, "text": TextEncoder(str(given.minilm))}
    return Dual(towers, dropout=0.0 if name == BARE else None)


def run(name: str, table: pd.DataFrame, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    test = table[table["split"] == "test"]
    with Meter("cpu") as meter:
        if name == RIDGE:
            near, trained, epochs = ridge(table, given)
        else:
            model = retriever(name, seed, given)
            model.fit(
                table, query="caption", target="image", split_column="split",
                root=given.data / "flickr8k",
            )  # fmt: skip
            trained = sum(p.trainable for p in model.fitted_.model.parts())
            epochs = len(model.fitted_.info["history"]["epochs"])
    if name != RIDGE:
        root = given.data / "flickr8k"
        photos = test.drop_duplicates("image")
        near = model.embed(test, "query", root=root) @ model.embed(photos, "target", root=root).T
    found = {"method": name, "seed": seed, "trained": trained, "epochs": epochs}
    found |= {"seconds": meter.seconds, "peak_mb": meter.peak_mb, "load": record.load()}
    return found | {"commit": record.commit()} | scores(near, test)


def retriever(name: str, seed: int, given: argparse.Namespace) -> CrossModalRetriever:
    return CrossModalRetriever(
        METHODS[name],
        backbone=backbone(name, given),
        training=RECIPE,
        contrast=Contrast(momentum=None),
        column_types={"caption": "text", "image": "image"},
        seed=seed,
        device="cpu",
        verbose=False,
    )


def scores(near: np.ndarray, test: pd.DataFrame) -> dict[str, float]:
    """Both ways; a query is a row's caption, targets are the photos in the order of their first rows."""
    pairs = paired(test["caption"].tolist(), test["image"].tolist())
    forward, backward = ranks_both_ways(near, pairs.relevance)
    found: dict[str, float] = {}
    ways = (
        ("text_to_image", forward, near.shape[1], pairs.target),
        ("image_to_text", backward, near.shape[0], None),
    )
    for way, ranks, pool, groups in ways:
        told = measured(ranks, pool, groups=groups)
        for metric, estimate in told.estimates.items():
            found |= {f"{way}_{metric}": estimate.value}
            found |= {f"{way}_{metric}_low": estimate.low, f"{way}_{metric}_high": estimate.high}
        found[f"{way}_pool"] = pool
    return found


def ridge(table: pd.DataFrame, given: argparse.Namespace) -> tuple[np.ndarray, int, int]:
    """Captions' TF-IDF from photos; its strength by R@10 of the validation photos."""
    vectors = trunk_vectors(table, given)
    parts = {s: table[table["split"] == s] for s in ("train", "val", "test")}
    words = TfidfVectorizer(min_df=2, stop_words="english")
    joined = {s: p.groupby("image", sort=False)["caption"].agg(" ".join) for s, p in parts.items()}
    aim = words.fit_transform(joined["train"]).toarray()
    train = np.stack([vectors[i] for i in joined["train"].index])
    mean, spread = train.mean(0), train.std(0) + 1e-6

    def near(strength: float, split: str) -> np.ndarray:
        model = Ridge(strength).fit((train - mean) / spread, aim)
        photos = np.stack([vectors[i] for i in joined[split].index])
        said = normalize(model.predict((photos - mean) / spread))
        asked = words.transform(parts[split]["caption"]).toarray()
        return normalize(asked) @ said.T

    def hits(strength: float) -> float:
        return scores(near(strength, "val"), parts["val"])["text_to_image_r@10"]

    best = max((100.0, 1000.0, 3000.0, 10_000.0), key=hits)
    return near(best, "test"), train.shape[1] * aim.shape[1], 0


def trunk_vectors(table: pd.DataFrame, given: argparse.Namespace) -> dict[str, np.ndarray]:
    """The trunk's pooled vector of every photo, kept in WORK."""
    photos = table["image"].unique()
    names = hashlib.sha256("\n".join(photos).encode()).hexdigest()[:12]
    file = given.work / f"{given.trunk}-{names}.npz"
    if not file.exists():
        encoder = ImageEncoder(str(given.weights / given.trunk), size=PIXELS)
        model = CrossModalRetriever(
            Frozen(), backbone=Dual({"image": encoder}), training=Training(epochs=1, normalize=False),
            column_types={"a": "image", "b": "image"}, verbose=False, device="cpu",
        )  # fmt: skip
        pairs = pd.DataFrame({"a": photos[:2], "b": photos[:2]})
        root = given.data / "flickr8k"
        inner = model.fit(pairs, query="a", target="b", root=root, val_data=pairs).fitted_
        frame = pd.DataFrame({"a": photos})
        from multiadapt.data.reading import Reading

        feed = inner.feed(frame, "query", Reading(root, 1, "raise"))
        np.savez(file, vectors=feed.pooled("a").numpy())
    return dict(zip(photos, np.load(file)["vectors"], strict=True))


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each method: means over its seeds; bounds are the means of the runs' own."""
    table = pd.DataFrame(runs)
    rows: list[dict[str, Any]] = []
    for name, own in table.groupby("method", sort=False):
        commits = " ".join(sorted(set(own["commit"])))
        numbers = own.drop(columns=["method", "seed", "commit"]).mean()
        spread = own["text_to_image_r@1"].std() if len(own) > 1 else np.nan
        rows.append(
            {
                "method": name,
                **numbers,
                "seeds": len(own),
                "r@1_deviation": spread,
                "commit": commits,
            }
        )
    return rows


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "weights", "minilm", "work", "out")
    parser.add_argument("--trunk", default="resnet50-trunk")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", help="names with semicolons between them; default all")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("multiadapt").setLevel(logging.WARNING)
    table = pd.read_csv(given.data / "flickr8k/table.csv")
    asked = record.chosen(given.methods, [RIDGE, *METHODS], ";")
    given.work.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for name in [RIDGE, *METHODS]:
            seed_of = 0 if name == RIDGE else seed  # it draws nothing
            file = (
                given.work
                / f"{given.trunk}-{name.replace(' ', '-').replace(',', '')}-{seed_of}.json"
            )
            if not file.exists() and name in asked:
                file.write_text(json.dumps(run(name, table, seed_of, given)))
                print(name, seed_of, json.loads(file.read_text())["text_to_image_r@1"], flush=True)
            if file.exists() and not (name == RIDGE and seed):
                runs.append({"trunk": given.trunk, **json.loads(file.read_text())})
    origin = record.origin("retrieval.py", argparse.Namespace(**{**vars(given), "methods": None}))
    rows = [
        {"trunk": given.trunk, **row}
        for row in summary([{k: v for k, v in r.items() if k != "trunk"} for r in runs])
    ]
    record.write(given.out, rows, origin)


if __name__ == "__main__":
    main()
