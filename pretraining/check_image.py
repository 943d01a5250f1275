"""Linear probes of the starter image encoder: what are its frozen embeddings worth?

Compares the starter, the same network with random weights and an ImageNet ResNet-18 without its
last stage on two folders of real photos, which only measure and are not part of this project:

    python pretraining/check_image.py --data DATA --trunk RESNET18 \
        --out benchmarks/results/starter_image.csv

`DATA` holds `fashion/table.csv` and `houses/table.csv`, each with its pictures; `RESNET18` is a
folder that `transformers.AutoModel.from_pretrained` opens.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import torch
import transformers
from jaxtyping import Float, Int
from PIL import Image
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import AutoConfig, AutoModel

STARTER = Path(__file__).resolve().parents[1] / "src/multiadapt/starter/image"
FASHION_TARGETS = ("season", "subCategory_ge50")
HOUSE_PHOTOS = ("img_frontal", "img_bedroom", "img_bathroom", "img_kitchen")
TRAINING_ROWS = 1500
STRENGTHS = tuple(10.0**power for power in np.arange(-4.0, -0.4, 0.5))
COLUMNS = ("dataset", "target", "encoder", "metric", "value", "low", "high")
COLUMNS_OF_ORIGIN = ("command", "commit", "versions", "machine")


@dataclass(frozen=True)
class Probe:
    """One measured number with its 95 % bootstrap interval."""

    dataset: str
    target: str
    encoder: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Settings:
    """How a folder's preprocessor_config.json wants its pictures."""

    height: int
    width: int
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path, size: int | None = None) -> "Settings":
        """`size` overrides the folder's own, to compare sizes on a validation split."""
        raw = json.loads((folder / "preprocessor_config.json").read_text())
        height, width = size or raw["size"]["height"], size or raw["size"]["width"]
        return cls(height, width, raw["resample"], raw["image_mean"], raw["image_std"])


class Pictures:
    """Picture files, prepared a batch at a time."""

    def __init__(self, paths: Sequence[Path], settings: Settings) -> None:
        self.paths = tuple(paths)
        self.settings = settings

    def batches(self, rows: int = 128) -> Iterator[Float[torch.Tensor, "b 3 height width"]]:
        for start in range(0, len(self.paths), rows):
            chosen = self.paths[start : start + rows]
            yield torch.stack([self._prepare(path) for path in chosen])

    def _prepare(self, path: Path) -> Float[torch.Tensor, "3 height width"]:
        to = self.settings
        with Image.open(path) as picture:
            resized = picture.convert("RGB").resize((to.width, to.height), to.resample)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        return (pixels - torch.tensor(to.mean)[:, None, None]) / torch.tensor(to.std)[:, None, None]


def embed(network: nn.Module, pictures: Pictures) -> Float[np.ndarray, "b d"]:
    """The mean over positions of the last feature map, one row per picture."""
    network.eval()
    with torch.inference_mode():
        rows = [network(batch).last_hidden_state.mean((2, 3)) for batch in pictures.batches()]
    return torch.cat(rows).numpy()


def random_network(folder: Path, seed: int) -> nn.Module:
    """The architecture of `folder` as transformers initialises it."""
    torch.manual_seed(seed)
    return AutoModel.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)


