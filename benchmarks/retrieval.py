"""Pictures found by their texts: two encoders, frozen or adapted, and ridge regression.

    python benchmarks/retrieval.py --data DATA --weights WEIGHTS --minilm MINILM --work WORK \
        --out benchmarks/results/retrieval.csv

Flickr8k at 128 pixels, five captions a photo: 2,000 training photos, 500 to stop early on, the official
1,000 for test; a hit is one of the five captions, or the one photo. Or --table emoji at 96 pixels, its name
and keywords the text: 1,194 to train on, 150 to stop early on, 300 for test. The trunk is a ResNet without
its last stage, the texts' encoder all-MiniLM-L6-v2. Adapters have 24,000 to 28,000 parameters inside the
networks of ResNet-18 and MiniLM, BitFit has all biases. The ridge regression maps the trunk's standardised vectors to
TF-IDF of a picture's texts together, its strength chosen on validation. Finished runs are kept in WORK.
"""

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import record
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize

from multiadapt import (
    BitFit,
    Contrast,
    ConvBottleneck,
    CrossModalRetriever,
    Dual,
    Frozen,
    Full,
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

PIXELS = {"flickr8k": 128, "emoji": 96}
RECIPE = Training(learning_rate=1e-3, batch_size=128, epochs=60, patience=5)
BARE = "frozen, no dropout"
LAST = LoRA(blocks="last 2", map_roles=())
METHODS: Mapping[str, Method] = {
    "frozen": Frozen(),
    BARE: Frozen(),
    "lora, last 2 blocks of the text": PlainLoRA(LAST, None),
    "lora, last 2 blocks of both": PlainLoRA(
        {
            "text": replace(LAST, r=5, lora_alpha=5.0),
            "image": LoRA(r=1, lora_alpha=1.0, blocks="last 2"),
        },
        None,
    ),
    "uniadapter, last 2 blocks of the text": UniAdapter(Unified(r=14, blocks="last 2"), None, None),
    "lora, all blocks of the text": PlainLoRA(LoRA(r=3, lora_alpha=3.0, map_roles=()), None),
    "uniadapter, all blocks of the text": UniAdapter(Unified(r=4), None, None),
    "uniadapter, all blocks of both": UniAdapter(Unified(r=2), ConvBottleneck(r=1), None),
    "bitfit": BitFit(),
    "full": Full(),
}
RIDGE = "ridge to TF-IDF"


def backbone(name: str, given: argparse.Namespace) -> Dual:
    trunk = ImageEncoder(str(given.weights / given.trunk), size=PIXELS[given.table])
    towers = {"image": trunk, "text": TextEncoder(str(given.minilm))}
    return Dual(towers, dropout=0.0 if name == BARE else None)


def read(given: argparse.Namespace) -> pd.DataFrame:
    """A row for each text: caption, image, split."""
    table = pd.read_csv(given.data / given.table / "table.csv")
    if given.table == "emoji":
        table["caption"] = table["name"].str.strip()
        words = table["keywords"].str.replace("|", ", ")
        table["caption"] = (table["caption"] + ", " + words).fillna(table["caption"])
    return table[["image", "caption", "split"]]


def run(name: str, table: pd.DataFrame, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    test = table[table["split"] == "test"]
    with Meter("cpu") as meter:
        if name == RIDGE:
            near, trained, epochs = ridge(table, given)
        else:
            model = retriever(name, seed, given)
            model.fit(
                table, query="caption", target="image", split_column="split",
                root=given.data / given.table,
            )  # fmt: skip
            trained = sum(p.trainable for p in model.fitted_.model.parts())
            epochs = len(model.fitted_.info["history"]["epochs"])
    if name != RIDGE:
        root = given.data / given.table
        photos = test.drop_duplicates("image")
        near = model.embed(test, "query", root=root) @ model.embed(photos, "target", root=root).T
    found = {"method": name, "seed": seed, "trained": trained, "epochs": epochs}
    found |= {"seconds": meter.seconds, "peak_mb": meter.peak_mb, "load": record.load()}
    return found | {"commit": record.commit()} | scores(near, test)


def retriever(name: str, seed: int, given: argparse.Namespace) -> CrossModalRetriever:
    return CrossModalRetriever(
        METHODS[name],
        backbone=backbone(name, given),
        training=RECIPE.with_params(
            learning_rate=(Full.training if name == "full" else RECIPE).rate,
            precision=given.precision,
        ),
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
        encoder = ImageEncoder(str(given.weights / given.trunk), size=PIXELS[given.table])
        model = CrossModalRetriever(
            Frozen(), backbone=Dual({"image": encoder}), training=Training(epochs=1, normalize=False),
            column_types={"a": "image", "b": "image"}, verbose=False, device="cpu",
        )  # fmt: skip
        pairs = pd.DataFrame({"a": photos[:2], "b": photos[:2]})
        root = given.data / given.table
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
    parser.add_argument("--table", default="flickr8k", choices=tuple(PIXELS))
    parser.add_argument("--trunk", default="resnet50-trunk")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", help="names with semicolons between them; default all")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("multiadapt").setLevel(logging.WARNING)
    table = read(given)
    asked = record.chosen(given.methods, [RIDGE, *METHODS], ";")
    given.work.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for name in [RIDGE, *METHODS]:
            seed_of = 0 if name == RIDGE else seed  # it draws nothing
            what = "" if given.table == "flickr8k" else f"{given.table}-"
            what += "bf16-" if given.precision == "bf16" else ""
            what += f"{given.trunk}-{name.replace(' ', '-').replace(',', '')}"
            file = given.work / f"{what}-{seed_of}.json"
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
