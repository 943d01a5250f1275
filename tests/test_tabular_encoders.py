"""Claims about the tabular encoders: perceptron, in-context networks, trees."""

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from tabicl import TabICLClassifier, TabICLRegressor
from tabicl._model.tabicl import TabICL
from tabicl._sklearn.preprocessing import EnsembleGenerator
from torch import nn

from multiadapt.encoders import _folds, _tabicl
from multiadapt.encoders import tabular as tabular_module
from multiadapt.encoders._base import Encoder, EncoderSpec, Learned
from multiadapt.encoders._folds import choose_context, choose_folds, out_of_fold
from multiadapt.encoders._views import Views
from multiadapt.encoders.mlp import MLPEncoder
from multiadapt.encoders.tabpfn import TabPFNEncoder
from multiadapt.encoders.tabular import TabularEncoder
from multiadapt.encoders.trees import TreesEncoder
from multiadapt.errors import EncoderError, ExtraError, SpecError
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


CONFIG = {
    "num_quantiles": 9,
    "embed_dim": 16,
    "col_num_blocks": 1,
    "col_nhead": 2,
    "col_num_inds": 8,
    "row_num_blocks": 1,
    "row_nhead": 2,
    "row_num_cls": 2,
    "icl_num_blocks": 2,
    "icl_nhead": 2,
    "zero_init": False,  # blocks that start as the identity would hide every mistake
}


def tabicl(classes: int) -> TabICL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TabICL(max_classes=classes, **CONFIG).eval()


