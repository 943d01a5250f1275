"""LoRA, DoRA, rsLoRA and IA3: identity at step 0, the equations, folding, roles, counts."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from contracts import shake
from torch import Tensor, nn

from multiadapt.adapters._base import AdapterSpec
from multiadapt.adapters.ia3 import IA3
from multiadapt.adapters.lora import LoRA
from multiadapt.attach import Adapter, attach, running
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families.convnext import ConvNext
from multiadapt.encoders._families.resnet import ResNet
from multiadapt.encoders._families.vit import ViT
from multiadapt.encoders.image import ImageEncoder
from multiadapt.errors import SpecError
from multiadapt.folding import folded
from multiadapt.types import Convolution, Inputs, Site, Stream

PLAIN = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
         "intermediate_size": 24, "image_size": 32, "patch_size": 8}  # fmt: skip
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", PLAIN),
    "resnet": ("ResNet", {"depths": [1, 2], "hidden_sizes": [16, 32], "embedding_size": 8}),
    "convnext": ("ConvNext", {"depths": [1, 2], "hidden_sizes": [8, 16], "num_stages": 2}),
}
LORAS = {
    "plain": LoRA(r=3),
    "rs": LoRA(r=3, use_rslora=True, lora_alpha=2),
    "dora": LoRA(r=3, use_dora=True),
    "gaussian": LoRA(r=3, init_lora_weights="gaussian"),
    "all": LoRA(r=2, roles=("query", "key", "value", "out", "ffn_in", "ffn_out"), use_dora=True),
}
SPECS: dict[str, AdapterSpec] = {**LORAS, "ia3": IA3()}


@pytest.fixture(params=NETWORKS)
def encoder(request: pytest.FixtureRequest, tmp_path) -> Encoder:
    return opened(request.param, tmp_path)


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> AdapterSpec:
    return SPECS[request.param]


def opened(name: str, folder, streams: Sequence[str] = ("photo",)) -> Any:
    """An encoder of a tiny random network; several of one network for several streams."""
    kind, values = NETWORKS[name]
    network = getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**values)
    )
    shake(network)
    network.save_pretrained(folder)
    spec = ImageEncoder(str(folder), size=32)
    backbone = spec.open("classification")
    built = [spec.build(Stream(s, "image", ()), backbone, "net") for s in streams]
    return built[0] if len(built) == 1 else dict(zip(streams, built, strict=True))


def batch(rows: int = 3) -> Inputs:
    pixels = torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    return Inputs({"pixels": pixels}, torch.ones(rows, dtype=torch.long))


def placed_in(
    encoder: Encoder, spec: AdapterSpec, *, perturbed: bool = True
) -> Mapping[Site, Adapter]:
    torch.manual_seed(0)
    placed = spec.build(encoder.sites())
    attach(encoder, placed)
    if perturbed:
        for adapter in placed.values():
            perturb(adapter)
    return placed


def perturb(adapter: nn.Module) -> None:
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)


def linear_site(role="query", into=4, out=6, **other: Any) -> Site:
    return Site("s", "", role, 0, into, out, **other)


def conv_site(layer: nn.Conv2d | nn.Conv1d) -> Site:
    shape = Convolution(
        layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    return Site("s", "", "conv", 0, layer.in_channels, layer.out_channels, layout="map",
                convolution=shape)  # fmt: skip


def test_step_0_is_the_identity_to_the_bit(encoder: Encoder, spec: AdapterSpec) -> None:
    before = encoder(batch()).pooled
    assert placed_in(encoder, spec, perturbed=False)
    for mode in (True, False):
        assert torch.equal(encoder.train(mode)(batch()).pooled, before)


def test_every_adapter_is_live_and_frozen_stays_frozen(encoder: Encoder, spec: AdapterSpec) -> None:
    kept = {k: t.clone() for k, t in encoder.state_dict().items()}
    placed = placed_in(encoder, spec, perturbed=False)
    with torch.inference_mode():
        before = encoder(batch()).pooled
        for site, adapter in placed.items():
            own = copy.deepcopy(adapter.state_dict())
            for parameter in adapter.parameters():
                parameter.add_(torch.randn_like(parameter))
            moved = (encoder(batch()).pooled - before).abs().max()
            assert moved > 1e-3 * before.std(), site.key
            adapter.load_state_dict(own)
    assert encoder.state_dict().keys() == kept.keys()  # DoRA's frozen weight is nobody's child
    assert all(torch.equal(t, kept[k]) for k, t in encoder.state_dict().items())


def test_gradient_reaches_every_parameter_and_no_frozen_one(
    encoder: Encoder, spec: AdapterSpec
) -> None:
    encoder.requires_grad_(False)
    placed = placed_in(encoder, spec)
    encoder(batch()).pooled.square().sum().backward()
    for site, adapter in placed.items():
        for name, parameter in adapter.named_parameters():
            assert parameter.grad is not None, (site.key, name)
            assert parameter.grad.abs().max() > 0, (site.key, name)
    assert all(p.grad is None for p in encoder.parameters())


def test_state_round_trips(encoder: Encoder, spec: AdapterSpec) -> None:
    placed = placed_in(encoder, spec)
    expected = encoder(batch()).pooled
    states = {s: copy.deepcopy(a.state_dict()) for s, a in placed.items()}
    for adapter in placed.values():
        perturb(adapter)
    assert not torch.equal(encoder(batch()).pooled, expected)
    for site, adapter in placed.items():
        adapter.load_state_dict(states[site])
    assert torch.equal(encoder(batch()).pooled, expected)


def test_folded_says_the_same_and_afterwards_nothing_has_changed(
    encoder: Encoder, spec: AdapterSpec
) -> None:
    placed = placed_in(encoder, spec)
    encoder.eval()
    kept = {k: t.clone() for k, t in encoder.state_dict().items()}
    homes = {k: t.data_ptr() for k, t in encoder.state_dict().items()}
    expected = encoder(batch())
    with folded({"photo": encoder}, placed) as layers:
        assert layers == len({s.path for s in placed})
        assert all(adapter.folded for adapter in placed.values())
        found = encoder(batch())
        assert any(not torch.equal(t, kept[k]) for k, t in encoder.state_dict().items())
        torch.testing.assert_close(found.pooled, expected.pooled, rtol=1e-5, atol=1e-5)
        for site in placed:  # the hooks rest
            layer = encoder.get_submodule(site.path)
            with running("photo"):
                x = torch.randn(1, site.in_width, *(9, 9) if site.convolution else ())
                assert torch.equal(layer(x), layer.forward(x))
    assert all(torch.equal(t, kept[k]) for k, t in encoder.state_dict().items())
    assert {k: t.data_ptr() for k, t in encoder.state_dict().items()} == homes
    assert torch.equal(encoder(batch()).pooled, expected.pooled)


def test_weights_come_back_after_an_error(tmp_path) -> None:
    encoder = opened("vit", tmp_path)
    placed = placed_in(encoder, LoRA())
    expected = encoder(batch()).pooled
    with pytest.raises(KeyError, match="stop"), folded({"photo": encoder}, placed):
        raise KeyError("stop")
    assert torch.equal(encoder(batch()).pooled, expected)


@pytest.mark.parametrize("share", [True, False])
def test_a_shared_network_is_folded_where_its_streams_share_adapters(share: bool, tmp_path) -> None:
    encoders = opened("vit", tmp_path, ("front", "back"))
    sites = [s for e in encoders.values() for s in e.sites()]
    placed = LoRA(r=2, share=share).build(sites)
    for name, encoder in encoders.items():
        attach(encoder, {s: a for s, a in placed.items() if s.stream == name})
    for adapter in dict.fromkeys(placed.values()):
        perturb(adapter)
    expected = {name: e(batch()).pooled for name, e in encoders.items()}
    assert torch.equal(expected["front"], expected["back"]) == share
    with folded(encoders, placed) as layers:
        assert layers == (6 if share else 0)
        for name, encoder in encoders.items():
            torch.testing.assert_close(
                encoder(batch()).pooled, expected[name], rtol=1e-5, atol=1e-5
            )


def test_a_network_that_another_stream_uses_bare_is_not_folded(tmp_path) -> None:
    encoders = opened("vit", tmp_path, ("front", "back"))
    placed = placed_in(encoders["front"], LoRA())
    with folded(encoders, placed) as layers:
        assert layers == 0
    with folded({"front": encoders["front"]}, placed) as layers:
        assert layers == 6


def test_an_adapter_of_several_layers_or_of_no_layer_is_not_folded(tmp_path) -> None:
    encoder = opened("vit", tmp_path)
    sites = encoder.sites()
    one, two = (s for s in sites if s.role == "query" and s.block < 2)
    block = next(s for s in sites if s.role == "block")
    both = LoRA(share=False).build([one])[one]
    with folded({"photo": encoder}, {one: both, two: both}) as layers:
        assert layers == 0
    with folded({"photo": encoder}, {block: both}) as layers:
        assert layers == 0
    with folded({"photo": encoder}, {Site("fusion", "x", "query", 0, 4, 4): both}) as layers:
        assert layers == 0


class Kept(Adapter):
    """Of a kind that cannot be folded."""

    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y + 1


def test_folding_what_is_folded_is_refused() -> None:
    net, site = nn.Sequential(nn.Linear(4, 6)), replace(linear_site(), path="0")
    placed = dict(LoRA().build([site]))
    with folded({"s": net}, placed), pytest.raises(SpecError, match="folded already"), folded({"s": net}, placed):  # fmt: skip
        pass
    with folded({"s": net}, placed) as layers:
        assert layers == 1


def test_a_layer_with_an_adapter_that_cannot_be_folded_stays() -> None:
    net = nn.Sequential(nn.Linear(4, 6))
    whole, part = linear_site(), linear_site("key", out=2, part=(2, 4))
    whole, part = (replace(s, path="0") for s in (whole, part))
    placed: dict[Site, Adapter] = {whole: Kept()}
    with folded({"s": net}, placed) as layers:
        assert layers == 0
    lora = LoRA()
    placed = {whole: lora.build([whole])[whole], part: lora.with_params(roles=("key",)).build([part])[part]}  # fmt: skip
    with folded({"s": net}, placed) as layers:  # both correct the same rows
        assert layers == 0


def test_parts_of_a_fused_layer_are_corrected_and_folded_apart() -> None:
    net = nn.Sequential(nn.Linear(4, 9))
    parts = {"query": (0, 3), "value": (6, 9)}
    sites = [Site("s", "0", role, 0, 4, 3, part=rows) for role, rows in parts.items()]  # type: ignore[arg-type]
    for spec in (LoRA(r=2), LoRA(r=2, use_dora=True), IA3(roles=("query", "value"))):
        placed = spec.build(sites)
        attachment = attach(net, placed)
        for adapter in placed.values():
            perturb(adapter)
        x = torch.randn(5, 4)
        with running("s"):
            found = net(x)
            assert torch.equal(found[:, 3:6], net[0].forward(x)[:, 3:6])
            assert (found - net[0].forward(x)).abs().amax(0)[[0, 8]].min() > 1e-3
            with folded({"s": net}, placed) as layers:
                assert layers == 1
                torch.testing.assert_close(net(x), found)
        attachment.remove()


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, (1, 3), padding=(0, 2), dilation=2, bias=False),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 8, 3, groups=2),
        nn.Conv2d(4, 4, 5, groups=4, padding=2),
        nn.Conv1d(4, 6, 3, stride=2),
    ],
    ids=str,
)
def test_convolutions_of_every_shape_fold(layer: nn.Conv2d | nn.Conv1d, use_dora: bool) -> None:
    layer = copy.deepcopy(layer)  # a parameter's hooks would stay for the next test
    net = nn.Sequential(layer)
    site = replace(conv_site(layer), path="0")
    (adapter,) = LoRA(r=2, use_dora=use_dora).build([site]).values()
    attach(net, {site: adapter})
    x = torch.randn(2, 4, *[9] * (layer.weight.ndim - 2))
    with running("s"):
        assert torch.equal(net(x), layer.forward(x))
        perturb(adapter)
        found = net(x)
        assert (found - layer.forward(x)).abs().max() > 1e-3
        with folded({"s": net}, {site: adapter}) as layers:
            assert layers == 1
            torch.testing.assert_close(net(x), found, rtol=1e-5, atol=1e-5)


def alone(spec: LoRA, layer: nn.Linear) -> Adapter:
    site = linear_site(into=layer.in_features, out=layer.out_features)
    adapter = spec.build([site])[site]
    adapter.bind(layer)
    return adapter


def test_the_scale_is_alpha_over_r_or_over_its_root() -> None:
    layer, x = nn.Linear(4, 6), torch.randn(5, 4)
    for rooted, scale in ((False, 5 / 4), (True, 5 / 2)):
        adapter = alone(LoRA(r=4, lora_alpha=5, use_rslora=rooted), layer)
        perturb(adapter)
        expected = layer(x) + scale * x @ (adapter.up.weight @ adapter.down.weight).T
        torch.testing.assert_close(adapter((x,), layer(x)), expected)


def test_dora_is_the_papers_equation_and_its_length_is_a_constant_to_the_gradient() -> None:
    """Liu et al. 2024, eq. 5 and 11: m (W + BA) / ||W + BA||, the norm detached."""
    layer, x = nn.Linear(4, 6), torch.randn(5, 4)
    adapter = alone(LoRA(r=2, lora_alpha=4, use_dora=True), layer)
    perturb(adapter)
    direction = layer.weight.detach() + 2 * adapter.up.weight @ adapter.down.weight
    length = direction.detach().norm(dim=1, keepdim=True)
    expected = x @ (adapter.magnitude[:, None] * direction / length).T + layer.bias.detach()
    names, parameters = zip(*adapter.named_parameters(), strict=True)
    found = adapter((x,), layer(x).detach())
    torch.testing.assert_close(found, expected)
    theirs = torch.autograd.grad(expected.square().sum(), parameters)
    ours = torch.autograd.grad(found.square().sum(), parameters)
    assert len(names) == 3
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("use_dora", [False, True])
def test_dropout_acts_in_training_alone(use_dora: bool) -> None:
    layer, x = nn.Linear(4, 6), torch.randn(200, 4)
    adapter = alone(LoRA(r=2, lora_dropout=0.5, use_dora=use_dora), layer)
    assert torch.allclose(adapter((x,), layer(x)), layer(x), atol=1e-6)  # B is zero
    perturb(adapter)
    torch.manual_seed(1)
    first, second = adapter((x,), layer(x)), adapter((x,), layer(x))
    assert not torch.equal(first, second)
    adapter.eval()
    assert torch.equal(adapter((x,), layer(x)), adapter((x,), layer(x)))


def test_a_dead_output_stays_finite_under_dora() -> None:
    layer, x = nn.Linear(4, 6), torch.randn(5, 4)
    with torch.no_grad():
        layer.weight[2] = 0
    adapter = alone(LoRA(r=2, use_dora=True), layer)
    assert torch.equal(adapter((x,), layer(x)), layer(x))
    perturb(adapter)
    assert adapter((x,), layer(x)).isfinite().all()


def test_a_second_stream_leaves_a_trained_magnitude_alone() -> None:
    layer = nn.Linear(4, 6)
    adapter = alone(LoRA(r=2, use_dora=True), layer)
    torch.testing.assert_close(adapter.magnitude.detach(), layer.weight.detach().norm(dim=1))
    perturb(adapter)
    trained = adapter.magnitude.detach().clone()
    adapter.bind(layer)
    assert torch.equal(adapter.magnitude, trained)


@pytest.mark.parametrize("name", ["plain", "dora"])
def test_mixed_precision_keeps_the_sites_own_type(name: str, tmp_path) -> None:
    encoder = opened("vit", tmp_path)
    placed_in(encoder, LORAS[name])
    expected = encoder(batch()).pooled
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(batch()).pooled
    found.float().sum().backward()
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)  # bf16 has 8 bits


def test_a_copy_of_a_model_under_dora_reads_its_own_weights(tmp_path) -> None:
    encoder = opened("vit", tmp_path)
    model = nn.ModuleDict({"encoder": encoder})
    placed = placed_in(encoder, LORAS["dora"])
    model["adapters"] = nn.ModuleList(placed.values())
    other = copy.deepcopy(model)
    before = encoder(batch()).pooled
    assert torch.equal(other["encoder"](batch()).pooled, before)
    with torch.no_grad():
        for parameter in other["encoder"].parameters():
            parameter.zero_()
    assert torch.equal(encoder(batch()).pooled, before)
    assert not torch.equal(other["encoder"](batch()).pooled, before)


class ByKeyword(nn.Module):
    """Calls its layer with a named argument."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(input=x)


