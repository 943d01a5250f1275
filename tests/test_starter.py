"""The starter encoders inside the package: small, and worth having."""

import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

from multiadapt import (
    ImageEncoder,
    MultimodalClassifier,
    MultimodalRegressor,
    TextEncoder,
    Training,
)
from multiadapt.data.images import read_image
from multiadapt.data.reading import Reading
from multiadapt.types import Stream

STARTER = Path(str(files("multiadapt") / "starter"))
QUICK = Training(epochs=20, batch_size=32, learning_rate=1e-2)


@pytest.mark.parametrize(
    ("names", "most"),
    [(("image", "tabular-classifier", "tabular-regressor"), 6_000_000), (("text",), 4_000_000)],
)
def test_starters_are_small(names: tuple[str, ...], most: int) -> None:
    files = [f for name in names for f in (STARTER / name).rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < most


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


WORDS = {
    "clothing": ("shirt", "trousers", "sweater", "skirt", "jacket", "dress", "socks", "pyjamas"),
    "food": ("banana", "cheese", "soup", "sausage", "bread", "carrot", "cake", "salmon"),
    "animal": ("horse", "eagle", "lizard", "rabbit", "shark", "beetle", "tiger", "penguin"),
    "vehicle": ("lorry", "bicycle", "ferry", "helicopter", "taxi", "canoe", "tractor", "tram"),
}


def pooled(source: str, texts: Sequence[str]) -> Tensor:
    spec = TextEncoder(source)
    encoder = spec.build(Stream("text", "text", ()), spec.open("classification"), "network")
    return encoder.prefix(encoder.prepare([[text] for text in texts]), encoder.blocks + 1).tensors[
        "pooled"
    ]


def test_text_starter_is_what_a_text_encoder_opens() -> None:
    assert TextEncoder().source == "starter"
    opened = pooled("starter", ["a red shirt"])
    folder = STARTER / "text"
    tokens = AutoTokenizer.from_pretrained(folder)(["a red shirt"], return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state
    torch.testing.assert_close(opened, states.mean(1))


def test_text_starter_says_the_same_every_time() -> None:
    texts = ["blue jeans for men", "", "12.50", "where is my order?"]
    assert torch.equal(pooled("starter", texts), pooled("starter", texts))


@pytest.mark.parametrize(
    "text",
    [
        "😀",
        "👩‍👩‍👧",
        "日本語",
        "Привет",
        "مرحبا",
        "नमस्ते",
        "한국어",
        "naïve",
        "xqzzyk",
        "½ ﬁ",
        "\x00",
        "a\tb",
    ],
)
def test_text_starter_reads_any_script(text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER / "text")
    ids = tokenizer(text)["input_ids"]
    assert len(ids) > 1
    assert tokenizer.unk_token_id not in ids
    known, other = pooled("starter", [text, text + " and more"])
    assert known.isfinite().all()
    assert not torch.equal(known, other)


def test_text_starter_makes_no_difference_of_case() -> None:
    lower, upper = pooled("starter", ["green wool scarf", "GREEN Wool Scarf"])
    assert torch.equal(lower, upper)


def test_text_starter_beats_its_random_weights(tmp_path: Path) -> None:
    """What kind of thing a text is about, of words that the linear probe has not seen: 4 folds."""
    shutil.copytree(STARTER / "text", tmp_path, dirs_exist_ok=True)
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    said = ("my {} is great", "{} from paris, 12 euros", "where can i find the {}?", "two old {}s")
    told = [(kind, word, way) for kind, words in WORDS.items() for word in words for way in said]
    texts = [way.format(word) for _, word, way in told]
    kinds, words = [kind for kind, _, _ in told], [word for _, word, _ in told]
    found: list[float] = []
    for source in ("starter", str(tmp_path)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        vectors = pooled(source, texts).numpy()
        folds = GroupKFold(4, shuffle=True, random_state=0)
        found.append(float(np.mean(cross_val_score(probe, vectors, kinds, cv=folds, groups=words))))
    assert found[0] > 0.85
    assert found[0] > found[1] + 0.3
