"""What every family of image networks promises, on tiny networks of the real architectures."""

import copy
import importlib.util
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from contracts import (
    Change,
    cuts_give_the_whole_pass,
    guests_see_and_are_not_seen,
    models_pass_together,
    recomputed_gradients_are_the_same,
    shake,
    sites_are_live,
)
from torch import Tensor

from multiadapt.adapters.conv_bottleneck import ConvBottleneck
from multiadapt.attach import attach, resting
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._base import families
from multiadapt.encoders.image import ImageEncoder
from multiadapt.errors import EncoderError
from multiadapt.types import Inputs, Stream

SIDE = 32  # pixels
PLAIN: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": SIDE,
    "patch_size": 8,
}
DINO: dict[str, Any] = {k: v for k, v in PLAIN.items() if k != "intermediate_size"} | {
    "mlp_ratio": 2
}


def flat(out: Any) -> tuple[Tensor, Tensor]:
    """A CNN's last feature map as tokens, and the library's own pooled vector."""
    return out.last_hidden_state.flatten(2).transpose(1, 2), out.pooler_output.flatten(1)


def pooler(out: Any) -> tuple[Tensor, Tensor]:
    return out.last_hidden_state, out.pooler_output


def class_token(out: Any) -> tuple[Tensor, Tensor]:
    return out.last_hidden_state, out.last_hidden_state[:, 0]


@dataclass(frozen=True)
class Case:
    """A tiny network: its class and config, what the library says, and the stage of each block."""

    kind: str
    config: Mapping[str, Any]
    expected: Callable[[Any], tuple[Tensor, Tensor]]
    stages: tuple[int, ...]


BASIC: dict[str, Any] = {
    "layer_type": "basic",
    "depths": [2, 1, 1],
    "hidden_sizes": [8, 16, 24],
    "embedding_size": 8,
}
NECK: dict[str, Any] = {
    "layer_type": "bottleneck",
    "depths": [1, 2],
    "hidden_sizes": [16, 32],
    "embedding_size": 8,
}
NEXT: dict[str, Any] = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32], "patch_size": 2}
QUARTERS = (0, 0, 1, 2, 3)  # five blocks in four stages

CASES = {
    "resnet-basic": Case("ResNet", BASIC, flat, (0, 0, 1, 2)),
    "resnet-bottleneck": Case("ResNet", NECK, flat, (0, 1, 1)),
    "resnet-v1": Case("ResNet", NECK | {"downsample_in_bottleneck": True}, flat, (0, 1, 1)),
    "convnext": Case("ConvNext", NEXT, flat, (0, 1, 2, 2, 3)),
    "convnext-v2": Case("ConvNextV2", NEXT, flat, (0, 1, 2, 2, 3)),
    "vit": Case("ViT", PLAIN, class_token, QUARTERS),
    "vit-three-blocks": Case("ViT", PLAIN | {"num_hidden_layers": 3}, class_token, (0, 1, 2)),
    "dinov2": Case("Dinov2", DINO, pooler, QUARTERS),
    "dinov2-gated": Case("Dinov2", DINO | {"use_swiglu_ffn": True}, pooler, QUARTERS),
    "dinov2-registers": Case("Dinov2WithRegisters", DINO, pooler, QUARTERS),
    "clip": Case("CLIPVision", PLAIN, pooler, QUARTERS),
    "siglip": Case("SiglipVision", PLAIN, pooler, QUARTERS),
}
TIMM = {
    "timm-resnet": ("random:timm:test_resnet", (0, 1, 2, 3)),
    "timm-vit": ("random:timm:test_vit", (0, 0, 1, 2, 2, 3)),
    "timm-vit-head": ("random:timm:test_vit3", (0, 0, 0, 1, 1, 2, 2, 3, 3)),
}
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is an extra")
EVERY = [*CASES, *(pytest.param(name, marks=needs_timm) for name in TIMM)]