def write_network(folder: Path, network: TabICL) -> None:
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {"config": {"max_classes": network.max_classes, **CONFIG}}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny random classifier (of at most 4 classes) and regressor."""
    folder = tmp_path_factory.mktemp("tabicl")
    write_network(folder / "classifier", tabicl(4))
    write_network(folder / "regressor", tabicl(0))
    return str(folder)


def in_context(
    source: str, frame: pd.DataFrame, found: Labels, seed: int = 0, **options: object
) -> tuple[Encoder, torch.Tensor]:
    """An encoder that has learned, and its out-of-fold embeddings of the training rows."""
    spec = TabularEncoder(source=source, **options)  # type: ignore[arg-type]
    encoder = spec.build(STREAM, spec.open(found.kind), "net")
    inputs = encoder.learn(frame, found, seed)
    assert inputs is not None
    assert inputs.cut == 1
    return encoder, inputs.tensors["pooled"]


def at_the_end(encoder: Encoder, frame: pd.DataFrame) -> torch.Tensor:
    return encoder.prefix(encoder.prepare(frame), 1).tensors["pooled"]


def nan(frame: pd.DataFrame) -> pd.DataFrame:
    """Missing categories as tabicl takes them: it would count None as a category of its own."""
    return frame.where(frame.notna(), np.nan)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_in_context_embedding_is_what_tabicls_decoder_reads(source: str, kind: str, tmp_path: Path):
    frame, new = table(50), table(9, seed=1)
    found = labels(frame, kind)
    encoder, _ = in_context(source, frame, found, seed=3)
    network, path = tabicl(4 if kind == "classification" else 0), tmp_path / "net.ckpt"
    config = {"max_classes": network.max_classes, **CONFIG}
    torch.save({"config": config, "state_dict": network.state_dict()}, path)
    estimator = TabICLClassifier if kind == "classification" else TabICLRegressor
    theirs = estimator(model_path=path, random_state=3, device="cpu").fit(nan(frame), found.y)
    seen: list[torch.Tensor] = []
    decoder = theirs.model_.icl_predictor.decoder
    decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, 50:]))
    theirs.predict(nan(new))
    named = dict(zip(theirs.ensemble_generator_.ensemble_configs_, seen, strict=True))
    expected = torch.cat([named[norm] for norm in sorted(named)]).transpose(0, 1).flatten(1)
    assert torch.allclose(at_the_end(encoder, new), expected, atol=1e-5)
    assert encoder.width == expected.shape[1]


def test_views_are_tabicls_preprocessing():
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(size=40), np.exp(rng.normal(0, 3, 40)), np.ones(40)], axis=1)
    new = np.concatenate([rows[:3], [[50.0, 1e6, 2.0], [-50.0, -3.0, 1.0]]])
    y = rng.integers(0, 2, 40).astype(float)
    views = Views.fit(rows, y, classification=True, members=6, seed=1)
    theirs = EnsembleGenerator(classification=True, n_estimators=6, random_state=1).fit(rows, y)
    expected = theirs.transform(new, mode="test")
    expected = np.concatenate([expected[norm][0] for norm in sorted(expected)])
    assert np.allclose(torch.stack(views.rows(new)), expected, atol=1e-5)


def test_members_keep_their_places_whatever_order_tabicl_keeps_them_in(monkeypatch):
    rows, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2.0
    first = Views.fit(rows, y, classification=True, members=8, seed=0)
    fit = EnsembleGenerator.fit

    def reverse(self: EnsembleGenerator, rows: np.ndarray, y: np.ndarray) -> EnsembleGenerator:
        fit(self, rows, y)
        self.ensemble_configs_ = dict(reversed(self.ensemble_configs_.items()))
        return self

    monkeypatch.setattr(EnsembleGenerator, "fit", reverse)
    assert Views.fit(rows, y, classification=True, members=8, seed=0).members == first.members


def test_a_narrow_table_has_fewer_members(source: str):
    frame = table(40)
    encoder, vectors = in_context(source, frame[["skewed"]], labels(frame))
    assert encoder.width == vectors.shape[1] == 4 * 32


def test_members_line_up_between_training_and_prediction(source: str):
    frame = table(60)
    encoder, vectors = in_context(source, frame, labels(frame))
    train = vectors.reshape(60, 8, 32)
    new = at_the_end(encoder, frame).reshape(60, 8, 32)
    apart = (train[:, :, None] - new[:, None]).norm(dim=-1).mean(0)
    assert torch.equal(apart.argmin(1), torch.arange(8))


@pytest.mark.parametrize("output", ["icl", "row"])
def test_in_context_rows_do_not_depend_on_their_batch(source: str, output: str):
    frame, new = table(60), table(12, seed=1)
    encoder, _ = in_context(source, frame, labels(frame), output=output, members=2)
    whole = at_the_end(encoder, new)
    extreme = new.assign(skewed=1e30)  # overflows a power transform
    mixed = at_the_end(encoder, pd.concat([extreme, new], ignore_index=True))
    assert torch.allclose(whole, mixed[12:], atol=1e-5)
    assert torch.allclose(whole[5:6], at_the_end(encoder, new[5:6]), atol=1e-5)
    assert torch.isfinite(mixed).all()


@pytest.mark.parametrize("context", ["rows", "embeddings"])
@pytest.mark.parametrize("output", ["icl", "row"])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_in_context_encoder_comes_back(source: str, kind: str, output: str, context: str):
    frame, new = table(40), table(9, seed=1)
    options = {"output": output, "context": context, "max_context": 30, "members": 4}
    encoder, _ = in_context(source, frame, labels(frame, kind), **options)
    spec = TabularEncoder(source=source, **options)
    again = restored(spec, encoder, spec.open(kind))
    assert torch.allclose(at_the_end(encoder, new), at_the_end(again, new), atol=1e-5)
    assert encoder.learned().holds_rows == (context == "rows")
    assert again.width == encoder.width == again.sites()[0].out_width


def test_no_cell_is_saved_with_context_embeddings(source: str):
    frame = table(40)
    frame["size"] = np.arange(40) + 12345.0
    encoder, _ = in_context(source, frame, labels(frame), context="embeddings", members=2)
    held = torch.cat([t.double().flatten() for t in encoder.learned().tensors.values()])
    assert not torch.isin(held, torch.tensor(frame["size"].to_numpy())).any()


def test_in_context_embeddings_are_the_same_for_the_same_seed(source: str):
    frame = table(40)
    first, a = in_context(source, frame, labels(frame), seed=5, members=2)
    second, b = in_context(source, frame, labels(frame), seed=5, members=2)
    _, c = in_context(source, frame, labels(frame), seed=6, members=2)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(at_the_end(first, frame), at_the_end(second, frame))


def nearest_neighbour(folder: Path) -> nn.Module:
    """A network whose in-context part copies the most similar context row, label and all."""
    config = CONFIG | {"icl_num_blocks": 1, "icl_ssmax": False, "col_target_aware": False}
    network = TabICL(max_classes=4, **config)
    block = network.icl_predictor.tf_icl.blocks[0]
    alike, copied = 300 * torch.eye(32), torch.eye(32)
    alike[31] = 0.0  # rows are compared without their labels
    with torch.no_grad():
        for parameter in [*block.parameters(), *network.icl_predictor.y_encoder.parameters()]:
            parameter.zero_()
        network.row_interactor.out_ln.weight[15] = 0.0  # the last number of a row is free ...
        network.icl_predictor.y_encoder.weight[31] = torch.tensor([-1.0, 1.0, 0.0, 0.0])  # for it
        block.norm1.weight.fill_(1)
        block.attn.in_proj_weight.copy_(torch.cat([alike, alike, copied]))
        block.attn.out_proj.weight.copy_(copied)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"config": {"max_classes": 4, **config}}))
    return TabularEncoder(source=str(folder)).open("classification")  # type: ignore[return-value]


def test_a_rows_embedding_does_not_hold_its_label(tmp_path: Path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(150, 4)), columns=list("abcd"))
    found = Labels("classification", rng.integers(0, 2, 150), 2)
    torch.manual_seed(0)
    encoder = TabularEncoder(members=2).build(STREAM, nearest_neighbour(tmp_path), "net")
    inputs = encoder.learn(frame, found, 0)
    assert inputs is not None

    def probe(x: torch.Tensor) -> float:
        x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
        return cross_val_score(LogisticRegression(), x.numpy(), found.y, cv=5).mean()

    assert probe(at_the_end(encoder, frame)) > 0.72  # a row in its own context: its label shows
    assert probe(inputs.tensors["pooled"]) < 0.62  # out of fold: chance, and noise


@pytest.mark.parametrize("most", [100, 30])
@pytest.mark.parametrize("grouped", [False, True])
def test_no_row_is_asked_about_with_its_own_or_its_groups_label_in_view(grouped: bool, most: int):
    rng = np.random.default_rng(0)
    y, groups = rng.integers(0, 3, 100), rng.integers(0, 20, 100)
    context = choose_context(y, most, seed=0)
    fold = choose_folds(y, groups if grouped else None, context, 5, seed=0)
    unit = groups if grouped else np.arange(100)
    times = np.zeros(100)

    def look(seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
        assert not set(unit[context[seen]]) & set(unit[asked])
        assert len(seen) >= 0.6 * most
        times[asked] += 1
        return np.zeros((len(asked), 1), np.float32)

    out_of_fold(fold, context, look)
    assert (times == 1).all()
    assert len(context) == min(most, 100)


@pytest.mark.parametrize("missing", [None, np.nan], ids=repr)
def test_a_row_without_a_group_is_a_group_of_its_own_in_the_folds(missing: object):
    groups = np.array(["a", "a", "b", missing, missing, missing], dtype=object)
    fold = choose_folds(np.zeros(6), groups, np.arange(6), 5, seed=0)
    assert fold[0] == fold[1]
    assert len(set(fold)) == 5


def test_folds_and_a_capped_context_keep_the_shares_of_the_classes():
    y = np.repeat([0, 1, 2], [100, 50, 10])
    context = choose_context(y, 32, seed=0)
    assert np.bincount(y[context]).tolist() == [20, 10, 2]
    fold = choose_folds(y, None, np.arange(160), 5, seed=0)
    assert all(np.bincount(y[fold == k]).tolist() == [20, 10, 2] for k in range(5))


def test_rows_outside_a_capped_context_see_all_of_it(source: str, caplog):
    frame = table(60)
    with caplog.at_level(logging.INFO, "multiadapt"):
        encoder, vectors = in_context(source, frame, labels(frame), max_context=20, members=2)
    assert "a context of 20 of 60 training rows, 2 members of width 32" in caplog.text
    outside = np.setdiff1d(np.arange(60), choose_context(labels(frame).y, 20, seed=0))
    new = at_the_end(encoder, frame)
    assert torch.allclose(vectors[outside], new[outside], atol=1e-5)
    assert ((vectors - new).abs().amax(1) > 1e-4).sum() == 20


def test_in_context_passes_agree_with_and_without_kept_keys(source: str, monkeypatch):
    frame, new = table(40), table(9, seed=1)
    encoder, vectors = in_context(source, frame, labels(frame), members=2)
    kept = at_the_end(encoder, new)
    monkeypatch.setattr(tabular_module, "_KEY_LIMIT", 0)
    monkeypatch.setattr(_folds, "_TOGETHER", 4)
    other, again = in_context(source, frame, labels(frame), members=2)
    assert torch.allclose(vectors, again, atol=1e-5)
    assert torch.allclose(kept, at_the_end(other, new), atol=1e-5)


def test_more_labels_than_the_network_knows_are_grouped_and_said_so(source: str, caplog):
    frame = table(60)
    found = Labels("classification", np.arange(60) % 7, 7)
    with caplog.at_level(logging.INFO, "multiadapt"):
        encoder, _ = in_context(source, frame, found, members=2)
    assert "7 different labels in 4 groups of like frequency, row output" in caplog.text
    assert encoder.learned().tensors["y"].unique().tolist() == [0, 1, 2, 3]
    assert torch.isfinite(at_the_end(encoder, frame)).all()


def test_several_labels_a_row_are_grouped_too(source: str, caplog):
    frame = table(60)
    with caplog.at_level(logging.INFO, "multiadapt"):
        encoder, _ = in_context(source, frame, labels(frame, "multilabel"), members=2)
    assert "different labels in" in caplog.text
    again = restored(
        TabularEncoder(source=source, members=2),
        encoder,
        TabularEncoder(source=source).open("multilabel"),
    )
    assert torch.allclose(at_the_end(encoder, frame), at_the_end(again, frame), atol=1e-5)


def test_in_context_network_stays_frozen_and_in_evaluation_mode(source: str):
    frame = table(40)
    encoder, _ = in_context(source, frame, labels(frame), members=2)
    before = pooled(encoder, encoder.prepare(frame))
    encoder.train()
    assert torch.equal(before, pooled(encoder, encoder.prepare(frame)))
    assert not any(p.requires_grad for p in encoder.parameters())
    assert encoder.cut_for(encoder.sites(), ()) == 1


def test_forward_is_the_same_from_every_cut(source: str):
    frame = table(40)
    encoder, _ = in_context(source, frame, labels(frame), members=2)
    inputs = encoder.prepare(table(5, seed=1))
    tokens = encoder(encoder.prefix(inputs, 1))
    assert torch.equal(pooled(encoder, inputs), tokens.pooled)
    assert tokens.x.shape == (5, 1, 64)
    assert encoder.prefix(inputs, 0) is inputs
    with pytest.raises(EncoderError, match=r"cut must be in 1\.\.1 for these inputs, got 0"):
        encoder.prefix(encoder.prefix(inputs, 1), 0)


def test_no_rows_give_no_vectors(source: str):
    frame = table(40)
    encoder, _ = in_context(source, frame, labels(frame), members=2)
    assert at_the_end(encoder, frame[:0]).shape == (0, 64)


def test_in_context_encoder_needs_two_rows_and_two_groups(source: str):
    frame = table(6)
    with pytest.raises(EncoderError, match="at least 2 rows to learn from, got 1"):
        in_context(source, frame[:1], Labels("classification", np.zeros(1, np.int64), 2))
    one_group = Labels("classification", np.arange(6) % 2, 2, groups=np.zeros(6))
    with pytest.raises(EncoderError, match="at least 2 groups of rows to learn from, got 1"):
        in_context(source, frame, one_group)


def test_in_context_encoder_says_that_it_must_learn_first(source: str):
    spec = TabularEncoder(source=source)
    encoder = spec.build(STREAM, spec.open("classification"), "net")
    with pytest.raises(EncoderError, match="must learn its context first"):
        encoder.prefix(encoder.prepare(pd.DataFrame(index=range(2))), 1)


def test_a_context_that_makes_other_members_now_is_refused(source: str):
    frame = table(40)
    encoder, _ = in_context(source, frame, labels(frame), members=2)
    again = TabularEncoder(source=source, members=3)
    with pytest.raises(EncoderError, match="had 2 members, this version of tabicl makes 3"):
        restored(again, encoder, again.open("classification"))


@pytest.mark.parametrize(("option", "least"), [("members", 1), ("folds", 2), ("max_context", 2)])
def test_tabular_refuses_options_too_small(option: str, least: int):
    with pytest.raises(SpecError, match=f"{option} must be at least {least}, got 0"):
        TabularEncoder(**{option: 0})


def test_a_checkpoint_file_opens_and_is_known_by_its_hash(source: str, tmp_path: Path):
    network = tabicl(4)
    config = {"max_classes": 4, **CONFIG}
    torch.save({"config": config, "state_dict": network.state_dict()}, tmp_path / "net.ckpt")
    ours = TabularEncoder(source=str(tmp_path / "net.ckpt")).open("classification")
    folder = TabularEncoder(source=source + "/classifier").open("classification")
    assert ours.origin.sha256 == folder.origin.sha256  # type: ignore[union-attr]
    assert len(ours.origin.sha256) == 64  # type: ignore[union-attr]
    assert ours.origin.licence == "unknown"  # type: ignore[union-attr]


def test_a_network_of_the_other_kind_is_refused(source: str):
    with pytest.raises(EncoderError, match="regression needs a TabICL regressor"):
        TabularEncoder(source=source + "/classifier").open("regression")


def test_a_folder_without_weights_is_refused(tmp_path: Path):
    with pytest.raises(EncoderError, match=r"config\.json is absent"):
        TabularEncoder(source=str(tmp_path)).open("classification")


def test_weights_of_another_network_are_refused(source: str, tmp_path: Path):
    save_file({"x": torch.zeros(2)}, tmp_path / "model.safetensors")
    config = Path(source, "classifier", "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(EncoderError, match="does not hold the weights of its config"):
        TabularEncoder(source=str(tmp_path)).open("classification")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path):
    (tmp_path / "text.ckpt").write_text("not weights")
    with pytest.raises(EncoderError, match="it is not a file that torch wrote"):
        TabularEncoder(source=str(tmp_path / "text.ckpt")).open("classification")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(EncoderError, match="with `config` and `state_dict`"):
        TabularEncoder(source=str(tmp_path / "other.ckpt")).open("classification")


def test_the_starter_is_a_folder_inside_the_package(monkeypatch, tmp_path: Path):
    write_network(tmp_path / "starter" / "tabular-classifier", tabicl(4))
    write_network(tmp_path / "starter" / "tabular-regressor", tabicl(0))
    monkeypatch.setattr(_tabicl.resources, "files", lambda package: tmp_path)
    for kind, classes in (("classification", 4), ("multilabel", 4), ("regression", 0)):
        opened = TabularEncoder().open(kind)  # type: ignore[arg-type]
        assert (opened.origin.licence, opened.classes) == ("Apache-2.0", classes)  # type: ignore[union-attr]


def test_without_a_network_the_hubs_checkpoint_is_an_error_with_a_way_out(monkeypatch):
    def unreachable(repository: str, name: str) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(EncoderError, match=r'cannot be downloaded .* use source="starter"'):
        TabularEncoder(source="tabicl").open("classification")


def test_the_hubs_checkpoint_names_its_revision_and_licence(monkeypatch, tmp_path: Path):
    path = tmp_path / "abc123" / "net.ckpt"
    path.parent.mkdir()
    config = {"max_classes": 4, **CONFIG}
    torch.save({"config": config, "state_dict": tabicl(4).state_dict()}, path)
    asked: list[str] = []

    def download(repository: str, name: str) -> str:
        asked.append(f"{repository}/{name}")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    origin = TabularEncoder(source="tabicl").open("classification").origin  # type: ignore[union-attr]
    assert (origin.revision, origin.licence) == ("abc123", "BSD-3-Clause")
    assert asked[0].startswith("jingang/TabICL/tabicl-classifier-v2")


def grown(frame: pd.DataFrame, found: Labels, seed: int = 0, **options: object) -> Encoder:
    encoder = TreesEncoder(**options).build(STREAM, None, "net")  # type: ignore[arg-type]
    assert encoder.learn(frame, found, seed) is None
    return encoder


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as scikit-learn's trees read it: they cannot bin a column without a number."""
    return nan(frame).assign(empty=0.0)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_trees_score_as_scikit_learn_does_before_and_after_saving(classes: int):
    frame, new = table(300), table(80, seed=1)
    new.loc[:9, "colour"] = "violet"  # unseen
    new.loc[10:12, "size"] = np.inf
    y = labels(frame, "regression").y
    if classes:
        y = np.digitize(y, [0.0] if classes == 2 else [-0.5, 0.5])
    found = Labels("classification" if classes else "regression", y, classes)
    encoder = grown(frame, found, max_iter=20)
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    theirs = kind(max_iter=20, early_stopping=False, random_state=0)
    theirs.set_params(categorical_features=["colour", "nothing"]).fit(plain(frame), y)
    score = theirs.decision_function if classes else theirs.predict
    expected = torch.tensor(score(plain(new)), dtype=torch.float32).reshape(80, -1)
    assert torch.allclose(pooled(encoder, encoder.prepare(new)), expected, atol=1e-6)
    again = restored(TreesEncoder(), encoder)
    assert torch.equal(pooled(encoder, encoder.prepare(new)), pooled(again, again.prepare(new)))
    assert again.width == expected.shape[1]