@pytest.mark.parametrize("net", [nn.Sequential(nn.Identity()), ByKeyword()])
def test_an_input_is_corrected_for_its_own_stream_alone(net: nn.Module) -> None:
    path = next(name for name, _ in net.named_modules() if name)
    site = Site("s", path, "ffn_out", 0, 4, 4)
    (adapter,) = IA3().build([site]).values()
    with torch.no_grad():
        adapter.scale.mul_(3)
    attachment = attach(net, {site: adapter})
    x = torch.randn(5, 4)
    with running("s"):
        assert torch.equal(net(x), 3 * x)
    with running("t"):
        assert torch.equal(net(x), x)
    assert torch.equal(net(x), x)
    attachment.remove()
    with running("s"):
        assert torch.equal(net(x), x)


# Where they sit


@pytest.mark.parametrize(
    ("roles", "count"),
    [
        (("query", "value"), 36_864),
        (("query", "key", "value", "out"), 73_728),
        (("query", "key", "value", "out", "ffn_in", "ffn_out"), 165_888),
    ],
)
def test_counts_are_the_published_ones(roles, count: int) -> None:
    """specification of U2A (arXiv 2501.17823): rank 1, width 768, 12 layers, MLP 3072."""
    with torch.device("meta"):
        family = ViT(transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False))
        placed = LoRA(r=1, roles=roles).build(sites_of(family))
    assert sum(p.numel() for a in placed.values() for p in a.parameters()) == count