@pytest.fixture(scope="module", params=EVERY)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def encoder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    if name in TIMM:
        encoder = built(ImageEncoder(TIMM[name][0], size=64))
        shake(encoder.get_submodule("backbone"))
        return encoder
    folder = tmp_path_factory.mktemp(name)
    save(CASES[name], folder)
    return built(ImageEncoder(str(folder), size=SIDE))


def save(case: Case, folder: Path) -> Any:
    config = getattr(transformers, f"{case.kind}Config")(**case.config)
    network = getattr(transformers, f"{case.kind}Model")(config).eval()
    shake(network)
    network.save_pretrained(folder)
    return network


def built(spec: ImageEncoder, stream: str = "photo") -> Encoder:
    return spec.build(Stream(stream, "image", ()), spec.open("classification"), "net")


def batch(encoder: Encoder, *count: int) -> Inputs:
    side = 64 if "timm" in encoder.origin().source else SIDE
    pixels = torch.randn(sum(count), 3, side, side, generator=torch.Generator().manual_seed(2))
    return Inputs({"pixels": pixels}, torch.tensor(count))


@torch.no_grad()
def test_whole_pass_is_the_librarys_own(name: str, encoder: Encoder) -> None:
    inputs = batch(encoder, 1, 1, 1)
    pixels, network = inputs.tensors["pixels"], encoder.get_submodule("backbone.network")
    if name in TIMM:
        features = network.get_submodule("").forward_features(pixels)  # type: ignore[operator]
        expected = (
            features.flatten(2).transpose(1, 2) if features.ndim == 4 else features,
            network(pixels),
        )
    else:
        expected = CASES[name].expected(network(pixels))
    found = encoder(inputs)
    torch.testing.assert_close((found.x, found.pooled), expected, rtol=0, atol=0)
    assert found.mask.all()
    assert found.pooled.shape == (3, encoder.width)


def test_every_cut_gives_the_whole_pass(encoder: Encoder) -> None:
    cuts_give_the_whole_pass(encoder, partial(batch, encoder))


def test_guests_see_and_are_not_seen(encoder: Encoder) -> None:
    if encoder.hosts(0) == "blocks":
        guests_see_and_are_not_seen(encoder, partial(batch, encoder))
    else:  # a CNN: whoever wants to look looks at the last tokens
        assert encoder.hosts(0) == "tokens"
        assert encoder(batch(encoder, 1), torch.zeros(2, encoder.width)).guests.shape[1] == 0


def test_a_prefix_continues_a_prefix_and_leaves_it_alone(encoder: Encoder) -> None:
    inputs = batch(encoder, 1, 1)
    last = encoder.prefix(inputs, encoder.blocks + 1)
    for cut in range(1, encoder.blocks + 1):
        (state,) = encoder.prefix(inputs, cut).tensors.values()
        kept = state.clone()
        onward = encoder.prefix(Inputs({"state": state}, inputs.count, cut), encoder.blocks + 1)
        assert torch.equal(state, kept), f"cut {cut} was written to"
        torch.testing.assert_close(
            onward.tensors["pooled"], last.tensors["pooled"], rtol=1e-5, atol=1e-5
        )


def test_every_site_is_live(encoder: Encoder) -> None:
    sites_are_live(encoder, partial(batch, encoder))


def test_an_adapter_is_live_from_its_own_cut_and_gets_gradient(encoder: Encoder) -> None:
    inputs = batch(encoder, 1, 1)
    for site in (s for s in encoder.sites() if s.role in ("block", "pooled")):
        adapter = Change(site)
        attachment = attach(encoder, {site: adapter})
        state = encoder.prefix(inputs, encoder.cut_for([site], []))
        kept = {k: t.clone() for k, t in state.tensors.items()}
        late, whole = encoder(state).pooled, encoder(inputs).pooled
        torch.testing.assert_close(late, whole, rtol=1e-5, atol=1e-5)
        late.square().sum().backward()
        attachment.remove()
        assert adapter.factor.grad is not None, site.key
        assert adapter.factor.grad.abs().sum() > 0, site.key
        assert all(torch.equal(t, kept[k]) for k, t in state.tensors.items()), site.key


