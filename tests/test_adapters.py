"""Adapters and fusion: identity at step 0, gradient everywhere after one, rows on their own."""

import copy

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.conv_bottleneck import ConvBottleneck
from multiadapt.errors import SpecError
from multiadapt.fusion.concat import Concat
from multiadapt.types import Site, Tokens

ACTIVATIONS = ["relu", "gelu", "silu", "tanh", "identity"]
WIDTH = 6
SPECS = [
    *(Bottleneck(r=3, activation=a) for a in ACTIVATIONS),
    Bottleneck(r=3, norm="layer"),
    Bottleneck(r=1, alpha=0.5),
    *(ConvBottleneck(r=3, activation=a) for a in ACTIVATIONS),
    ConvBottleneck(r=3, norm=None),
    ConvBottleneck(r=1, alpha=0.5),
]
RANDOM = [spec.with_params(init="normal") for spec in SPECS]


def vector_site(stream="s", path="pooled", **other):
    return Site(stream, path, "pooled", 2, WIDTH, WIDTH, layout="vector", **other)


def map_site(stream="s", path="stages.0", **other):
    return Site(stream, path, "block", 0, WIDTH, WIDTH, layout="map", **other)


def built(spec, *, mode="eval", seed=0):
    """The spec's one adapter and an input for it."""
    torch.manual_seed(seed)
    conv = isinstance(spec, ConvBottleneck)
    site = map_site() if conv else vector_site()
    adapter = spec.build([site])[site].train(mode == "train")
    y = torch.randn((4, WIDTH, 5, 5) if conv else (4, WIDTH))
    return adapter, y


def perturb(adapter):
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


def ids(spec):
    return f"{spec.name}-{spec.activation}-{spec.norm}-r{spec.r}"


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_step_0_is_the_identity(spec, mode):
    adapter, y = built(spec, mode=mode)
    assert torch.equal(adapter((y,), y), y)


@pytest.mark.parametrize("spec", RANDOM, ids=ids)
def test_normal_init_is_not_the_identity(spec):
    adapter, y = built(spec)
    assert (adapter((y,), y) - y).abs().max() > 1e-3


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_the_first_step_moves_the_output_a_little(spec):
    adapter, y = built(spec, mode="train")
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-3)
    torch.manual_seed(1)
    loss = (adapter((y,), y) * torch.randn_like(y)).sum()
    loss.backward()
    optimizer.step()
    moved = (adapter((y,), y) - y).std()
    assert 0 < moved < 0.02  # a zero up-projection under a norm would move it by about 0.4


@pytest.mark.parametrize("spec", SPECS + RANDOM, ids=ids)
def test_gradient_reaches_every_parameter_after_one_perturbation(spec):
    # In eval mode: under a BatchNorm in training the bias before it has no effect.
    adapter, y = built(spec)
    perturb(adapter)
    (adapter((y,), y) ** 2).sum().backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-6, name


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_a_batch_equals_its_rows(spec):
    adapter, y = built(spec)
    perturb(adapter)
    rows = torch.cat([adapter((row[None],), row[None]) for row in y])
    torch.testing.assert_close(adapter((y,), y), rows)


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_alpha_scales_the_correction(spec):
    adapter, y = built(spec)
    perturb(adapter)
    other = built(spec.with_params(alpha=2 * spec.alpha))[0]
    other.load_state_dict(adapter.state_dict())
    torch.testing.assert_close(other((y,), y) - y, 2 * (adapter((y,), y) - y))


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_the_frozen_output_is_not_written_to(spec):
    adapter, y = built(spec)
    perturb(adapter)
    before = y.clone()
    adapter((y,), y)
    assert torch.equal(y, before)


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_state_round_trips(spec):
    adapter, y = built(spec)
    perturb(adapter)
    other = built(spec, seed=5)[0]
    other.load_state_dict(copy.deepcopy(adapter.state_dict()))
    assert torch.equal(other((y,), y), adapter((y,), y))


def test_bottleneck_takes_tokens_of_any_shape():
    adapter, _ = built(Bottleneck())
    y = torch.randn(2, 3, 7, WIDTH)
    assert adapter((y,), y).shape == y.shape


def test_a_map_keeps_its_size():
    adapter, _ = built(ConvBottleneck(), mode="train")
    for shape in ((2, WIDTH, 1, 1), (2, WIDTH, 3, 7)):
        y = torch.randn(shape)
        assert adapter((y,), y).shape == shape


@pytest.mark.parametrize("width", [512, 2048, 4096])
def test_counts_are_the_published_ones(width):
    """specification of TI-Adapter (arXiv 2606.11682): 33 d + 16 and 163 C + 16 at r = 16."""
    with torch.device("meta"):
        vector = Site("s", "p", "pooled", 2, width, width)
        blocks = Site("s", "p", "block", 0, width, width, layout="map")
        embedding = Bottleneck().build([vector])[vector]
        conv = ConvBottleneck().build([blocks])[blocks]
        light = ConvBottleneck(norm=None).build([blocks])[blocks]
        normed = Bottleneck(norm="layer").build([vector])[vector]
    counts = [sum(p.numel() for p in a.parameters()) for a in (embedding, conv, light, normed)]
    assert counts == [33 * width + 16, 163 * width + 16, 161 * width + 16, 35 * width + 16]


