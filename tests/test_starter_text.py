"""The starter text encoder inside the package: small, and worth having; and how it was pretrained."""

import random
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from texts.counting import count
from texts.tokens import broken, halves
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer

from multiadapt import MultimodalClassifier, TextEncoder, Training
from multiadapt.types import Stream

STARTER = Path(str(files("multiadapt") / "starter" / "text"))
WORDS = {
    "clothing": ("shirt", "trousers", "sweater", "skirt", "jacket", "dress", "socks", "pyjamas"),
    "food": ("banana", "cheese", "soup", "sausage", "bread", "carrot", "cake", "salmon"),
    "animal": ("horse", "eagle", "lizard", "rabbit", "shark", "beetle", "tiger", "penguin"),
    "vehicle": ("lorry", "bicycle", "ferry", "helicopter", "taxi", "canoe", "tractor", "tram"),
}
SAID = ("my {} is great", "{} from paris, 12 euros", "where can i find the {}?", "two old {}s")


def pooled(source: str, texts: Sequence[str]) -> Tensor:
    spec = TextEncoder(source)
    encoder = spec.build(Stream("text", "text", ()), spec.open("classification"), "network")
    inputs = encoder.prepare([[text] for text in texts])
    return encoder.prefix(inputs, encoder.blocks + 1).tensors["pooled"]


def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(STARTER / "tokenizer.json"))


def test_with_the_one_for_sounds_it_takes_less_than_8_mb() -> None:
    both = [f for name in ("text", "audio") for f in STARTER.with_name(name).rglob("*")]
    assert sum(f.stat().st_size for f in both if f.is_file()) < 8_000_000


def test_transformers_opens_it_and_pools_the_same() -> None:
    """Without this package: the mean over a text's tokens is its vector."""
    tokens = AutoTokenizer.from_pretrained(STARTER)(["a red shirt"], return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(STARTER)(**tokens).last_hidden_state
    torch.testing.assert_close(pooled("starter", ["a red shirt"]), states.mean(1))


@pytest.mark.parametrize(
    "text",
    ["😀", "👩‍👩‍👧", "日本語", "Привет", "مرحبا", "नमस्ते", "naïve", "xqzzyk", "½ ﬁ", "\x00", "a\tb"],
)
def test_it_reads_any_script(text: str) -> None:
    ids = tokenizer().encode(text).ids
    assert len(ids) > 1
    assert tokenizer().token_to_id("[UNK]") not in ids


def test_scripts_it_does_not_know_are_told_apart_all_the_same() -> None:
    vectors = pooled("starter", ["Привет", "Привес", "日本語", "日本人", "😀", "😁", ""])
    assert vectors.isfinite().all()
    assert torch.pdist(vectors).min() > 0.1


def test_case_makes_no_difference() -> None:
    lower, upper = pooled("starter", ["green wool scarf", "GREEN Wool Scarf"])
    assert torch.equal(lower, upper)


def test_it_knows_the_kind_of_words_that_the_probe_never_saw(tmp_path: Path) -> None:
    """A linear probe on other words of the same kinds, 4 folds; chance is .25."""
    shutil.copytree(STARTER, tmp_path, dirs_exist_ok=True)
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(STARTER)).save_pretrained(tmp_path)
    told = [(kind, word, way) for kind, words in WORDS.items() for word in words for way in SAID]
    kinds, words = [kind for kind, _, _ in told], [word for _, word, _ in told]
    found: list[float] = []
    for source in ("starter", str(tmp_path)):
        vectors = pooled(source, [way.format(word) for _, word, way in told]).numpy()
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        folds = GroupKFold(4, shuffle=True, random_state=0)
        found.append(float(np.mean(cross_val_score(probe, vectors, kinds, cv=folds, groups=words))))
    assert found[0] > 0.7
    assert found[0] > found[1] + 0.4


def test_a_column_of_texts_trains_without_a_named_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    dice = np.random.default_rng(0)
    rows = [
        {"said": way.format(word), "price": dice.normal(), "kind": kind}
        for kind in ("food", "vehicle")
        for word in WORDS[kind]
        for way in SAID
    ]
    frame = pd.DataFrame(rows)
    unseen = frame["said"].str.startswith("two old")
    training = Training(epochs=20, batch_size=16, learning_rate=1e-2)
    model = MultimodalClassifier(
        "frozen", training=training, column_types={"said": "text"}, verbose=False
    )
    model.fit(frame[~unseen], label="kind")
    assert model.evaluate(frame[unseen]).loc["accuracy", "value"] > 0.8


def test_broken_words_are_the_same_text_in_more_tokens() -> None:
    tokens = tokenizer()
    ids = tokens.encode("striped cotton shirts for children").ids
    apart = broken(ids, halves(tokens), 0.5, random.Random(0))
    assert len(apart) > len(ids)
    assert tokens.decode(apart) == tokens.decode(ids)


def test_counting_brings_words_of_one_meaning_together() -> None:
    tokens = tokenizer()
    start = count(tokens, 0, 4000, 32)
    again = count(tokens, 0, 4000, 32)
    assert torch.equal(start.tokens, again.tokens)
    torch.testing.assert_close(start.tokens.norm(dim=1), torch.ones(len(start.tokens)))
    pairs = [("trousers", "pants"), ("sofa", "couch"), ("happy", "glad"), ("film", "movie")]
    pairs += [("rain", "showers"), ("money", "cash"), ("bicycle", "bike"), ("price", "cost")]
    one, two = (
        start.tokens[[tokens.encode(w).ids[1] for w in side], :-2]
        for side in zip(*pairs, strict=True)
    )
    alike = functional.normalize(one) @ functional.normalize(two).T
    others = alike[~torch.eye(len(pairs), dtype=torch.bool)]
    assert alike.diagonal().mean() > others.mean() + 0.3