def sites_of(family: Any) -> list[Site]:
    return [replace(s, stream="photo") for s in family.sites()]


def test_ia3_rescales_keys_values_and_what_is_inside_the_feed_forward_layer() -> None:
    with torch.device("meta"):
        family = ViT(transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False))
        placed = IA3().build(sites_of(family))
    assert sum(p.numel() for a in placed.values() for p in a.parameters()) == 12 * (2 * 768 + 3072)
    assert {s.role for s in placed} == {"key", "value", "ffn_out"}


def test_ia3_is_its_equation(tmp_path) -> None:
    encoder = opened("vit", tmp_path)
    placed = placed_in(encoder, IA3())
    layer = encoder.get_submodule("backbone.network.layers.0.mlp.fc2")
    site = next(s for s in placed if s.block == 0 and s.role == "ffn_out")
    x = torch.randn(2, 24)
    with running("photo"):
        torch.testing.assert_close(layer(x), layer.forward(x * placed[site].scale))
    layer = encoder.get_submodule("backbone.network.layers.0.attention.k_proj")
    site = next(s for s in placed if s.block == 0 and s.role == "key")
    x = torch.randn(2, 16)
    with running("photo"):
        torch.testing.assert_close(layer(x), layer.forward(x) * placed[site].scale)


def test_a_cnn_is_corrected_in_its_convolutions_and_pointwise_layers() -> None:
    with torch.device("meta"):
        resnet = ResNet(transformers.ResNetModel(transformers.ResNetConfig()))
        convnext = ConvNext(transformers.ConvNextModel(transformers.ConvNextConfig()))
    for family, roles in ((resnet, {"conv"}), (convnext, {"conv", "ffn_in", "ffn_out"})):
        sites = sites_of(family)
        assert {s.role for s in LoRA().build(sites)} == roles
        assert {s.role for s in IA3().build(sites)} == {"conv"} | (roles & {"ffn_out"})
    assert sum(s.role == "conv" for s in resnet.sites()) == 16 * 3 + 4


