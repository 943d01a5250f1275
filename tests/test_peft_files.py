"""PEFT's folders: the library opens them with our outputs, and they come back as they were."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from contracts import shake
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from multiadapt.adapters._base import AdapterSpec
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.ia3 import IA3
from multiadapt.adapters.lora import LoRA
from multiadapt.attach import Adapter, running
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._base import fused
from multiadapt.encoders._families.vit import ViT
from multiadapt.encoders.image import ImageEncoder
from multiadapt.errors import ArtifactError
from multiadapt.methods._base import Method
from multiadapt.model import AdaptedModel
from multiadapt.peft_files.reading import import_peft
from multiadapt.peft_files.writing import export_peft
from multiadapt.tasks.regression import Regression
from multiadapt.types import Inputs, Site, Stream

# What peft asks of a transformers network.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

PLAIN = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 24, "image_size": 32, "patch_size": 8}  # fmt: skip
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", PLAIN),
    "clip": ("CLIPVision", PLAIN),
    "resnet": ("ResNet", {"depths": [1, 2], "hidden_sizes": [16, 32], "embedding_size": 8}),
    "convnext": ("ConvNext", {"depths": [1, 2], "hidden_sizes": [8, 16], "num_stages": 2}),
}
SIX = ("query", "key", "value", "out", "ffn_in", "ffn_out")
POINT = ("ffn_in", "ffn_out")  # ConvNeXt's other convolutions are grouped, which PEFT cannot hold
SPECS: dict[str, AdapterSpec] = {
    "lora": LoRA(r=3, lora_alpha=5, map_roles=("conv",)),
    "rslora": LoRA(r=4, roles=SIX, use_rslora=True),
    "dora": LoRA(r=2, roles=SIX, use_dora=True),
    "last": LoRA(r=2, blocks="last 1"),
    "ia3": IA3(),
}
CASES = [
    (network, kind)
    for network in NETWORKS
    for kind in SPECS
    if network != "convnext" or kind == "ia3"
]


@dataclass(frozen=True)
class Placing(Method):
    """Whatever is asked, in the photos' networks."""

    inside: tuple[Any, ...] = ()

    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        built = [spec.build([s for s in sites if s.role != "pooled" or isinstance(spec, Bottleneck)])
                 for spec in self.inside]  # fmt: skip
        return {site: adapter for placed in built for site, adapter in placed.items()}


def network_in(folder: Path, name: str) -> Any:
    kind, values = NETWORKS[name]
    network = getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**values)
    )
    shake(network)
    network.save_pretrained(folder)
    return type(network)


def encoders_of(folder: Path, *streams: str) -> dict[str, Encoder]:
    spec = ImageEncoder(str(folder), size=32)
    backbone = spec.open("classification")
    return {s: spec.build(Stream(s, "image", ()), backbone, "net") for s in streams}


def model_of(encoders: dict[str, Encoder], *specs: AdapterSpec) -> AdaptedModel:
    torch.manual_seed(0)
    target = Regression().learn(pd.Series([1.0, 2.0, 3.0]))
    model = AdaptedModel(encoders, Placing(inside=specs), target).eval()
    perturb(model.adapters)
    return model


def perturb(module: nn.Module) -> None:
    """Changes that are felt, but let no activation of a random network grow without bound."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def pixels() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def said(encoder: Encoder) -> Tensor:
    """The network's last state with our adapters in it."""
    inputs = Inputs({"pixels": pixels()}, torch.ones(3, dtype=torch.long))
    with torch.no_grad():
        return encoder(inputs).x


def last_state(network: Any) -> Tensor:
    with torch.no_grad():
        out = network(pixels()).last_hidden_state
    return out.flatten(2).transpose(1, 2) if out.ndim == 4 else out