def test_a_map_is_kept_as_the_first_adapted_block_said_it_and_then_corrected(
    encoder: Encoder,
) -> None:
    encoder = copy.deepcopy(encoder)  # of this test alone
    sites = [s for s in encoder.sites() if s.role == "block"]
    torch.manual_seed(0)
    encoder.receive(ConvBottleneck(r=2, init="normal").build(sites))
    maps = sites[0].layout == "map"
    assert [encoder.cut_for([s], []) for s in sites] == [s.block + maps for s in sites]
    inputs = batch(encoder, 1, 0, 2)
    kept = encoder.prefix(inputs, encoder.cut_for(sites, []))
    whole, found = encoder(inputs), encoder(kept)
    torch.testing.assert_close(
        (found.x, found.pooled), (whole.x, whole.pooled), rtol=1e-4, atol=1e-4
    )
    with resting():
        change = (encoder(kept).pooled - found.pooled).abs().max()
    assert bool(change > 1e-3) == maps


def test_frozen_stays_frozen(encoder: Encoder) -> None:
    kept = {k: t.clone() for k, t in encoder.state_dict().items()}
    encoder.train()
    first, second = encoder(batch(encoder, 1, 1)).pooled, encoder(batch(encoder, 1, 1)).pooled
    assert torch.equal(first, second)  # no dropout either
    assert not first.requires_grad
    assert all(torch.equal(t, kept[k]) for k, t in encoder.state_dict().items())
    assert not any(m.training for m in encoder.get_submodule("backbone").modules())


def test_rows_are_the_mean_of_their_files(encoder: Encoder) -> None:
    inputs = batch(encoder, 1, 0, 3, 1)
    encoder.eval()
    found = encoder(inputs)
    files = encoder(batch(encoder, 1, 1, 1, 1, 1))
    expected = torch.stack(
        [files.pooled[0], torch.zeros(encoder.width), files.pooled[1:4].mean(0), files.pooled[4]]
    )
    torch.testing.assert_close(found.pooled, expected, rtol=1e-5, atol=1e-5)
    n = files.x.shape[1]
    assert found.mask.sum(1).tolist() == [n, 0, 3 * n, n]
    torch.testing.assert_close(found.x[2], files.x[1:4].flatten(0, 1), rtol=1e-5, atol=1e-5)
    assert not found.x[~found.mask].any()
    for row in range(4):
        alone = encoder(inputs.select(torch.tensor([row])))
        torch.testing.assert_close(alone.pooled[0], found.pooled[row], rtol=1e-5, atol=1e-5)


def test_a_missing_cell_stays_zero_under_an_adapter(encoder: Encoder) -> None:
    (site,) = (s for s in encoder.sites() if s.role == "pooled")
    attachment = attach(encoder, {site: Change(site)})
    found = encoder(encoder.prefix(batch(encoder, 1, 0), encoder.blocks + 1))
    attachment.remove()
    assert found.pooled[0].any()
    assert not found.pooled[1].any()
    assert found.mask.tolist() == [[True], [False]]


def test_a_batch_without_any_file_passes(encoder: Encoder) -> None:
    inputs = batch(encoder, 0, 0)
    for cut in (0, 1, encoder.blocks, encoder.blocks + 1):
        found = encoder(encoder.prefix(inputs, cut))
        assert found.pooled.shape == (2, encoder.width)
        assert not found.pooled.any()
        assert not found.mask.any()


def test_sites_tell_the_widths_that_pass(encoder: Encoder) -> None:
    sites = encoder.sites()
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        encoder.get_submodule(s.path).register_forward_hook(
            lambda _, args, y, path=s.path: seen.update({path: (args[0], y)})
        )
        for s in sites
    ]
    encoder(batch(encoder, 1, 1))
    for hook in hooks:
        hook.remove()
    for site in sites:
        x, y = seen[site.path]
        linear = site.role in ("ffn_in", "ffn_out")  # in a CNN too, over channels that come last
        start, end = site.part or (0, y.shape[-1 if y.ndim < 4 or linear else 1])
        assert site.out_width == end - start, site.key
        assert site.in_width == x.shape[-1 if x.ndim < 4 or linear else 1], site.key
        assert (y.ndim == 4 and not linear) == (site.layout == "map"), site.key
        assert (y.ndim == 2) == (site.layout == "vector"), site.key
    assert len({s.key for s in sites}) == len(sites)
    assert {(s.stream, s.network, s.modality) for s in sites} == {("photo", "net", "image")}