def test_streams_of_one_network_share_by_default() -> None:
    sites = [Site(s, "q", "query", 0, 4, 4, network="net") for s in ("front", "back")]
    for spec in (LoRA(), IA3(roles=("query",))):
        assert len(set(spec.build(sites).values())) == 1
        assert len(set(spec.with_params(share=False).build(sites).values())) == 2


def test_the_last_blocks_alone_leave_a_frozen_prefix(tmp_path) -> None:
    encoder = opened("vit", tmp_path)
    for spec in (LoRA(blocks="last 2"), IA3(blocks="last 2")):
        placed = spec.build(encoder.sites())
        assert {s.block for s in placed} == {1, 2}
        assert encoder.cut_for(placed, ()) == 1
    assert {s.block for s in LoRA(blocks="last 3").build(encoder.sites())} == {0, 1, 2}
    with pytest.raises(SpecError, match="'last 4', but the network of 'photo' has 3 blocks"):
        LoRA(blocks="last 4").build(encoder.sites())


def test_a_role_that_a_network_lacks_is_refused_with_those_it_has(tmp_path) -> None:
    sites = opened("vit", tmp_path).sites()
    with pytest.raises(SpecError, match=r"'photo' has a role of cross; it has query, key, .*block"):
        LoRA(roles=("cross",)).build(sites)
    with pytest.raises(SpecError, match=r"'photo' has a role of query; it has block, conv$"):
        LoRA(map_roles=("query",)).build(opened("resnet", tmp_path).sites())
    with pytest.raises(SpecError, match="'photo' has a role of cross"):
        IA3(roles=("cross",)).build(sites)


