"""Images: what a spec opens, how pictures become pixels, and which mistakes are named."""

import copy
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import numbers
from torch import Tensor, nn

import multiadapt
from multiadapt.adapters.conv_bottleneck import ConvBottleneck
from multiadapt.attach import Adapter, attach
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._pixels import PixelPreparation
from multiadapt.encoders.image import ImageEncoder
from multiadapt.errors import EncoderError, ExtraError, SpecError
from multiadapt.spec import resolve
from multiadapt.types import Stream

TINY: dict[str, Any] = {
    "layer_type": "basic",
    "depths": [1, 1],
    "hidden_sizes": [8, 16],
    "embedding_size": 8,
}


def tiny(folder: Path) -> Any:
    torch.manual_seed(0)
    network = transformers.ResNetModel(transformers.ResNetConfig(**TINY)).eval()
    network.save_pretrained(folder)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved network. Do not write into it."""
    place = tmp_path_factory.mktemp("tiny")
    tiny(place)
    return place


def built(spec: ImageEncoder, stream: str = "photo") -> Encoder:
    return spec.build(Stream(stream, "image", ()), spec.open("classification"), "net")


def preparation(spec: ImageEncoder) -> PixelPreparation:
    return spec.open("classification").preparation  # type: ignore[return-value]


def read(preparation: PixelPreparation, images: list[np.ndarray]) -> torch.Tensor:
    """What a network reads of pictures."""
    return preparation.numbers({"pixels": preparation.pixels(images)})["pixels"]


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]


class Shift(Adapter):
    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(1.0))

    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y + self.by


# --- cells to pixels -----------------------------------------------------------------------------

PROCESSORS: dict[str, Any] = {
    "squash": transformers.ViTImageProcessorPil(resample=3, image_mean=[0.4, 0.5, 0.6]),
    "bilinear": transformers.ViTImageProcessorPil(size={"height": 40, "width": 24}),
    "crop": transformers.CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=56),
    "not-normalised": transformers.CLIPImageProcessorPil(do_normalize=False, do_rescale=False),
    "convnext-small": transformers.ConvNextImageProcessorPil(size={"shortest_edge": 56}),
    "convnext-large": transformers.ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    "siglip": transformers.SiglipImageProcessorPil(size={"height": 64, "width": 64}),
    "bit": transformers.BitImageProcessorPil(size={"shortest_edge": 80}, crop_size=72),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_the_librarys_own(name: str) -> None:
    images = pictures((60, 60), (50, 90), (101, 45), (30, 31), (7, 13))
    expected = PROCESSORS[name](images, return_tensors="pt").pixel_values
    found = read(PixelPreparation.of(PROCESSORS[name], None), images)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    assert found.is_contiguous()


@pytest.mark.parametrize("name", PROCESSORS)
def test_another_size_is_a_square_prepared_in_the_same_way(name: str) -> None:
    found = PixelPreparation.of(PROCESSORS[name], 48)
    assert found.pixels(pictures((60, 100))).shape == (1, 3, 48, 48)
    assert (found.short is None) == (PixelPreparation.of(PROCESSORS[name], 56).short is None)


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 40), (2000, 3000)])
def test_pictures_of_any_shape_pass(size: tuple[int, int], resize: str) -> None:
    image = np.full((*size, 3), 200, dtype=np.uint8)
    found = read(PixelPreparation(32, 32).resized(resize), [image])  # type: ignore[arg-type]
    expected = torch.tensor([200 / 255]).sub(torch.tensor([0.485, 0.456, 0.406]))
    expected = expected / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand(1, 3, 32, 32))


def test_a_long_picture_is_cut_in_its_middle() -> None:
    image = np.zeros((10, 1000, 3), dtype=np.uint8)
    image[:, 490:510] = 255
    (found,) = read(PixelPreparation(20, 20, 20, mean=(0.0,) * 3, std=(1.0,) * 3), [image])
    assert found[:, :, 1:-1].min() > 0.9


def test_squash_and_crop_follow_the_checkpoint_unless_asked(folder: Path) -> None:
    assert preparation(ImageEncoder(str(folder))).short is None
    assert preparation(ImageEncoder(str(folder), resize="crop", size=64)).short == 64
    assert preparation(ImageEncoder(str(folder), resize="squash")).short is None


def test_a_folders_own_preparation_is_used(tmp_path: Path) -> None:
    tiny(tmp_path)
    PROCESSORS["crop"].save_pretrained(tmp_path)
    encoder = built(ImageEncoder(str(tmp_path)))
    images = pictures((60, 70), (90, 40))
    expected = PROCESSORS["crop"](images, return_tensors="pt").pixel_values
    inputs = encoder.prepare([[image] for image in images])
    assert inputs.tensors["pixels"].dtype == torch.uint8
    torch.testing.assert_close(numbers(encoder, inputs), expected, rtol=1e-5, atol=1e-5)


def test_rows_keep_their_place(folder: Path) -> None:
    encoder = built(ImageEncoder(str(folder), size=32))
    images = pictures((40, 40), (20, 50), (33, 21), (40, 41))
    cells = [[images[0]], [], images[1:3], [], [images[3]]]
    inputs = encoder.prepare(cells)
    assert inputs.count.tolist() == [1, 0, 2, 0, 1]
    assert inputs.cut == 0
    for row, cell in enumerate(cells):
        alone = encoder.prepare([cell]).tensors["pixels"]
        assert torch.equal(inputs.select(torch.tensor([row])).tensors["pixels"], alone)
    again = encoder.prepare(cells)
    assert torch.equal(again.tensors["pixels"], inputs.tensors["pixels"])


@pytest.mark.parametrize("rows", [0, 3])
def test_no_picture_at_all_passes(folder: Path, rows: int) -> None:
    encoder = built(ImageEncoder(str(folder), size=32))
    inputs = encoder.prepare([[] for _ in range(rows)])
    assert inputs.tensors["pixels"].shape == (0, 3, 32, 32)
    assert encoder(inputs).pooled.shape == (rows, 16)


def test_only_batches_with_a_photo_move_what_adapters_count_and_learn(folder: Path) -> None:
    encoder = built(ImageEncoder(str(folder), size=32))
    adapters = ConvBottleneck(r=2, init="normal").build(encoder.sites())
    attach(encoder, adapters)
    inputs = encoder.prepare([pictures((40, 40)) if row == 17 else [] for row in range(40)])
    norms = [m for a in adapters.values() for m in a.modules() if isinstance(m, nn.BatchNorm2d)]
    for rows in torch.arange(40).split(8):
        before = [t.clone() for a in adapters.values() for t in a.state_dict().values()]
        found = encoder(inputs.select(rows))
        after = [t for a in adapters.values() for t in a.state_dict().values()]
        assert found.pooled.requires_grad == (17 in rows)
        assert all(map(torch.equal, before, after)) == (17 not in rows)
        assert found.pooled.any(1).tolist() == [row == 17 for row in rows]
    assert norms
    assert {int(m.num_batches_tracked) for m in norms} == {1}  # type: ignore[arg-type]


def test_parts_of_a_batch_join_at_every_cut(folder: Path) -> None:
    encoder = built(ImageEncoder(str(folder), size=32))
    images = pictures((40, 40), (20, 50))
    parts = [[[], []], [[images[0]], images]]
    for cut in range(encoder.blocks + 2):
        first, second = (encoder.prefix(encoder.prepare(cells), cut) for cells in parts)
        joined = encoder(type(first).join([first, second]))
        whole = encoder(encoder.prepare(parts[0] + parts[1]))
        torch.testing.assert_close(joined.pooled, whole.pooled, rtol=1e-5, atol=1e-5)


# --- what a spec opens ---------------------------------------------------------------------------


def test_resnet_50_has_its_published_size() -> None:
    with torch.device("meta"):
        network = ImageEncoder("random:resnet-50").open("classification")
    assert sum(p.numel() for p in network.parameters()) == 23_508_032
    assert all(p.is_meta for p in network.parameters())
    assert network.origin.sha256 == ""  # type: ignore[union-attr]


def test_random_weights_are_the_same_every_time_and_leave_the_callers_seed() -> None:
    torch.manual_seed(5)
    expected = torch.randn(1)
    torch.manual_seed(5)
    first = built(ImageEncoder("random:resnet-18", size=32)).origin()
    assert torch.equal(torch.randn(1), expected)
    assert built(ImageEncoder("random:resnet-18", size=32)).origin() == first
    assert len(first.sha256) == 64


def test_a_folder_opens_as_it_was_saved(folder: Path) -> None:
    saved = load_file(folder / "model.safetensors")
    encoder = built(ImageEncoder(str(folder)))
    opened = encoder.get_submodule("backbone.network").state_dict()
    assert all(torch.equal(opened[k], tensor) for k, tensor in saved.items())
    assert not any(p.requires_grad for p in encoder.parameters())
    assert (encoder.width, encoder.blocks, encoder.trained) == (16, 2, False)


def test_the_fingerprint_is_of_all_tensors_by_name(folder: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256()
    for name, tensor in sorted(
        transformers.ResNetModel.from_pretrained(folder).state_dict().items()
    ):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    origin = built(ImageEncoder(str(folder))).origin()
    assert origin.sha256 == digest.hexdigest()
    assert (origin.source, origin.revision, origin.licence) == (str(folder), None, "unknown")
    network = tiny(tmp_path)
    with torch.no_grad():
        next(network.parameters())[0] += 1e-3
    network.save_pretrained(tmp_path)
    assert built(ImageEncoder(str(tmp_path))).origin().sha256 != origin.sha256


def test_the_model_card_tells_the_licence(tmp_path: Path) -> None:
    tiny(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A network\n")
    assert built(ImageEncoder(str(tmp_path))).origin().licence == "mit"


@pytest.mark.skipif(
    not (Path(multiadapt.__file__).parent / "starter" / "image").is_dir(),
    reason="this checkout is without the starter encoders",
)
def test_the_starter_opens_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    encoder = built(ImageEncoder())
    assert (encoder.origin().source, encoder.origin().licence) == ("starter", "Apache-2.0")
    assert encoder(encoder.prepare([pictures((40, 40))])).pooled.shape == (1, encoder.width)


def test_half_precision_is_opened_as_float32(tmp_path: Path) -> None:
    tiny(tmp_path).half().save_pretrained(tmp_path)
    network = ImageEncoder(str(tmp_path)).open("classification")
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_overwriting_the_file_leaves_the_running_network_alone(tmp_path: Path) -> None:
    tiny(tmp_path)
    encoder = built(ImageEncoder(str(tmp_path), size=32))
    inputs = encoder.prepare([pictures((40, 40))])
    before = encoder(inputs).pooled
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.write(bytes((tmp_path / "model.safetensors").stat().st_size))
    assert torch.equal(encoder(inputs).pooled, before)


def test_opening_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = transformers.ResNetConfig(**TINY)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    PROCESSORS["squash"].save_pretrained(tmp_path)
    level = transformers.logging.get_verbosity()
    capfd.readouterr()
    ImageEncoder(str(tmp_path)).open("classification")
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == level
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_the_spec_is_the_default_of_its_modality_and_travels() -> None:
    assert resolve("encoders", "image") is ImageEncoder
    spec = ImageEncoder("random:resnet-18", size=64, resize="squash")
    assert ImageEncoder.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.modality == "image"


# --- two streams on one network ------------------------------------------------------------------


def test_streams_share_the_network_and_not_the_adapters(folder: Path) -> None:
    spec = ImageEncoder(str(folder), size=32)
    network = spec.open("classification")
    first, second = (spec.build(Stream(n, "image", ()), network, "net") for n in ("front", "back"))
    assert first.get_submodule("backbone") is second.get_submodule("backbone")
    inputs = first.prepare([pictures((40, 40))])
    before = second(inputs).pooled
    site = next(s for s in first.sites() if s.role == "block")
    attach(first, {site: Shift()})
    assert torch.equal(second(inputs).pooled, before)
    assert not torch.equal(first(inputs).pooled, before)
    assert torch.equal(first.prefix(inputs, first.blocks + 1).tensors["pooled"], before)


def test_a_copy_runs_on_its_own_network(folder: Path) -> None:
    encoder = built(ImageEncoder(str(folder), size=32))
    inputs = encoder.prepare([pictures((40, 40))])
    before = encoder(inputs).pooled
    copied = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert torch.equal(copied(inputs).pooled, before)


def test_standardised_before_the_pooled_adapter(folder: Path) -> None:
    encoder = built(ImageEncoder(str(folder), size=32))
    inputs = encoder.prepare([[image] for image in pictures((40, 40), (50, 30), (32, 32))])
    raw = encoder(inputs).pooled
    encoder.get_submodule("pooled").fit(raw)  # type: ignore[operator]
    (site,) = (s for s in encoder.sites() if s.role == "pooled")
    assert (site.path, site.block, site.in_width, site.out_width) == ("pooled", 2, 16, 16)
    torch.testing.assert_close(encoder(inputs).pooled.mean(0), torch.zeros(16), rtol=0, atol=1e-5)
    attach(encoder, {site: Shift()})
    torch.testing.assert_close(encoder(inputs).pooled.mean(0), torch.ones(16), rtol=0, atol=1e-5)
    assert torch.equal(encoder.prefix(inputs, 3).tensors["pooled"], raw)


# --- mistakes ------------------------------------------------------------------------------------


def test_impossible_options_are_named() -> None:
    with pytest.raises(SpecError, match="source must name an image network"):
        ImageEncoder("")
    with pytest.raises(SpecError, match="size must be at least 1 pixel, got 0"):
        ImageEncoder(size=0)
    with pytest.raises(
        SpecError, match="resize must be one of 'squash', 'crop' or None, got 'pad'"
    ):
        ImageEncoder(resize="pad")  # type: ignore[arg-type]


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(
        EncoderError, match=r"'resnet-51'; there are .*dinov2-small.*resnet-50.*vit-base"
    ):
        ImageEncoder("random:resnet-51").open("classification")


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"config\.json and model\.safetensors.*no config\.json"):
        ImageEncoder(str(tmp_path)).open("classification")
    with pytest.raises(EncoderError, match=r"nothing must be a folder .* there is no such folder"):
        ImageEncoder(str(tmp_path / "nothing")).open("classification")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    transformers.ResNetConfig(**TINY).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"cannot be opened .*model\.safetensors"):
        ImageEncoder(str(tmp_path)).open("classification")


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    tiny(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["encoder.stages.1.layers.0.layer.0.convolution.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lacks 1 tensors .*stages\.1\.layers\.0\.layer\.0"):
        ImageEncoder(str(tmp_path)).open("classification")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    tiny(tmp_path)
    wider: dict[str, Any] = TINY | {"hidden_sizes": [8, 24]}
    transformers.ResNetConfig(**wider).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="cannot be opened"):
        ImageEncoder(str(tmp_path)).open("classification")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    tiny(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EncoderError, match="cannot be opened"):
        ImageEncoder(str(tmp_path)).open("classification")


def test_a_hub_name_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        EncoderError, match=r'nobody/nothing cannot be .* local folder .* or "starter"'
    ):
        ImageEncoder("nobody/nothing").open("classification")


def test_timm_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ExtraError, match=r"timm:resnet50 needs timm: pip install multiadapt\[timm\]"
    ):
        ImageEncoder("timm:resnet50").open("classification")


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is an extra")
def test_a_timm_network_without_a_family_is_refused() -> None:
    with pytest.raises(EncoderError, match="'timm:EfficientNet', which cannot be adapted"):
        ImageEncoder("random:timm:test_efficientnet").open("classification")


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(EncoderError, match="pictures of at least 16 pixels, got size=8"):
        ImageEncoder("random:vit-tiny", size=8).open("classification")


def test_a_cut_that_is_passed_or_beyond_the_end_is_refused(folder: Path) -> None:
    encoder = built(ImageEncoder(str(folder), size=32))
    inputs = encoder.prefix(encoder.prepare([pictures((40, 40))]), 2)
    for cut in (1, 4):
        with pytest.raises(EncoderError, match=rf"cut must be in 2\.\.3 .* got {cut}"):
            encoder.prefix(inputs, cut)