def opened_by_peft(network: Any, folder: Path) -> Any:
    peft = pytest.importorskip("peft", reason="peft is installed for development alone")
    return peft.PeftModel.from_pretrained(network.eval(), str(folder)).eval()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_peft_opens_the_folder_and_says_what_we_say(name: str, kind: str, tmp_path: Path) -> None:
    network = network_in(tmp_path / "base", name)
    model = model_of(encoders_of(tmp_path / "base", "photo"), SPECS[kind])
    places = export_peft(model, tmp_path / "out")
    theirs = opened_by_peft(network.from_pretrained(tmp_path / "base"), places["photo"])
    bare = last_state(network.from_pretrained(tmp_path / "base").eval())
    ours = said(model.encoder("photo"))
    assert (ours - bare).abs().max() > 1e-2
    torch.testing.assert_close(last_state(theirs), ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_was_written_comes_back(name: str, kind: str, tmp_path: Path) -> None:
    network_in(tmp_path / "base", name)
    spec = SPECS[kind]
    model = model_of(encoders_of(tmp_path / "base", "photo"), spec)
    folder = export_peft(model, tmp_path / "out")["photo"]
    fresh = encoders_of(tmp_path / "base", "photo")
    found = import_peft(folder, fresh["photo"])
    other = model_of(fresh, found.spec)
    assert {s.key for s in other.placed} == {s.key for s in model.placed}
    found.fill(other.placed)
    assert torch.equal(said(other.encoder("photo")), said(model.encoder("photo")))
    if isinstance(spec, LoRA):
        assert isinstance(found.spec, LoRA)
        for option in ("r", "lora_alpha", "use_rslora", "use_dora", "blocks"):
            assert getattr(found.spec, option) == getattr(spec, option), option


def test_the_files_are_in_pefts_layout(tmp_path: Path) -> None:
    network_in(tmp_path / "base", "vit")
    model = model_of(encoders_of(tmp_path / "base", "photo"), LoRA(r=3, lora_alpha=5))
    folder = export_peft(model, tmp_path / "out")["photo"]
    assert {p.name for p in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 5)
    assert config["base_model_name_or_path"] == str(tmp_path / "base")
    assert config["auto_mapping"]["base_model_class"] == "ViTModel"
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    paths = [f"layers.{i}.attention.{n}_proj" for i in (0, 1) for n in ("q", "v")]
    assert config["target_modules"] == paths
    tensors = load_file(folder / "adapter_model.safetensors")
    assert {k: tuple(t.shape) for k, t in tensors.items()} == {
        f"base_model.model.{p}.lora_{m}.weight": s
        for p in paths
        for m, s in (("A", (3, 16)), ("B", (16, 3)))
    }


def test_pefts_own_names_and_shapes_are_ours(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is installed for development alone")
    for name in ("vit", "resnet"):
        for kind in ("lora", "dora", "ia3"):
            work = tmp_path / f"{name}-{kind}"
            network = network_in(work / "base", name)
            model = model_of(encoders_of(work / "base", "photo"), SPECS[kind])
            folder = export_peft(model, work / "out")["photo"]
            config = peft.PeftConfig.from_pretrained(str(folder))
            config.inference_mode = False
            whole = peft.get_peft_model(network.from_pretrained(work / "base"), config)
            whole.save_pretrained(work / "theirs")
            ours, theirs = (
                {k: t.shape for k, t in load_file(f / "adapter_model.safetensors").items()}
                for f in (folder, work / "theirs")
            )
            assert ours == theirs


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora"])
def test_a_folder_that_peft_wrote_is_read(kind: str, tmp_path: Path) -> None:
    """Also under a task's head, with a pattern and an alpha of its own for one layer."""
    peft = pytest.importorskip("peft", reason="peft is installed for development alone")
    classifier = transformers.ViTForImageClassification(transformers.ViTConfig(**PLAIN)).eval()
    shake(classifier)
    classifier.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        use_dora=kind == "dora",
        use_rslora=kind == "rslora",
        target_modules=r".*\.(q_proj|v_proj|fc1)",
        alpha_pattern={"fc1": 7},
    )
    theirs = peft.get_peft_model(classifier, config).eval()
    perturb(nn.ParameterList(p for n, p in theirs.named_parameters() if "lora_" in n))
    theirs.save_pretrained(tmp_path / "theirs")
    encoders = encoders_of(tmp_path / "base", "photo")
    found = import_peft(tmp_path / "theirs", encoders["photo"])
    assert isinstance(found.spec, LoRA)
    assert set(found.spec.roles) == {"query", "value", "ffn_in"}
    model = model_of(encoders, found.spec)
    found.fill(model.placed)
    expected = last_state(theirs.base_model.model.vit)
    torch.testing.assert_close(said(model.encoder("photo")), expected, rtol=1e-5, atol=1e-5)


def test_streams_with_one_network_and_one_adapter_have_one_folder(tmp_path: Path) -> None:
    network_in(tmp_path / "base", "vit")
    model = model_of(encoders_of(tmp_path / "base", "front", "back"), LoRA())
    places = export_peft(model, tmp_path / "shared")
    assert places["front"] == places["back"] == tmp_path / "shared" / "front"
    own = model_of(encoders_of(tmp_path / "base", "a/b", "a b", "A_b"), LoRA(share=False))
    places = export_peft(own, tmp_path / "own")
    assert [p.name for p in places.values()] == ["a_b", "a_b_2", "A_b_3"]
    assert "`a_b_2`: transformers.models.vit.modeling_vit.ViTModel" in (
        (tmp_path / "own" / "README.md").read_text()
    )


def test_what_peft_has_no_place_for_is_named(tmp_path: Path) -> None:
    network_in(tmp_path / "base", "vit")
    encoders = encoders_of(tmp_path / "base", "photo")
    model = model_of(encoders, LoRA(), Bottleneck(r=2))
    export_peft(model, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "- adapters of kind Bottleneck: 82 parameters" in text  # 2 * 16 * 2 + 16 + 2
    assert "- head: 17 parameters" in text
    assert "LowRank" not in text


class Fused(nn.Module):
    """A linear layer for query, key and value together, and one after them."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.qkv(x).sin())


class Bare(Encoder):
    """An encoder of the network above, as far as files need one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.stream = Stream("photo", "image", ())
        self.width, self.blocks, self.trained = 4, 1, False
        self.backbone = nn.ModuleDict({"network": network})

    def sites(self) -> tuple[Site, ...]:
        found = (
            Site("photo", "backbone.network.qkv", "query", 0, 4, 12),
            Site("photo", "backbone.network.out", "out", 0, 12, 4),
        )
        return fused(found, "query", ("query", "key", "value"))

    def origin(self) -> Any:
        return ImageEncoder().open("classification").origin

    def prepare(self, cells: Any) -> Inputs:
        raise NotImplementedError

    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        raise NotImplementedError

    def forward(self, inputs: Any, guests: Any = None) -> Any:
        with running("photo"), torch.no_grad():
            return self.backbone["network"](inputs)


FUSED = {
    "three": LoRA(r=2, lora_alpha=3, roles=("query", "key", "value", "out")),
    "two": LoRA(r=2, roles=("query", "value")),
    "rs": LoRA(r=2, roles=("query", "value", "out"), use_rslora=True),
    "dora": LoRA(r=2, roles=("value", "query", "out"), use_dora=True),
    "ia3": IA3(roles=("key", "value")),
}


@pytest.mark.parametrize("kind", FUSED)
def test_a_fused_layer_is_one_lora_with_a_block_diagonal_b(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Fused()
    state = {k: t.clone() for k, t in network.state_dict().items()}
    spec = FUSED[kind]
    model = model_of({"photo": Bare(network)}, spec)
    x = torch.randn(5, 4)
    ours = model.encoder("photo")(x)
    folder = export_peft(model, tmp_path / "out")["photo"]

    other = Bare(Fused())
    other.backbone["network"].load_state_dict(state)
    found = import_peft(folder, other)
    back = model_of({"photo": other}, found.spec)
    assert {s.key for s in back.placed} == {s.key for s in model.placed}
    found.fill(back.placed)
    torch.testing.assert_close(back.encoder("photo")(x), ours, rtol=1e-6, atol=1e-6)
    if isinstance(spec, LoRA):
        parts = sum(role != "out" for role in spec.roles)
        up = load_file(folder / "adapter_model.safetensors")["base_model.model.qkv.lora_B.weight"]
        assert up.shape == (12, 2 * parts)
        assert int((up != 0).sum()) == 4 * 2 * parts
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["rank_pattern"] == {"qkv": 2 * parts}
        assert (found.spec.r, found.spec.lora_alpha) == (spec.r, spec.lora_alpha)

    bare = Fused()
    bare.load_state_dict(state)
    theirs = opened_by_peft(bare, folder)
    torch.testing.assert_close(theirs(x), ours, rtol=1e-5, atol=1e-5)


def test_a_fused_layer_that_peft_trained_gives_each_part_its_rows(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is installed for development alone")
    torch.manual_seed(1)
    network = Fused()
    encoder = Bare(Fused())
    encoder.backbone["network"].load_state_dict(network.state_dict())
    config = peft.LoraConfig(r=3, target_modules=["qkv"], use_dora=True)
    theirs = peft.get_peft_model(network, config).eval()
    perturb(nn.ParameterList(p for n, p in theirs.named_parameters() if "lora_" in n))
    theirs.save_pretrained(tmp_path)
    found = import_peft(tmp_path, encoder)
    model = model_of({"photo": encoder}, found.spec)
    found.fill(model.placed)
    x = torch.randn(5, 4)
    torch.testing.assert_close(encoder(x), theirs(x).detach(), rtol=1e-5, atol=1e-5)


# What is refused


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Encoder]:
    """A good folder, and the encoder that it is for."""
    network_in(tmp_path / "base", "vit")
    model = model_of(encoders_of(tmp_path / "base", "photo"), LoRA(r=2))
    folder = export_peft(model, tmp_path / "out")["photo"]
    return folder, encoders_of(tmp_path / "base", "photo")["photo"]


def test_a_model_without_lora_has_nothing_for_peft(tmp_path: Path) -> None:
    network_in(tmp_path / "base", "vit")
    encoders = encoders_of(tmp_path / "base", "photo")
    with pytest.raises(ArtifactError, match=r"this model has \['Bottleneck'\]"):
        export_peft(model_of(encoders, Bottleneck()), tmp_path / "out")
    with pytest.raises(ArtifactError, match="this model has none"):
        export_peft(model_of(encoders), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    network_in(tmp_path / "base", "vit")
    model = model_of(encoders_of(tmp_path / "base", "photo"), LoRA())
    with pytest.raises(ArtifactError, match="base must be a new or an empty folder"):
        export_peft(model, tmp_path / "base")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file must be a new or an empty folder"):
        export_peft(model, tmp_path / "file")


def test_two_kinds_in_one_network_are_refused(tmp_path: Path) -> None:
    network_in(tmp_path / "base", "vit")
    model = model_of(encoders_of(tmp_path / "base", "photo"), LoRA(), IA3(roles=("ffn_mid",)))
    with pytest.raises(ArtifactError, match=r"the network of \['photo'\] has 2 kinds"):
        export_peft(model, tmp_path / "out")


def test_grouped_and_dilated_convolutions_are_refused(tmp_path: Path) -> None:
    network_in(tmp_path / "base", "convnext")
    model = model_of(encoders_of(tmp_path / "base", "photo"), LoRA())
    with pytest.raises(ArtifactError, match=r"dwconv: its convolution has groups=8 .*leave 'conv'"):
        export_peft(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    points = model_of(encoders_of(tmp_path / "base", "photo"), LoRA(map_roles=POINT))
    folder = export_peft(points, tmp_path / "out")["photo"]
    network = transformers.ConvNextModel.from_pretrained(tmp_path / "base")
    theirs = opened_by_peft(network, folder)
    torch.testing.assert_close(
        last_state(theirs), said(points.encoder("photo")), rtol=1e-5, atol=1e-5
    )


def changed(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"peft_type": "LOHA"}, "must hold LORA or IA3, got peft_type 'LOHA'"),
        (
            {"layer_replication": [[0, 1]]},
            r"cannot be imported: \{'layer_replication': \[\[0, 1\]\]",
        ),
        ({"init_lora_weights": "pissa"}, r"cannot be imported: \{'init_lora_weights': 'pissa'\}"),
        ({"use_dora": True}, r"lora_magnitude_vector of every layer; 4 of 4 lack some"),
    ],
)
def test_options_that_cannot_be_held_are_refused(values, match, written) -> None:
    folder, encoder = written
    changed(folder, **values)
    with pytest.raises(ArtifactError, match=match):
        import_peft(folder, encoder)


def test_tensors_that_cannot_be_placed_are_named(written) -> None:
    folder, encoder = written
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first = next(k for k in tensors if "lora_A" in k)

    save_file({**tensors, "base_model.model.x.bias": torch.ones(1)}, path)
    with pytest.raises(ArtifactError, match=r"lora_B.weight, it has 'base_model.model.x.bias'"):
        import_peft(folder, encoder)
    save_file({k.replace("layers.0", "layers.7"): t for k, t in tensors.items()}, path)
    with pytest.raises(
        ArtifactError, match=r"corrects 2 layers that are no sites of 'photo'.*s\.7"
    ):
        import_peft(folder, encoder)
    save_file({k: t for k, t in tensors.items() if k != first}, path)
    with pytest.raises(ArtifactError, match="of every layer; 1 of 4 lack some"):
        import_peft(folder, encoder)
    other = {first: torch.ones(3, 16), first.replace("_A", "_B"): torch.ones(16, 3)}
    save_file({**tensors, **other}, path)
    with pytest.raises(ArtifactError, match=r"layers of the ranks \[2, 3\]; one LoRA has one rank"):
        import_peft(folder, encoder)
    path.write_bytes(b"no")
    with pytest.raises(ArtifactError, match="cannot be read"):
        import_peft(folder, encoder)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"it has no adapter_model.safetensors"):
        import_peft(folder, encoder)


def test_ia3_on_the_input_of_another_layer_is_refused(tmp_path: Path) -> None:
    network_in(tmp_path / "base", "vit")
    model = model_of(encoders_of(tmp_path / "base", "photo"), IA3())
    folder = export_peft(model, tmp_path / "out")["photo"]
    changed(folder, feedforward_modules=["k_proj"])
    with pytest.raises(
        ArtifactError, match="k_proj rescales its input; only the last feed-forward"
    ):
        import_peft(folder, model.encoder("photo"))
    changed(folder, feedforward_modules=r".*\.fc2")
    assert import_peft(folder, model.encoder("photo")).spec == IA3(map_roles=())


def test_adapters_of_another_shape_are_not_filled(written) -> None:
    folder, encoder = written
    found = import_peft(folder, encoder)
    with pytest.raises(ArtifactError, match=r"no adapter at 2 places of the file: \['photo/0/"):
        found.fill(LoRA(r=2, blocks="last 1").build(encoder.sites()))
    with pytest.raises(ArtifactError, match=r"must hold .*\(2, 16\).*it holds .*\(4, 16\)"):
        found.fill(LoRA(r=4).build(encoder.sites()))


def test_a_stage_of_the_family_knows_its_paths() -> None:
    """Exported paths are the library's own: a family that renames one would break every folder."""
    with torch.device("meta"):
        network = transformers.ViTModel(transformers.ViTConfig(**PLAIN), add_pooling_layer=False)
    paths = {replace(s).path for s in ViT(network).sites()}
    assert paths <= {name for name, _ in network.named_modules()}
