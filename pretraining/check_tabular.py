"""Measure the starter tabular encoders beside ordinary models, on tables that are not synthetic.

    python pretraining/check_tabular.py

Five-fold cross-validation; nothing is tuned. The starters answer in context, through tabicl's own
`TabICLClassifier` and `TabICLRegressor`: nothing is trained, nothing is downloaded. The tables are
those that scikit-learn carries, and friedman1, which it generates (California housing is not
carried: it would be a download).
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tabicl import TabICLClassifier, TabICLRegressor

REPOSITORY = Path(__file__).resolve().parents[1]
STARTERS = REPOSITORY / "src/multiadapt/starter"
COLUMNS = ("dataset", "model", "metric", "value", "command", "commit", "versions", "machine")
Data = tuple[np.ndarray, np.ndarray]


def classification_data() -> Iterator[tuple[str, Data]]:
    for name in ("iris", "wine", "breast_cancer"):
        yield name, getattr(datasets, f"load_{name}")(return_X_y=True)
    features, target = datasets.load_digits(return_X_y=True)
    yield "digits, first 16 columns", (features[:, :16], target)
    yield "digits", (features, target)


def regression_data() -> Iterator[tuple[str, Data]]:
    yield "diabetes", datasets.load_diabetes(return_X_y=True)
    yield "friedman1, 500 rows", datasets.make_friedman1(500, noise=1.0, random_state=0)


def checkpoint(starter: Path, folder: Path) -> Path:
    """The starter in the layout that tabicl reads: a dict of config and state_dict."""
    card = json.loads((starter / "config.json").read_text())
    tensors = load_file(starter / "model.safetensors")
    state = {name: tensor.float() for name, tensor in tensors.items()}
    path = folder / f"{starter.name}.ckpt"
    torch.save({"config": card["config"], "state_dict": state}, path)
    return path


def classifiers(path: Path) -> dict[str, BaseEstimator]:
    return {
        "starter": TabICLClassifier(model_path=path, allow_auto_download=False, device="cpu"),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
    }


def regressors(path: Path) -> dict[str, BaseEstimator]:
    return {
        "starter": TabICLRegressor(model_path=path, allow_auto_download=False, device="cpu"),
        "ridge": make_pipeline(StandardScaler(), Ridge()),
        "gradient boosting": HistGradientBoostingRegressor(random_state=0),
    }


def scores(starters: Path, folder: Path) -> Iterator[tuple[str, str, str, float]]:
    """Dataset, model, metric and the mean over five folds."""
    tasks: tuple[tuple[str, Callable, Callable, object, str], ...] = (
        ("tabular-classifier", classification_data, classifiers, StratifiedKFold, "accuracy"),
        ("tabular-regressor", regression_data, regressors, KFold, "r2"),
    )
    for starter, data, models, splitter, metric in tasks:
        if not (starters / starter).exists():
            continue
        folds = splitter(5, shuffle=True, random_state=0)
        for name, (features, target) in data():
            for model, estimator in models(checkpoint(starters / starter, folder)).items():
                value = cross_val_score(estimator, features, target, cv=folds, scoring=metric)
                yield name, model, metric, float(value.mean())


def commit() -> str:
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "uncommitted"


def machine() -> str:
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"


def provenance() -> dict[str, str]:
    packages = ("tabicl", "torch", "scikit-learn", "numpy")
    return {
        "command": "python pretraining/check_tabular.py",
        "commit": commit(),
        "versions": "; ".join(f"{package} {version(package)}" for package in packages),
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starters", type=Path, default=STARTERS)
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "benchmarks/results/starter_tabular.csv"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for dataset, model, metric, value in scores(options.starters, Path(folder)):
            print(f"{dataset:28s}{model:22s}{metric:10s}{value:.4f}", flush=True)
            row = {"dataset": dataset, "model": model, "metric": metric, "value": f"{value:.4f}"}
            writer.writerow(row | provenance())


if __name__ == "__main__":
    main()
