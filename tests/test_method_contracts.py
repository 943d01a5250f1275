"""What must hold for every method of the folder, on one tiny table."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch

from multiadapt import MultimodalRegressor, TIAdapter, Training, Trees, load
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.ia3 import IA3
from multiadapt.adapters.lora import LoRA, LowRank
from multiadapt.encoders.image import ImageEncoder
from multiadapt.encoders.trees import TreesEncoder
from multiadapt.errors import EncoderError, SpecError
from multiadapt.fitted import Fitted
from multiadapt.folding import folded
from multiadapt.methods._base import Method
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.methods.bitfit import BitFit
from multiadapt.methods.houlsby import Houlsby
from multiadapt.methods.ia3 import PlainIA3
from multiadapt.methods.lora import PlainLoRA
from multiadapt.methods.u2a import U2A
from multiadapt.spec import names, resolve
from multiadapt.types import Site, Stream

METHODS = names("methods")
SHORT = Training(epochs=2, batch_size=16)


def fitted(
    method: Method | str, table: pd.DataFrame, photos: Path, network: Path, **options: object
) -> MultimodalRegressor:
    model = MultimodalRegressor(
        method,
        encoders={"image": str(network), "tabular": "mlp"},
        training=options.pop("training", SHORT),
        verbose=False,
        **options,
    )
    return model.fit(table.drop(columns="kind"), label="price", root=photos)


def frozen_tensors(model: Fitted) -> dict[str, torch.Tensor]:
    every = model.model.named_parameters(remove_duplicate=False)  # streams may share a network
    trained = {n for n, p in every if p.requires_grad}
    return {
        n: t.clone()
        for n, t in model.model.state_dict().items()
        if n not in trained and not n.startswith("adapters.") and ".pooled." not in n
    }


@pytest.mark.parametrize("name", METHODS)
def test_every_method_fits_predicts_and_keeps_order(name: str, table, photos, network) -> None:
    before = table.copy(deep=True)
    model = fitted(name, table, photos, network)
    predicted = model.predict(table)
    assert predicted.index.equals(table.index)
    assert predicted.name == "price"
    assert np.isfinite(predicted).all()
    assert model.parameters().columns.tolist() == ["part", "trainable", "frozen", "share"]
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(
        model.predict(shuffled), predicted.loc[shuffled.index], rtol=1e-5
    )
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_the_same_for_a_seed(name: str, table, photos, network) -> None:
    first, second = (fitted(name, table, photos, network).predict(table) for _ in range(2))
    assert first.equals(second)


@pytest.mark.parametrize("name", [m for m in METHODS if m not in ("trees", "full")])
def test_frozen_stays_frozen(name: str, table, photos, network) -> None:
    start = fitted(name, table, photos, network, training=Training(epochs=1, learning_rate=1e-12))
    end = fitted(name, table, photos, network, training=Training(epochs=2, learning_rate=0.1))
    one, two = frozen_tensors(start.fitted_), frozen_tensors(end.fitted_)
    assert one.keys() == two.keys()
    assert all(torch.equal(t, two[n]) for n, t in one.items())


@pytest.mark.parametrize(("name", "rate"), [("full", 1e-4), ("frozen", 1e-3)])
def test_a_recipe_without_a_learning_rate_takes_the_method_s(
    name: str, rate: float, table, photos, network
) -> None:
    model = fitted(name, table, photos, network, training=Training(epochs=1))
    assert model.fitted_.training.learning_rate == rate


def test_full_moves_weights_but_no_running_statistic(table, photos, network) -> None:
    model = fitted("full", table, photos, network, training=Training(epochs=2, learning_rate=0.01))
    backbone = model.fitted_.model.encoder("front").backbone.network
    fresh = type(backbone).from_pretrained(network).state_dict()
    moved = {n for n, t in backbone.state_dict().items() if not torch.equal(t, fresh[n])}
    parameters = {n for n, _ in backbone.named_parameters()}
    assert moved <= parameters  # running statistics are buffers
    assert {n for n in parameters if n.endswith("convolution.weight")} <= moved


def test_bitfit_moves_biases_alone(table, photos, network) -> None:
    rates = (1e-30, 0.01)
    first, second = (
        fitted("bitfit", table, photos, network, training=Training(epochs=2, learning_rate=rate))
        for rate in rates
    )
    before, after = (m.fitted_.model.encoder("front").backbone.network for m in (first, second))
    was = before.state_dict()
    moved = {n for n, t in after.state_dict().items() if not torch.equal(t, was[n])}
    biases = {n for n in was if n.endswith(".bias")}  # BatchNorm's, whose running statistics stay
    assert moved <= biases
    assert len(moved) > len(biases) / 2  # the others' channels are dead in this random network


@pytest.mark.parametrize(
    "method", [PlainLoRA(lora=LoRA(use_dora=True)), PlainIA3(), Houlsby(), BitFit()], ids=repr
)
def test_what_is_trained_inside_networks_survives_saving(
    method: Method, table, photos, network, tmp_path
) -> None:
    model = fitted(method, table, photos, network)
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved").predict(table, root=photos)
    pd.testing.assert_series_equal(again, model.predict(table))


def test_folded_predictions_are_the_same_with_a_network_for_two_columns(
    table, photos, network
) -> None:
    done = fitted("lora", table, photos, network, training=Training(epochs=2, learning_rate=0.01))
    model = done.fitted_.model
    plain = done.fitted_.scores(table, photos)
    with folded({s: model.encoder(s) for s in model.streams}, model.placed) as layers:
        assert layers == len({s.path for s in model.placed if s.role == "conv"}) > 0
        np.testing.assert_allclose(
            done.fitted_.scores(table, photos), plain, rtol=1e-5, atol=1e-5 * np.abs(plain).max()
        )
    assert np.array_equal(done.fitted_.scores(table, photos), plain)


def test_bitfit_of_a_network_without_biases_is_refused() -> None:
    spec = ImageEncoder("random:resnet-18")
    with torch.device("meta"):
        network = spec.open("classification")
    for module in network.modules():
        module.register_parameter("bias", None)
    encoder = spec.build(Stream("photo", "image", ()), network, "net")
    with pytest.raises(EncoderError, match="the network of 'photo' has no biases to train among"):
        BitFit().native(encoder)


def tokens_and_map() -> list[Site]:
    """Sites of a transformer, of a CNN and of a table."""
    roles = ("query", "key", "value", "out", "ffn_in", "ffn_out", "ffn", "block")
    text = [Site("text", r, r, 0, 8, 8, network="t", modality="text") for r in roles]  # type: ignore[arg-type]
    photo = Site("photo", "b", "block", 0, 8, 8, network="p", modality="image", layout="map")
    table = Site("table", "pooled", "pooled", 0, 8, 8, modality="tabular", layout="vector")
    own = Site("fusion", "q", "query", 0, 8, 8)
    return [*text, photo, table, own]


def test_plain_methods_correct_pretrained_networks_and_the_tables_vector() -> None:
    sites = tokens_and_map()
    for method, roles in (
        (PlainLoRA(lora=LoRA(map_roles=())), ["pooled", "query", "value"]),
        (PlainIA3(ia3=IA3(map_roles=())), ["pooled", "key", "value", "ffn_out"]),
        (Houlsby(), ["pooled", "out", "ffn_out", "block"]),
        (BitFit(tabular=Bottleneck()), ["pooled"]),
    ):
        placed = method.adapters(sites)
        assert [s.role for s in placed] == roles
        assert all(s.stream != "fusion" for s in placed)
        bare = method.with_params(tabular=None).adapters(sites)
        assert [s.role for s in bare] == roles[1:]


def ranks(method: U2A | PlainLoRA, streams: Mapping[str, str]) -> dict[str, set[int]]:
    """By stream, the ranks of its adapters; streams by name, with their modality."""
    roles = ("query", "key", "value", "out", "ffn_in", "ffn_out")
    sites = [
        Site(s, r, r, 0, 8, 8, network="shared", modality=m)  # type: ignore[arg-type]
        for s, m in streams.items()
        for r in roles
    ]
    found: dict[str, set[int]] = {stream: set() for stream in streams}
    for site, adapter in method.adapters(sites).items():
        found[site.stream].add(cast(LowRank, adapter).spec.r)
    return found


STREAMS = {"title": "text", "body": "text", "photo": "image", "call": "audio"}


@pytest.mark.parametrize("kind", ["u2a", "lora"])
def test_low_rank_options_go_by_column_then_modality_then_default(kind: str) -> None:
    def method(named: Mapping[str, LoRA]) -> U2A | PlainLoRA:
        return U2A(adapter=named) if kind == "u2a" else PlainLoRA(lora=named)

    named = {"text": LoRA(r=4), "body": LoRA(r=2), "image": LoRA(r=1)}
    assert ranks(method(named), STREAMS) == {"title": {4}, "body": {2}, "photo": {1}, "call": set()}
    others = {"photo": LoRA(r=3), "default": LoRA(r=5)}
    assert ranks(method(others), STREAMS) == {"title": {5}, "body": {5}, "photo": {3}, "call": {5}}
    shared = method(named).adapters([
        Site(s, "q", "query", 0, 8, 8, network="n", modality="text") for s in ("title", "news")
    ] + [Site("body", "q", "query", 0, 8, 8, network="n", modality="text"),
         Site("photo", "q", "query", 0, 8, 8, network="p", modality="image")])  # fmt: skip
    by_stream = {site.stream: adapter for site, adapter in shared.items()}
    assert by_stream["title"] is by_stream["news"]
    assert by_stream["body"] is not by_stream["title"]
    with pytest.raises(
        SpecError, match=r"\['sound', 'table'\] are none of \['title', 'body', 'photo'"
    ):
        ranks(method({"sound": LoRA(), "table": LoRA(), "text": LoRA()}), STREAMS)


def test_houlsbys_places_must_be_there() -> None:
    with pytest.raises(SpecError, match="nothing in the network of 'text' has a role of cross"):
        Houlsby(inner=Bottleneck(roles=("cross",))).adapters(tokens_and_map())


@pytest.mark.parametrize("variant", ["embedding", "bc1", "bc2"])
def test_step_0_equals_the_frozen_model(variant: str, table, photos, network) -> None:
    tiny = Training(epochs=1, learning_rate=1e-30, normalize=False)
    method = TIAdapter(image=ImageBranch(variant=variant))
    adapted = fitted(method, table, photos, network, training=tiny)
    model = adapted.fitted_.model
    for adapter in model.adapters:
        for parameter in adapter.parameters():
            assert parameter.requires_grad
    bare = copy.deepcopy(model)
    for module in bare.modules():
        module._forward_hooks.clear()
    with_adapters = adapted.fitted_.scores(table, photos)
    adapted.fitted_.model = bare
    np.testing.assert_allclose(adapted.fitted_.scores(table, photos), with_adapters, atol=1e-6)


@pytest.mark.parametrize("variant", ["embedding", "bc1", "bc2"])
def test_gradient_reaches_every_trained_parameter(variant: str, table, photos, network) -> None:
    method = TIAdapter(image=ImageBranch(variant=variant, init="normal"))
    model = fitted(method, table, photos, network).fitted_.model.train()
    for adapter in model.adapters:
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter, std=0.1)  # zero gates hide what lies before them
    encoder = model.encoder("front")
    pixels = encoder.prepare([[np.full((32, 32, 3), i * 9, np.uint8)] for i in range(8)])
    rows = table.iloc[:8][["size"]].assign(colour=table["colour"].iloc[:8].astype(object))
    inputs = {"front": pixels, "back": pixels, "tabular": model.encoder("tabular").prepare(rows)}
    model(inputs).scores.square().sum().backward()
    blind = [
        n for n, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0
    ]
    unseen = [n for n in blind if n.endswith(("categories.table.weight", "missing"))]
    assert blind == unseen


def test_columns_share_one_network_and_its_adapters(table, photos, network) -> None:
    model = fitted(TIAdapter(), table, photos, network).fitted_.model
    assert model.encoder("front").backbone is model.encoder("back").backbone
    shared = [a for s, a in model.placed.items() if s.stream == "front"]
    assert shared == [a for s, a in model.placed.items() if s.stream == "back"]
    own = fitted(TIAdapter(image=ImageBranch(share=False)), table, photos, network).fitted_.model
    assert len(own.adapters) == 2 * len(shared) + 1
    both = ("adapters front", "adapters back")
    assert sum(p.trainable for p in own.parts() if p.part in both) == 2 * next(
        p.trainable for p in model.parts() if p.part == "adapters front + back"
    )


def test_more_stages_than_the_network_has_is_refused(table, photos, network) -> None:
    with pytest.raises(
        SpecError, match="'bc3' adapts the last 3 stages, but the network of 'front' has 2"
    ):
        fitted(TIAdapter(image=ImageBranch(variant="bc3")), table, photos, network)
    with pytest.raises(SpecError, match=r"stages must lie in 1..2 for 'front', got \(0,\)"):
        fitted(TIAdapter(image=ImageBranch(stages=(0,))), table, photos, network)
    with pytest.raises(SpecError, match="adapts no stages"):
        ImageBranch(variant="embedding", stages=(1,))


def test_stages_choose_where_adapters_sit(table, photos, network) -> None:
    first = fitted(TIAdapter(image=ImageBranch(stages=(1,))), table, photos, network).fitted_.model
    assert {s.stage for s in first.placed if s.modality == "image"} == {0}
    assert first.cuts()["front"] == 1  # what the first block says is kept, and then corrected
    last = fitted(TIAdapter(image=ImageBranch(variant="bc1")), table, photos, network).fitted_.model
    assert {s.stage for s in last.placed if s.modality == "image"} == {1}
    assert last.cuts()["front"] == 2


@pytest.mark.parametrize("name", METHODS)
def test_name_is_the_file(name: str) -> None:
    assert resolve("methods", name)().name == name


def test_trees_count_sample_weights(table: pd.DataFrame) -> None:
    """Rows of weight 0 leave no trace, whole weights are copies of rows."""
    frame = table[["size", "price"]].dropna()
    weight = np.arange(len(frame)) % 3
    copies = frame.loc[frame.index.repeat(weight)]
    options = {"validation": 0.0, "verbose": False}
    leaves = Trees(trees=TreesEncoder(min_samples_leaf=1, max_iter=5))  # whose size counts rows
    weighted = MultimodalRegressor(leaves, **options).fit(
        frame, label="price", sample_weight=weight.astype(float)
    )
    repeated = MultimodalRegressor(leaves, **options).fit(copies, label="price")
    plain = MultimodalRegressor(leaves, **options).fit(frame, label="price")
    seen = frame[weight > 0]
    gap = (weighted.predict(seen) - repeated.predict(seen)).abs().mean()
    assert gap < 0.5 * (plain.predict(seen) - repeated.predict(seen)).abs().mean()