def calibrate(network: nn.Module, pictures: Pictures) -> nn.Module:
    """Fill the BatchNorm statistics from real pictures; weights and labels stay out of it."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over batches
    network.train()
    with torch.inference_mode():
        for batch in pictures.batches():
            network(batch)
    return network.eval()


def bootstrap(
    metric: object, truth: np.ndarray, answer: np.ndarray, seed: int
) -> tuple[float, float]:
    """95 % interval of `metric` when the measured rows are drawn again 1,000 times."""
    generator = np.random.default_rng(seed)
    draws = [generator.integers(len(truth), size=len(truth)) for _ in range(1000)]
    low, high = np.percentile([metric(truth[rows], answer[rows]) for rows in draws], [2.5, 97.5])
    return float(low), float(high)


def fit_classifier(
    train: Float[np.ndarray, "b d"], labels: np.ndarray, strength: float
) -> LogisticRegression:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(
        train, labels
    )


def best_classifier(
    train: Float[np.ndarray, "b d"],
    train_labels: np.ndarray,
    val: Float[np.ndarray, "v d"],
    val_labels: np.ndarray,
) -> tuple[LogisticRegression, float]:
    """The probe whose strength does best on the validation split, and its accuracy there."""
    fitted = [fit_classifier(train, train_labels, strength) for strength in STRENGTHS]
    scores = [probe.score(val, val_labels) for probe in fitted]
    best = int(np.argmax(scores))
    return fitted[best], float(scores[best])


class Fashion:
    """Product photos: 1,500 training rows drawn with a seed, the whole val and test splits."""

    name = "fashion"

    def __init__(self, data: Path, seed: int) -> None:
        table = pd.read_csv(data / "fashion/table.csv")
        train = table[table.split == "train"].sample(TRAINING_ROWS, random_state=seed)
        rest = table[table.split != "train"]
        self.table = pd.concat([train, rest], ignore_index=True)
        self.paths = [data / "fashion" / name for name in self.table.image]
        self.seed = seed

    def training_paths(self) -> list[Path]:
        chosen = self.table.split == "train"
        return [path for path, keep in zip(self.paths, chosen, strict=True) if keep]

    def validate(self, embedding: Float[np.ndarray, "b d"]) -> dict[str, float]:
        """Accuracy on the validation split, for design choices; the test split stays closed."""
        return {target: self._fit(embedding, target)[1] for target in FASHION_TARGETS}

    def measure(self, embedding: Float[np.ndarray, "b d"], encoder: str) -> list[Probe]:
        return [self._measure(embedding, target, encoder) for target in FASHION_TARGETS]

    def _rows(self, target: str, split: str) -> Int[np.ndarray, " n"]:
        chosen = (self.table.split == split) & self.table[target].notna()
        return np.flatnonzero(chosen)

    def _fit(
        self, embedding: Float[np.ndarray, "b d"], target: str
    ) -> tuple[LogisticRegression, float]:
        labels = self.table[target].to_numpy(dtype=object)
        train, val = self._rows(target, "train"), self._rows(target, "val")
        return best_classifier(embedding[train], labels[train], embedding[val], labels[val])

    def _measure(self, embedding: Float[np.ndarray, "b d"], target: str, encoder: str) -> Probe:
        probe, _ = self._fit(embedding, target)
        test = self._rows(target, "test")
        truth = self.table[target].to_numpy(dtype=object)[test].astype(str)
        answer = probe.predict(embedding[test]).astype(str)
        low, high = bootstrap(accuracy_score, truth, answer, self.seed)
        value = accuracy_score(truth, answer)
        return Probe(self.name, target, encoder, "accuracy", value, low, high)


class Houses:
    """Log price from the mean embedding of a house's four photos, 5 folds repeated 10 times."""

    name = "houses"

    def __init__(self, data: Path, seed: int) -> None:
        self.table = pd.read_csv(data / "houses/table.csv")
        self.price = np.log(self.table.price_usd.to_numpy())
        names = self.table[list(HOUSE_PHOTOS)].to_numpy().ravel()
        self.paths = [data / "houses" / name for name in names]
        self.seed = seed

    def training_paths(self) -> list[Path]:
        kept = np.repeat((self.table.split == "train").to_numpy(), len(HOUSE_PHOTOS))
        return [path for path, keep in zip(self.paths, kept, strict=True) if keep]

    def measure(self, embedding: Float[np.ndarray, "b d"], encoder: str) -> list[Probe]:
        house = embedding.reshape(len(self.table), len(HOUSE_PHOTOS), -1).mean(1)
        repeats = [self._out_of_fold(house, self.seed + repeat) for repeat in range(10)]
        value = float(np.mean([r2_score(self.price, answer) for answer in repeats]))

        def mean_r2(rows: np.ndarray, _: np.ndarray) -> float:
            return float(np.mean([r2_score(self.price[rows], answer[rows]) for answer in repeats]))

        rows = np.arange(len(self.table))
        low, high = bootstrap(mean_r2, rows, rows, self.seed)
        return [Probe(self.name, "log price_usd", encoder, "R2", value, low, high)]

    def _out_of_fold(self, house: Float[np.ndarray, "b d"], seed: int) -> Float[np.ndarray, " b"]:
        answer = np.empty(len(house))
        for train, test in KFold(5, shuffle=True, random_state=seed).split(house):
            probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 5, 17)))
            answer[test] = probe.fit(house[train], self.price[train]).predict(house[test])
        return answer


def probe_dataset(dataset: Fashion | Houses, trunk: Path, seed: int) -> Iterator[Probe]:
    """Every encoder on one dataset."""
    ours, theirs = Settings.read(STARTER), Settings.read(trunk)
    pictures = Pictures(dataset.paths, ours)
    starter = AutoModel.from_pretrained(STARTER, dtype=torch.float32)
    yield from dataset.measure(embed(starter, pictures), "starter")
    untrained = random_network(STARTER, seed)
    yield from dataset.measure(embed(untrained, pictures), "random weights")
    calibrate(untrained, Pictures(dataset.training_paths(), ours))
    yield from dataset.measure(embed(untrained, pictures), "random weights, calibrated batch norm")
    resnet = AutoModel.from_pretrained(trunk, dtype=torch.float32)
    large = Pictures(dataset.paths, theirs)
    yield from dataset.measure(embed(resnet, large), "ResNet-18 without stage 4 (ImageNet)")


def machine() -> str:
    """Processor model and number of cores, nothing that names the computer."""
    model = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"


def git(*words: str) -> str:
    """What git answers about this repository; nothing where there is none."""
    here = Path(__file__).parents[1]
    return subprocess.run(
        ["git", *words], check=False, cwd=here, capture_output=True, text=True
    ).stdout.strip()


def commit() -> str:
    """The commit, with a plus where the weights or this script differ from it."""
    name = git("rev-parse", "--verify", "-q", "HEAD")
    changed = git("status", "--porcelain", "--", str(STARTER), __file__)
    return name + ("+" if changed else "") if name else "uncommitted"


def origin(seed: int) -> tuple[str, str, str, str]:
    command = f"python pretraining/check_image.py --data DATA --trunk RESNET18 --seed {seed}"
    versions = (
        f"python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, scikit-learn {sklearn.__version__}"
    )
    return command, commit(), versions, machine()


def write(probes: Sequence[Probe], out: Path, seed: int) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS + COLUMNS_OF_ORIGIN)
        for probe in probes:
            numbers = [f"{number:.4f}" for number in (probe.value, probe.low, probe.high)]
            what = [probe.dataset, probe.target, probe.encoder, probe.metric]
            table.writerow([*what, *numbers, *origin(seed)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of fashion/ and houses/")
    parser.add_argument("--trunk", type=Path, required=True, help="folder of the ResNet-18 trunk")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/starter_image.csv"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    probes = []
    for dataset in (Fashion, Houses):
        measured = dataset(arguments.data, arguments.seed)
        for probe in probe_dataset(measured, arguments.trunk, arguments.seed):
            print(f"{probe.dataset:8} {probe.target:17} {probe.encoder:38} {probe.value:.4f}")
            probes.append(probe)
    write(probes, arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