def test_no_roles_leave_a_network_alone_and_a_table_has_none(tmp_path) -> None:
    assert LoRA(map_roles=()).build(opened("resnet", tmp_path).sites()) == {}
    table = Site("table", "pooled", "pooled", 0, 4, 4, modality="tabular", layout="vector")
    assert LoRA().build([table]) == IA3().build([table]) == {}


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        (LoRA, {"r": 0}, "r must be at least 1, got 0"),
        (LoRA, {"lora_alpha": 0}, "lora_alpha must be above 0, got 0"),
        (LoRA, {"lora_dropout": 1.0}, "lora_dropout must be in 0..1, below 1, got 1.0"),
        (LoRA, {"roles": ("block",)}, "LoRA takes the roles query, .*conv; got block"),
        (
            LoRA,
            {"blocks": "first 2"},
            r"blocks must be None \(all\) or such as 'last 4', got 'first",
        ),
        (LoRA, {"blocks": "last 0"}, "such as 'last 4', got 'last 0'"),
        (LoRA, {"init_lora_weights": "pissa"}, "must be one of True, 'gaussian', got 'pissa'"),
        (IA3, {"roles": ("ffn",)}, "IA3 takes the roles query, .*conv; got ffn"),
        (IA3, {"roles": ("ffn_mid", "ffn_out")}, "one layer's input and output; choose one"),
    ],
)
def test_options_that_mean_nothing_are_refused(kind, options, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        kind(**options)


@pytest.mark.parametrize("use_dora", [False, True])
def test_training_with_dropout_is_pefts(use_dora: bool) -> None:
    peft = pytest.importorskip("peft", reason="peft is installed for development alone")
    layer, x = nn.Linear(4, 6), torch.randn(5, 4)
    ours = alone(LoRA(r=2, lora_dropout=0.5, use_dora=use_dora), layer)
    perturb(ours)
    config = peft.LoraConfig(r=2, lora_dropout=0.5, use_dora=use_dora, target_modules=["0"])
    theirs = peft.get_peft_model(nn.Sequential(copy.deepcopy(layer)), config).train()
    names = {"lora_A": "down", "lora_B": "up", "lora_magnitude_vector": "magnitude"}
    own = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            for peft_name, part in names.items():
                if f".{peft_name}." in name:
                    parameter.copy_(next(p for n, p in own.items() if n.startswith(part)))
    torch.manual_seed(3)
    found = ours((x,), layer(x))
    torch.manual_seed(3)
    torch.testing.assert_close(found, theirs(x))


def test_options_and_defaults_are_pefts() -> None:
    peft = pytest.importorskip("peft", reason="peft is installed for development alone")
    theirs = peft.LoraConfig()
    for name in ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights"):
        assert getattr(LoRA(), name) == getattr(theirs, name), name