def test_stages_are_the_networks_own_or_four_equal_ones(name: str, encoder: Encoder) -> None:
    blocks = [s for s in encoder.sites() if s.role == "block"]
    stages = TIMM[name][1] if name in TIMM else CASES[name].stages
    assert tuple(s.stage for s in blocks) == stages
    assert tuple(s.block for s in blocks) == tuple(range(encoder.blocks))
    assert {s.stages for s in encoder.sites()} == {max(stages) + 1}


def test_every_block_has_all_roles(name: str, encoder: Encoder) -> None:
    roles = {s.role for s in encoder.sites()}
    plain = {"entry", "block", "pooled"}
    if name.startswith(("resnet", "timm-resnet")):
        assert roles == plain | {"conv"}
    elif name.startswith("convnext"):
        assert roles == plain | {"conv", "ffn_in", "ffn_out"}
    else:
        inside = {"query", "key", "value", "out", "ffn_in", "ffn_out", "ffn"}
        assert roles - {"residual"} == plain | inside
        assert ("residual" in roles) is not name.startswith("timm")


def test_convolutions_inside_blocks_are_sites(name: str, encoder: Encoder) -> None:
    """All of them, with their shapes; the stem's and those of attention over channels stay out."""
    sites = {s.path: s for s in encoder.sites() if s.role == "conv"}
    network = encoder.get_submodule("backbone.network")
    found = {
        f"backbone.network.{n}": m
        for n, m in network.named_modules()
        if isinstance(m, torch.nn.Conv2d)
        and not n.startswith(("embed", "patch_embed", "conv1"))
        and ".se." not in n
    }
    assert sites.keys() == found.keys()
    for path, layer in found.items():
        shape = sites[path].convolution
        assert shape is not None
        assert (shape.kernel, shape.stride) == (layer.kernel_size, layer.stride)
        assert (shape.padding, shape.dilation) == (layer.padding, layer.dilation)
        assert shape.groups == layer.groups
    if name == "convnext":  # each stage's downsampling belongs to its first block
        assert [s.key for s in sites.values() if s.index] == [
            f"photo/{block}/conv.1" for block in (1, 2, 4)
        ]
    if name == "resnet-bottleneck":
        assert sum(s.block == 0 for s in sites.values()) == 4  # the shortcut's too


@pytest.mark.parametrize("name", ["vit", "clip", "siglip", "dinov2", "dinov2-registers"])
def test_another_size_interpolates_positions(name: str, tmp_path: Path) -> None:
    network = save(CASES[name], tmp_path)
    pixels = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        options = {} if name.startswith("dinov2") else {"interpolate_pos_encoding": True}
        expected = CASES[name].expected(network(pixels, **options))[1]
    encoder = built(ImageEncoder(str(tmp_path), size=48))
    found = encoder(Inputs({"pixels": pixels}, torch.tensor([1, 1]))).pooled
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tower", ["CLIP", "Siglip"])
def test_of_two_towers_only_the_vision_part_is_opened(tower: str, tmp_path: Path) -> None:
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 49_408,
    }
    config = getattr(transformers, f"{tower}Config")(vision_config=PLAIN, text_config=text)
    both = getattr(transformers, f"{tower}Model")(config).eval()
    shake(both)
    both.save_pretrained(tmp_path)
    encoder = built(ImageEncoder(str(tmp_path)))
    inputs = batch(encoder, 1, 1)
    with torch.no_grad():
        expected = both.vision_model(inputs.tensors["pixels"]).pooler_output
    torch.testing.assert_close(encoder(inputs).pooled, expected, rtol=1e-5, atol=1e-5)