def test_trees_for_several_labels_are_trees_for_each(tmp_path: Path):
    frame, new = table(200), table(40, seed=1)
    found = labels(frame, "multilabel")
    scores = pooled(encoder := grown(frame, found, max_iter=5), encoder.prepare(new))
    for i in range(3):
        alone = grown(frame, Labels("classification", found.y[:, i], 2), max_iter=5)
        assert torch.equal(scores[:, i : i + 1], pooled(alone, alone.prepare(new)))
    again = restored(TreesEncoder(), encoder)
    assert torch.equal(scores, pooled(again, again.prepare(new)))


def test_trees_keep_the_frequent_categories_of_a_column_with_too_many():
    rng = np.random.default_rng(0)
    code = np.concatenate([np.arange(400), rng.integers(0, 5, 800)])
    frame = pd.DataFrame({"colour": pd.Series([f"c{i}" for i in code], dtype=object)})
    found = Labels("classification", (code % 2 == 0).astype(np.int64), 2)
    encoder = grown(frame, found, min_samples_leaf=1)
    right = (pooled(encoder, encoder.prepare(frame))[:, 0] > 0).numpy() == found.y
    assert right[400:].all()
    rare = frame.assign(colour=pd.Series(["never seen"] * len(frame), dtype=object))
    assert len(pooled(encoder, encoder.prepare(rare)).unique()) == 1


