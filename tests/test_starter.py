"""The starter encoders inside the package: small, and worth having."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoConfig, AutoModel

from multiadapt import ImageEncoder, MultimodalClassifier, MultimodalRegressor, Training
from multiadapt.data.images import read_image
from multiadapt.data.reading import Reading
from multiadapt.types import Stream

STARTER = Path(str(files("multiadapt") / "starter"))
QUICK = Training(epochs=20, batch_size=32, learning_rate=1e-2)


def test_starters_for_tables_and_pictures_take_less_than_6_mb() -> None:
    names = ("image", "tabular-classifier", "tabular-regressor")
    found = [f for name in names for f in (STARTER / name).rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in found) < 6_000_000


def test_starters_are_json_and_safetensors() -> None:
    suffixes = {f.suffix for f in STARTER.rglob("*") if f.is_file()}
    assert suffixes == {".json", ".safetensors", ".md"}


def test_table_starter_classifies_iris() -> None:
    frame = load_iris(as_frame=True).frame.sample(frac=1, random_state=0)
    model = MultimodalClassifier(
        "tabular-only", encoders={"tabular": "starter"}, training=QUICK, verbose=False
    )
    model.fit(frame[:100], label="target")
    assert model.evaluate(frame[100:]).loc["accuracy", "value"] > 0.9


def test_table_starter_regresses_diabetes() -> None:
    frame = load_diabetes(as_frame=True).frame.sample(frac=1, random_state=0)
    model = MultimodalRegressor(
        "tabular-only", encoders={"tabular": "starter"}, training=QUICK, verbose=False
    )
    model.fit(frame[:300], label="target")
    assert model.evaluate(frame[300:]).loc["r2", "value"] > 0.3


def test_image_starter_beats_its_random_weights(shop: Path, tmp_path: Path) -> None:
    """Whether the thing on a photo is round: a linear probe, 5 folds of 80 photos."""
    torch.manual_seed(0)
    random = AutoModel.from_config(AutoConfig.from_pretrained(STARTER / "image"))
    random.save_pretrained(tmp_path)
    preparation = (STARTER / "image" / "preprocessor_config.json").read_text()
    (tmp_path / "preprocessor_config.json").write_text(preparation)
    table = pd.read_csv(shop / "table.csv").dropna(subset="photo")
    is_round = table["kind"].isin(["cup", "bowl"])
    cells = Reading(shop).items(table["photo"], read_image)
    found: list[float] = []
    for source in ("starter", str(tmp_path)):
        spec = ImageEncoder(source)
        encoder = spec.build(Stream("photo", "image", ()), spec.open("classification"), "network")
        pooled = encoder.prefix(encoder.prepare(cells), encoder.blocks + 1).tensors["pooled"]
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        found.append(float(np.mean(cross_val_score(probe, pooled.numpy(), is_round, cv=5))))
    assert found[0] > 0.9
    assert found[0] > found[1] + 0.1