def test_siglip_without_its_head_gives_the_mean(tmp_path: Path) -> None:
    save(Case("SiglipVision", PLAIN | {"vision_use_head": False}, pooler, ()), tmp_path)
    encoder = built(ImageEncoder(str(tmp_path)))
    found = encoder(batch(encoder, 1))
    torch.testing.assert_close(found.pooled, found.x.mean(1))


def test_a_classifiers_checkpoint_gives_its_trunk(tmp_path: Path) -> None:
    config = transformers.ViTConfig(**PLAIN)
    whole = transformers.ViTForImageClassification(config).eval()
    shake(whole)
    whole.save_pretrained(tmp_path)
    encoder = built(ImageEncoder(str(tmp_path)))
    inputs = batch(encoder, 1, 1)
    with torch.no_grad():
        expected = whole.vit(inputs.tensors["pixels"]).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(inputs).pooled, expected, rtol=1e-5, atol=1e-5)
    assert not any("pooler" in k for k in encoder.state_dict())


def test_each_known_architecture_opens_without_memory() -> None:
    names = [name for family in families("image") for name in family.known]
    with torch.device("meta"):
        for name in names:
            encoder = built(ImageEncoder(f"random:{name}"))
            assert encoder.width > 0
            assert len([s for s in encoder.sites() if s.role == "block"]) == encoder.blocks
    assert len(names) == len(set(names)) > 10


def test_an_unknown_type_lists_the_known_ones(tmp_path: Path) -> None:
    transformers.SwinConfig().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"type 'swin', which cannot.*clip, .*resnet.*vit"):
        ImageEncoder(str(tmp_path)).open("classification")


def test_items_of_several_models_pass_together(encoder: Encoder) -> None:
    assert models_pass_together(encoder, partial(batch, encoder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", [False, True])
def test_frozen_layers_keep_nothing_and_pass_the_same_gradient(
    name: str, encoder: Encoder, dtype: torch.dtype, *, trained: bool
) -> None:
    maps = encoder.sites()[0].layout == "map"
    lean = copy.deepcopy(encoder).requires_grad_(trained)
    usual = copy.deepcopy(lean)
    changed = [vars(m).pop("forward", None) for m in usual.modules()]
    assert any(changed) >= maps
    (said, bytes_kept, gradients), expected = (backward(e, dtype) for e in (lean, usual))
    assert torch.equal(said, expected[0])
    close = (
        1e-4 if dtype == torch.float32 else 3e-2
    )  # a norm's slopes are multiplied in another order
    torch.testing.assert_close(gradients, expected[2], rtol=close, atol=close)
    assert bytes_kept == expected[1] or (maps and not trained and bytes_kept < expected[1])
    if "resnet" in name and not trained:
        assert bytes_kept < 0.6 * expected[1]


def test_frozen_layers_can_be_pickled(encoder: Encoder) -> None:
    network = pickle.loads(pickle.dumps(encoder.get_submodule("backbone.network")))  # noqa: S301
    for layer in network.modules():
        if "forward" in vars(layer):
            assert vars(layer)["forward"].args == (layer,)
    twin = copy.deepcopy(network)
    assert all(vars(m).get("forward", partial(int, m)).args == (m,) for m in twin.modules())


def backward(encoder: Encoder, dtype: torch.dtype) -> tuple[Tensor, int, list[Tensor]]:
    """What the encoder says of pixels with a gradient, the bytes kept for it, and every gradient."""
    inputs = encoder.prefix(batch(encoder, 1, 2), 1)
    inputs = replace(inputs, tensors={k: t.requires_grad_() for k, t in inputs.tensors.items()})
    kept: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        kept[saved.data_ptr()] = saved.numel() * saved.element_size()
        return saved

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved),
        torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
    ):
        said = encoder(inputs).pooled
    said.float().square().sum().backward()
    changed = [*inputs.tensors.values(), *encoder.parameters()]
    return said, sum(kept.values()), [t.grad for t in changed if t.grad is not None]


def test_recomputed_gradients_are_the_same(encoder: Encoder) -> None:
    recomputed_gradients_are_the_same(encoder, partial(batch, encoder))