@pytest.mark.parametrize(
    ("met", "classes"), [([2], 3), ([0, 2], 3), ([0, 1, 3], 4), ([1], 2), ([0], 2)]
)
def test_trees_score_classes_that_no_row_has_below_the_others(met: list[int], classes: int):
    frame = table(90)
    y = np.resize(met, 90)
    encoder = grown(frame, Labels("classification", y, classes), max_iter=3)
    scores = pooled(encoder, encoder.prepare(frame)).numpy()
    assert scores.shape == (90, classes if classes > 2 else 1)
    if classes == 2:
        assert ((scores > 0) == (met == [1])).all()
    else:
        absent = [c for c in range(classes) if c not in met]
        assert scores[:, absent].max() < scores[:, met].max(1).min()
    assert np.isfinite(scores).all()


def test_trees_stop_early_by_the_seed():
    frame, found = table(200), labels(table(200))
    size = len(grown(frame, found, max_iter=200, stop_after=2).learned().tensors["root"])
    assert size < 200
    first, second = (grown(frame, found, stop_after=2, seed=3).learned().tensors for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_trees_refuse_to_hold_out_the_only_row_of_a_class():
    found = Labels("classification", np.array([1] + [0] * 39), 2)
    with pytest.raises(EncoderError, match=r"needs at least 2 of each, one class has 1"):
        grown(table(40), found, stop_after=2)


def test_trees_are_all_prefix_and_have_no_sites():
    encoder = grown(table(60), labels(table(60)), max_iter=3)
    inputs = encoder.prepare(table(4))
    deep = encoder.prefix(inputs, encoder.cut_for((), ()))
    assert torch.equal(pooled(encoder, deep), pooled(encoder, inputs))
    assert encoder.sites() == ()
    assert encoder.prefix(inputs, 0) is inputs
    with pytest.raises(EncoderError, match=r"cut must be in 0\.\.1 for these inputs, got 2"):
        encoder.prefix(inputs, 2)


def test_trees_say_that_they_must_learn_first():
    encoder = TreesEncoder().build(STREAM, None, "net")
    with pytest.raises(EncoderError, match="trees must learn before they can be saved"):
        encoder.learned()
    with pytest.raises(EncoderError, match="trees must learn before they can score"):
        encoder.prefix(encoder.prepare(pd.DataFrame(index=range(2))), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"max_leaf_nodes": 1}, "max_leaf_nodes must be at least 2, got 1"),
        ({"min_samples_leaf": 0}, "min_samples_leaf must be at least 1, got 0"),
        ({"learning_rate": 0.0}, r"learning_rate must be above 0, got 0\.0"),
        ({"l2": -1.0}, r"l2 must be at least 0, got -1\.0"),
        ({"stop_after": 0}, "stop_after must be at least 1 or none, got 0"),
    ],
)
def test_trees_refuse_options_that_grow_nothing(options: dict[str, float], message: str):
    with pytest.raises(SpecError, match=message):
        TreesEncoder(**options)


