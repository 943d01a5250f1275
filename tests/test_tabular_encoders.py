"""Claims about the tabular encoders: perceptron, in-context networks, trees."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from multiadapt.encoders._base import Encoder, EncoderSpec, Learned
from multiadapt.encoders.mlp import MLPEncoder
from multiadapt.errors import SpecError
from multiadapt.types import Column, Inputs, Labels, Stream

torch.set_num_threads(1)

STREAM = Stream("tabular", "tabular", (Column("size", "numeric", "test"),))


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Numbers with gaps, a constant, an empty column, and categories with gaps."""
    rng = np.random.default_rng(seed)
    size = rng.normal(50, 20, rows)
    colour = rng.choice(np.array(["red", "green", "blue"], dtype=object), rows)
    colour[rng.random(rows) < 0.1] = None
    return pd.DataFrame(
        {
            "size": np.where(rng.random(rows) < 0.1, np.nan, size),
            "skewed": np.exp(rng.normal(0, 3, rows)),
            "constant": np.full(rows, 4.0),
            "empty": np.full(rows, np.nan),
            "colour": pd.Series(colour, dtype=object),
            "nothing": pd.Series([None] * rows, dtype=object),
        }
    )


def labels(frame: pd.DataFrame, kind: str = "classification", seed: int = 0) -> Labels:
    """Labels that depend on the columns, with some noise."""
    noise = np.random.default_rng(seed).normal(0, 0.3, len(frame))
    score = frame["size"].fillna(50).to_numpy() / 20 + (frame["colour"] == "red") + noise
    y = score.to_numpy()
    if kind == "regression":
        return Labels("regression", (y - y.mean()) / y.std(), 0)
    high = (y > np.median(y)).astype(np.int64)
    if kind == "multilabel":
        return Labels("multilabel", np.stack([high, 1 - high, y > 4], axis=1).astype(np.int64), 3)
    return Labels("classification", high, 2)


def restored(spec: EncoderSpec, encoder: Encoder, network: nn.Module | None = None) -> Encoder:
    """A second encoder, from what the first keeps, after a trip through JSON."""
    learned = encoder.learned()
    values = json.loads(json.dumps(dict(learned.values)))
    tensors = {k: t.clone() for k, t in learned.tensors.items()}
    again = spec.build(STREAM, network, "net")
    again.restore(Learned(values, tensors, learned.holds_rows))
    return again


def pooled(encoder: Encoder, inputs: Inputs) -> torch.Tensor:
    with torch.no_grad():
        return encoder(inputs).pooled


def mlp(frame: pd.DataFrame, seed: int = 0, **options: object) -> Encoder:
    encoder = MLPEncoder(**options).build(STREAM, None, "net")  # type: ignore[arg-type]
    assert encoder.learn(frame, labels(frame), seed) is None
    return encoder


def test_mlp_comes_back_from_json_and_tensors():
    frame = table(60)
    encoder = mlp(frame)
    again = restored(MLPEncoder(), encoder)
    again.load_state_dict(encoder.state_dict())
    new = table(20, seed=1)
    assert torch.equal(
        pooled(encoder.eval(), encoder.prepare(new)), pooled(again.eval(), again.prepare(new))
    )


def test_mlp_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone():
    frame = table(60)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, third = mlp(frame, seed=3), mlp(frame, seed=3), mlp(frame, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    a, b, c = (torch.cat([p.flatten() for p in e.parameters()]) for e in (first, second, third))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_mlp_gives_missing_unseen_and_extreme_cells_finite_vectors():
    encoder = mlp(table(60)).eval()
    odd = pd.DataFrame(
        {
            "size": [np.nan, 1e300, -1e300],
            "skewed": [0.0, 1.0, 2.0],
            "constant": [5.0, 4.0, np.nan],
            "empty": [1.0, np.nan, 2.0],
            "colour": pd.Series(["violet", None, "red"], dtype=object),
            "nothing": pd.Series(["something", None, None], dtype=object),
        }
    )
    assert torch.isfinite(pooled(encoder, encoder.prepare(odd))).all()


def test_mlp_rows_do_not_depend_on_their_batch():
    encoder = mlp(table(60)).eval()
    inputs = encoder.prepare(table(10, seed=1))
    whole = pooled(encoder, inputs)
    one = pooled(encoder, inputs.select(torch.tensor([7])))
    assert torch.allclose(whole[7:8], one, atol=1e-6)


def test_mlp_gradient_reaches_every_parameter():
    frame = table(60)
    frame.loc[0, "colour"] = "once"  # seen once: trains the row of unseen categories
    encoder = mlp(frame)
    encoder(encoder.prepare(frame)).pooled.square().sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_mlp_learns_numbers_and_categories():
    frame, new = table(400), table(200, seed=1)
    y, target = labels(frame).y, labels(new, seed=1).y
    encoder = mlp(frame, width=32)
    head = nn.Linear(32, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    inputs = encoder.prepare(frame)
    for _ in range(60):
        loss = nn.functional.binary_cross_entropy_with_logits(
            head(encoder(inputs).pooled)[:, 0], torch.tensor(y, dtype=torch.float32)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (head(pooled(encoder.eval(), encoder.prepare(new)))[:, 0] > 0).numpy() == target
    assert right.mean() > 0.8


def test_mlp_is_trained_whole_and_so_never_cut():
    encoder = mlp(table(60))
    assert encoder.trained
    assert encoder.cut_for(encoder.sites(), ()) == 0
    with pytest.raises(SpecError, match="the only cut is 0, got 1"):
        encoder.prefix(encoder.prepare(table(3)), 1)


@pytest.mark.parametrize("only", ["size", "colour"])
def test_mlp_needs_only_one_kind_of_column(only: str):
    frame = table(60)
    encoder = MLPEncoder().build(STREAM, None, "net")
    encoder.learn(frame[[only]], labels(frame), 0)
    again = restored(MLPEncoder(), encoder)
    again.load_state_dict(encoder.state_dict())
    assert pooled(again, again.prepare(frame[[only]])).shape == (60, 128)


@pytest.mark.parametrize("option", ["width", "depth", "embedding", "bins", "least"])
def test_mlp_refuses_options_below_one(option: str):
    with pytest.raises(SpecError, match=f"{option} must be at least 1, got 0"):
        MLPEncoder(**{option: 0})


def test_mlp_refuses_a_dropout_of_everything():
    with pytest.raises(SpecError, match=r"dropout must be at least 0 and below 1, got 1.0"):
        MLPEncoder(dropout=1.0)