@pytest.mark.parametrize("spec", [Bottleneck(), ConvBottleneck()])
def test_streams_of_one_network_share_by_default(spec):
    make = map_site if isinstance(spec, ConvBottleneck) else vector_site
    front, back = make("front", network="n0"), make("back", network="n0")
    other = make("other", network="n1")
    shared = spec.build([front, back, other])
    assert shared[front] is shared[back]
    assert shared[front] is not shared[other]
    own = spec.with_params(share=False).build([front, back, other])
    assert len({id(a) for a in own.values()}) == 3


@pytest.mark.parametrize("spec", [Bottleneck(), ConvBottleneck()])
def test_networks_without_a_name_are_not_shared(spec):
    make = map_site if isinstance(spec, ConvBottleneck) else vector_site
    one, two = make("one"), make("two")
    placed = spec.build([one, two])
    assert placed[one] is not placed[two]


def test_adapters_pick_their_sites_by_role_and_layout():
    tokens = Site("s", "blocks.0", "block", 0, WIDTH, WIDTH)
    sites = [vector_site(), map_site(), tokens]
    assert list(Bottleneck().build(sites)) == [sites[0]]
    assert list(Bottleneck(roles=("block",)).build(sites[2:])) == [tokens]
    assert list(ConvBottleneck().build(sites)) == [sites[1]]
    assert Bottleneck().build([]) == {}


@pytest.mark.parametrize("kind", [Bottleneck, ConvBottleneck])
def test_an_empty_bottleneck_is_refused(kind):
    with pytest.raises(SpecError, match="r must be at least 1, got 0"):
        kind(r=0)


def test_unknown_options_are_refused():
    with pytest.raises(SpecError, match=r"activation must be one of 'relu', .*, got 'swish'"):
        Bottleneck(activation="swish")
    with pytest.raises(
        SpecError, match=r"ConvBottleneck.norm must be one of 'batch' or None, got 'layer'"
    ):
        ConvBottleneck(norm="layer")


# Fusion


def tokens_of(x, present=None):
    present = torch.ones(len(x), dtype=torch.bool) if present is None else present
    return Tokens.single(x * present[:, None], present)


def test_concat_keeps_the_order_of_the_streams():
    fusion = Concat().build({"table": 2, "photo": 3})
    table, photo = torch.randn(4, 2), torch.randn(4, 3)
    tokens = {"photo": tokens_of(photo), "table": tokens_of(table)}  # in another order
    assert fusion.width == 5
    assert torch.equal(fusion(tokens), torch.cat([table, photo], 1))


def test_concat_has_nothing_to_train_and_no_penalty():
    fusion = Concat().build({"table": 2})
    tokens = {"table": tokens_of(torch.ones(2, 2))}
    assert not list(fusion.parameters())
    assert fusion.penalty(tokens) == 0
    assert fusion.sites() == ()


def test_a_missing_cell_is_zeros_after_concat():
    fusion = Concat().build({"a": 2, "b": 2})
    present = torch.tensor([True, False])
    fused = fusion({"a": tokens_of(torch.ones(2, 2)), "b": tokens_of(torch.ones(2, 2), present)})
    assert fused.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_concat_of_a_batch_equals_its_rows():
    fusion = Concat().build({"a": 3, "b": 2})
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    rows = [fusion({"a": tokens_of(a[[i]]), "b": tokens_of(b[[i]])})[0] for i in range(4)]
    assert torch.equal(fusion({"a": tokens_of(a), "b": tokens_of(b)}), torch.stack(rows))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_norm_that_saves_nothing_large_has_the_same_gradient_to_the_bit(mode, precision):
    spec = ConvBottleneck(r=3, init="normal")
    found = []
    for plain in (False, True):
        adapter, y = built(spec, mode=mode)
        y.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            if plain:
                out = y + adapter.norm(adapter.up(adapter.act(adapter.down(y))))
            else:
                out = adapter((y,), y)
        out.square().sum().backward()
        tensors = [y.grad, *(p.grad for p in adapter.parameters()), *adapter.buffers()]
        found.append([out.detach(), *tensors])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_a_conv_adapter_keeps_no_map_of_its_own_for_the_backward_pass():
    adapter, y = built(ConvBottleneck(r=1, init="normal"), mode="train")
    raised = []
    adapter.up.register_forward_hook(
        lambda module, given, out: raised.append(StorageWeakRef(out.untyped_storage()))
    )
    corrected = adapter((y,), y)
    assert corrected.requires_grad
    assert raised[0].expired(), "the up-convolution's output is still held"


def test_one_value_a_channel_is_normed_by_the_running_statistics():
    adapter, many = built(ConvBottleneck(r=3, init="normal"), mode="train")
    adapter((many,), many)
    one = many[:1, :, :1, :1].clone().requires_grad_()
    before = {k: v.clone() for k, v in adapter.state_dict().items()}
    trained = adapter((one,), one)
    trained.sum().backward()
    assert all(p.grad is not None for p in adapter.parameters())
    assert all(torch.equal(v, before[k]) for k, v in adapter.state_dict().items())
    assert torch.equal(trained, adapter.eval()((one,), one))


def test_one_row_with_several_places_moves_the_running_statistics():
    adapter, many = built(ConvBottleneck(r=3, init="normal"), mode="train")
    adapter((many[:1],), many[:1])
    assert adapter.norm.num_batches_tracked == 1
    assert adapter.norm.running_mean.any()