class FakeTabPFN:
    """The part of tabpfn's estimators that is used. A row's embedding: itself, and the label of the
    nearest context row."""

    def __init__(self, **options: object) -> None:
        self.options = options
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.models_ = [nn.Linear(2, 2)]

    def fit(self, x: np.ndarray, y: np.ndarray) -> "FakeTabPFN":
        self.x, self.y = np.nan_to_num(x), y
        return self

    def get_embeddings(self, x: np.ndarray, data_source: str) -> np.ndarray:
        assert data_source == "test"
        x = np.nan_to_num(x)
        nearest = np.abs(x[:, None] - self.x).sum(2).argmin(1)
        found = np.concatenate([x, self.y[nearest][:, None]], axis=1)
        return np.stack([found * (e + 1) for e in range(self.options["n_estimators"])])  # type: ignore[call-overload]


@pytest.fixture
def fake_tabpfn(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(
        TabPFNClassifier=type("TabPFNClassifier", (FakeTabPFN,), {}),
        TabPFNRegressor=type("TabPFNRegressor", (FakeTabPFN,), {}),
    )
    monkeypatch.setitem(sys.modules, "tabpfn", fake)


@pytest.mark.usefixtures("fake_tabpfn")
@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel"])
def test_tabpfn_embeds_out_of_fold_and_comes_back(kind: str, caplog):
    frame, new = table(40), table(7, seed=1)
    frame.loc[0, "size"] = np.nan
    spec = TabPFNEncoder(members=3)
    network = spec.open(kind)  # type: ignore[arg-type]
    assert "non-commercial" in caplog.text
    encoder = spec.build(STREAM, network, "net")
    found = labels(frame, kind)
    inputs = encoder.learn(frame, found, 0)
    assert inputs is not None
    vectors, after = inputs.tensors["pooled"], at_the_end(encoder, frame)
    assert encoder.width == 3 * 7 == vectors.shape[1]
    columns = torch.arange(21).reshape(3, 7)
    assert torch.allclose(
        vectors[:, columns[2]], 3 * vectors[:, columns[0]]
    )  # members side by side
    assert torch.equal(vectors[:, :6], after[:, :6])  # what is not a label
    own = encoder.learned().tensors["y"].float()
    assert torch.equal(after[:, 6], own)  # in its own context a row finds its label
    assert not torch.equal(vectors[:, 6], own)
    again = restored(spec, encoder, network)
    assert torch.equal(at_the_end(encoder, new), at_the_end(again, new))
    assert encoder.learned().holds_rows
    assert again.origin() == encoder.origin()
    assert again.origin().licence == "Prior Labs: non-commercial, gated"


@pytest.mark.usefixtures("fake_tabpfn")
def test_tabpfn_takes_many_labels_in_groups_and_says_so(caplog):
    frame = table(60)
    spec = TabPFNEncoder(members=2)
    encoder = spec.build(STREAM, spec.open("classification"), "net")
    with caplog.at_level(logging.INFO, "multiadapt"):
        encoder.learn(frame, Labels("classification", np.arange(60) % 12, 12), 0)
    assert "12 different labels in 10 groups of like frequency" in caplog.text


@pytest.mark.usefixtures("fake_tabpfn")
def test_tabpfn_refuses_embeddings_of_a_shape_it_does_not_know(monkeypatch):
    monkeypatch.setattr(FakeTabPFN, "get_embeddings", lambda self, x, data_source: x)
    spec = TabPFNEncoder()
    encoder = spec.build(STREAM, spec.open("classification"), "net")
    with pytest.raises(
        EncoderError, match=r"must have shape \(members, 1 rows, width\), got \(1, 6\)"
    ):
        encoder.learn(table(40), labels(table(40)), 0)


def test_tabpfn_names_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tabpfn", None)
    with pytest.raises(ExtraError, match=r"pip install multiadapt\[tabpfn\]"):
        TabPFNEncoder().open("regression")


@pytest.mark.parametrize(("option", "least"), [("members", 1), ("folds", 2), ("max_context", 2)])
def test_tabpfn_refuses_options_too_small(option: str, least: int):
    with pytest.raises(SpecError, match=f"{option} must be at least {least}, got 0"):
        TabPFNEncoder(**{option: 0})


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_in_context_embeddings_on_an_accelerator_are_those_of_the_cpu(source: str, kind: str):
    frame, new = table(40), table(9, seed=1)
    encoder, vectors = in_context(source, frame, labels(frame, kind))
    expected = at_the_end(encoder, new)
    spec = TabularEncoder(source=source)
    other = spec.build(STREAM, spec.open(kind), "net").to("cuda")  # type: ignore[arg-type]
    found = other.learn(frame, labels(frame, kind), 0)
    assert found is not None
    inputs = other.prepare(new).to(torch.device("cuda"))
    # An accelerator adds in another order, and its Yeo-Johnson inputs are rounded once more.
    assert torch.allclose(found.tensors["pooled"], vectors, atol=1e-3)
    assert torch.allclose(other.prefix(inputs, 1).tensors["pooled"].cpu(), expected, atol=1e-3)
    assert torch.allclose(
        encoder.to("cuda").prefix(inputs, 1).tensors["pooled"].cpu(), expected, atol=1e-3
    )
