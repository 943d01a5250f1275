"""Where the time of a fit goes: what is measured is measured once, and changes nothing."""

import re
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from shell import call
from squares import BLIP, QUICK, squares
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt import Captioner, CrossModalRetriever, MultimodalClassifier, TIAdapter, Training
from multiadapt.errors import SpecError
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.reports.profile import lines, peak
from multiadapt.stopwatch import NoWatch, Stopwatch, watching
from multiadapt.types import Tokens

TRAINING = Training(epochs=3, batch_size=16, accumulate=2, clip=1.0)


def classifier(network: Path, **options: object) -> MultimodalClassifier:
    given = {"training": TRAINING, "verbose": False, "device": "cpu", **options}
    method = TIAdapter(image=ImageBranch(variant="bc1"))  # its BatchNorm keeps running statistics
    encoders = {"image": str(network), "tabular": "mlp"}
    return MultimodalClassifier(method, encoders=encoders, **given)  # type: ignore[arg-type]


def fit(model: MultimodalClassifier, table, photos, *, profile: bool) -> MultimodalClassifier:
    frame = table.drop(columns=["price", "back"])
    return model.fit(frame, label="kind", root=photos, profile=profile)


def seconds(profile: pd.DataFrame, part: str) -> dict[str, float]:
    """Of a part, by stage."""
    return profile[profile["part"] == part].set_index("stage")["seconds"].to_dict()


def test_a_profile_changes_no_bit_and_is_all_of_the_time(network, table, photos) -> None:
    plain = fit(classifier(network), table, photos, profile=False)
    assert plain.profile_ is None
    state, started = torch.get_rng_state(), time.perf_counter()
    model = fit(classifier(network), table, photos, profile=True)
    took = time.perf_counter() - started
    assert torch.equal(torch.get_rng_state(), state)
    one, two = (m.fitted_.model.trained_state() for m in (plain, model))
    assert one.keys() == two.keys()
    assert all(torch.equal(t, two[k]) for k, t in one.items())
    epochs = [[e["loss"] for e in m.fitted_.info["history"]["epochs"]] for m in (plain, model)]
    assert epochs[0] == epochs[1]
    assert not any(e._forward_pre_hooks for e in model.fitted_.model.encoders)

    profile = model.profile_
    assert profile is not None
    own = profile[profile["thread"] == "training"]
    assert own.groupby("stage")["share"].sum().to_list() == pytest.approx([1, 1, 1])
    assert (profile["seconds"] > 0).all()
    assert (own["seconds"] * own["epochs"].clip(lower=1)).sum() <= took
    assert set(profile.loc[profile["part"] == "decode", "thread"]) == {"workers"}
    # All is kept in memory here: the frozen part is computed before the first epoch, and cells are read there.
    assert set(seconds(profile, "prefix")) == set(seconds(profile, "decode")) == {"before"}
    for part in ("adapters forward", "adapters backward", "head forward", "head backward"):
        assert set(seconds(profile, part)) == {"first epoch", "later epochs"}
    assert profile["of_peak"].iloc[-1] == 1
    counted = profile[profile["gflop"].notna()]
    rates = counted["gflop"] / counted["seconds"]
    pd.testing.assert_series_equal(counted["gflop_per_second"], rates, check_names=False)


def test_a_prefix_from_the_disk_is_computed_in_the_first_epoch_alone(
    network, table, photos, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MULTIADAPT_CACHE", str(tmp_path))
    monkeypatch.setattr("multiadapt.feed.BLOCK", 8)  # the first block is computed before
    # With `normalize`, embeddings would be standardised before: they are computed from the frozen part.
    training = TRAINING.with_params(normalize=False, epochs=2)
    model = classifier(network, memory=0.0, validation=0.0, training=training)
    fit(model, table, photos, profile=True)
    assert model.profile_ is not None
    assert set(seconds(model.profile_, "prefix")) == {"before", "first epoch"}
    assert set(seconds(model.profile_, "disk")) == {"before", "first epoch", "later epochs"}
    again = fit(model, table, photos, profile=True).profile_
    assert again is not None
    assert not seconds(again, "prefix")


def test_what_is_told_is_what_was_measured(network, table, photos, capfd) -> None:
    model = fit(classifier(network, verbose=True), table, photos, profile=True)
    assert model.profile_ is not None
    told = lines(model.profile_)
    assert "\n".join(told) in capfd.readouterr().err
    head = ["before", "first epoch", "each of 2 later", "share", "rows/s", "of peak"]
    assert re.split("  +", told[0])[1:] == head
    step = model.profile_[model.profile_["stage"] == "later epochs"].set_index("part")
    gflop = step["gflop"].sum() / step["batches"].iloc[0]
    assert told[-1].startswith(f"a step does {gflop:.3g} GFLOP in ")
    assert told[-1].endswith("in a matrix product (float32, 1 thread)")


def test_a_method_without_steps_has_no_profile(table, photos) -> None:
    model = MultimodalClassifier("trees", encoders={"tabular": "trees"}, verbose=False)
    frame = table[["size", "kind"]]
    with pytest.raises(SpecError, match="trains nothing step by step: leave profile= out"):
        model.fit(frame, label="kind", profile=True)


@pytest.fixture(scope="module")
def small(network: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A fit as it is typed."""
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    pd.read_parquet(photos / "table.parquet").iloc[:30].drop(columns="back").to_csv(
        path, index=False
    )
    recipe = ["--set", "training.epochs=1", "--set", "image.variant=embedding", "--device", "cpu"]
    encoders = ["--encoder", f"image={network}", "--encoder", "tabular=mlp", "--root", photos]
    return ["fit", path, "--label", "kind", *encoders, *recipe, "--profile"]


def test_the_shell_tells_a_profile_also_where_it_is_quiet(small) -> None:
    said = call(*small, "--quiet")
    assert "adapters, backward" in said.stdout
    assert "GFLOP/s that this machine does in a matrix product" in said.stdout
    assert "matrix product" not in said.stderr


def test_the_shell_refuses_a_profile_of_trees(small) -> None:
    refused = call(*small[:4], "--method", "trees", "--profile", code=2)
    assert "trains nothing step by step: leave --profile out" in refused.stderr


def test_pairs_and_captions_have_a_profile_too(pictures) -> None:
    table = squares()
    given = {"backbone": BLIP, "training": QUICK, "verbose": False, "device": "cpu"}
    states = []
    for profile in (False, True):
        finder = CrossModalRetriever("uniadapter", **given)
        finder.fit(table, query="caption", target="photo", root=pictures, profile=profile)
        states.append(finder.fitted_.model.trained_state())
    assert all(torch.equal(t, states[1][k]) for k, t in states[0].items())
    writer = Captioner("uniadapter", **given)
    writer.fit(table, image="photo", caption="caption", root=pictures, profile=True)
    for model in (finder, writer):
        assert model.profile_ is not None
        assert {"decode", "adapters forward", "head backward"} <= set(model.profile_["part"])
        assert not model.fitted_.watch.measures


class Ticks:
    """A clock that goes on by one with every look."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_moment_counts_once_and_to_the_innermost_part() -> None:
    watch = Stopwatch(clock := Ticks())
    with watch.part("nowhere"):  # no stage is on
        pass
    begun = clock.now
    with watch.stage("epoch", 5):
        with watch.part("disk"), watch.part("prefix"):
            pass
        with watch.part("batch"):
            watch._entered()  # and broken off inside
        with watch.part("validation"), watch.part("prefix"), watch.beside("decode"):
            pass
        with watch.beside("decode"):
            pass
    (lap,) = watch.laps
    assert lap.rows == 5
    assert sum(lap.parts.values()) == clock.now - begun - 1  # the look that began it
    own = {"other": 4, "disk": 2, "prefix": 1, "batch": 1, "adapters forward": 1, "validation": 3}
    assert lap.parts == own
    assert list(lap.beside) == ["decode"]


class Net(nn.Module):
    """An encoder with its own weights and one that is frozen, joined and read by a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([_Encoder(5, 3), _Encoder(5, 4).requires_grad_(False)])
        self.head = nn.Linear(7, 2, bias=False)
        self.seen = nn.Parameter(torch.zeros(()), requires_grad=False)

    def loss(self, x: Tensor) -> Tensor:
        own = torch.cat([encoder(x).pooled for encoder in self.encoders], 1)
        return F.dropout(self.head(own)).square().sum()


class _Encoder(nn.Module):
    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.layer = nn.Linear(wide, narrow, bias=False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tokens:
        self.calls += 1
        return Tokens.single(self.layer(x), torch.ones(len(x), dtype=torch.bool))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def test_operations_are_those_of_the_layers_each_in_its_part(net: Net) -> None:
    watch = Stopwatch(Ticks())
    with watch.stage("epoch"):
        watch.batch(6, net, lambda model: model.loss(torch.ones(6, 5)))
        watch.batch(4, net, lambda model: pytest.fail("counted once"))
    # A product of (a, b) with (b, c) does 2abc: of a row, b and c are left. The frozen encoder has no gradient;
    # the first needs none of what it reads.
    assert watch.operations == {
        "adapters forward": 2 * 5 * 3 + 2 * 5 * 4,
        "head forward": 2 * 7 * 2,
        "head backward": 2 * 7 * 2 * 2,
        "adapters backward": 2 * 5 * 3,
    }
    assert (watch.laps[0].rows, watch.laps[0].batches) == (10, 2)
    assert "counting" not in watch.laps[0].parts


def test_counting_leaves_no_trace(net: Net) -> None:
    before = {n: t.clone() for n, t in net.state_dict().items()}
    random = torch.get_rng_state()
    Stopwatch(Ticks()).batch(6, net, lambda model: model.loss(torch.ones(6, 5)))
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_attention_on_a_cpu_is_counted(net: Net) -> None:
    def loss(model: Net) -> Tensor:
        x = model.head.weight.new_ones(3, 2, 8, 16).requires_grad_()
        return F.scaled_dot_product_attention(x, x, x).sum()

    watch = Stopwatch(Ticks())
    watch.batch(3, net, loss)
    product = 2 * 2 * 8 * 8 * 16  # of a row: heads, both lengths, width
    assert watch.operations == {"head forward": 2 * product, "head backward": 5 * product}


def test_time_of_a_backward_pass_is_divided_where_gradients_reach_an_encoder(net: Net) -> None:
    watch = Stopwatch(Ticks())
    with watch.stage("epoch"):
        with watch.forward(net):
            loss = net.loss(torch.ones(6, 5))
        with watch.backward():
            loss.backward()
    parts = watch.laps[0].parts
    assert parts["adapters backward"] == parts["head backward"] == 1
    assert parts["adapters forward"] == 2  # one of each encoder
    assert not any(encoder._forward_hooks for encoder in net.encoders)


def test_nobody_looks_unless_asked(net: Net) -> None:
    watch = watching(torch.device("cpu"), wanted=False)
    assert isinstance(watch, NoWatch)
    watch.batch(6, net, lambda model: pytest.fail("nothing is computed"))
    parts = {id(watch.part("a")), id(watch.stage("b")), id(watch.beside("c")), id(watch.backward())}
    assert len(parts) == 1  # one object that does nothing
    assert watch.forward(net).__enter__() is None
    assert not any(encoder._forward_hooks for encoder in net.encoders)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_peak_is_of_products_that_took_their_time(dtype: torch.dtype) -> None:
    state = torch.get_rng_state()
    operations, took = peak(torch.device("cpu"), dtype)
    assert operations >= 2 * 256**3
    assert took > 0
    assert torch.equal(torch.get_rng_state(), state)
