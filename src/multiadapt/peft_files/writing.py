"""Folders that the PEFT library opens.

One folder holds `adapter_config.json` and `adapter_model.safetensors` for one network. A fused layer
such as qkv is one LoRA there: the rows of its A are those of its parts, its B is block-diagonal, and
`multiadapt.json` says where the blocks are, so that they come back as they were.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from multiadapt.adapters.ia3 import InputScale, OutputScale
from multiadapt.adapters.lora import LowRank
from multiadapt.attach import Adapter
from multiadapt.encoders._base import Encoder
from multiadapt.errors import ArtifactError
from multiadapt.model import AdaptedModel
from multiadapt.peft_files._layout import CONFIG, HOME, PARTS, ROOT, TENSORS, whole
from multiadapt.types import Site

__all__ = ["export_peft"]

_Parts: TypeAlias = Sequence[tuple[Site, Adapter]]


class _Network(NamedTuple):
    """A pretrained network and what sits inside it, by the path of the corrected layer."""

    streams: list[str]
    encoder: Encoder
    layers: Mapping[str, _Parts]

    @property
    def adapters(self) -> list[Adapter]:
        return [adapter for parts in self.layers.values() for _, adapter in parts]


def export_peft(model: AdaptedModel, folder: str | Path) -> dict[str, Path]:
    """Write a folder for each adapted network, and README.md; gives the folder of every stream.

    Only LoRA and IA3 inside pretrained networks are PEFT's; README.md says what else was trained.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtifactError(f"{folder} must be a new or an empty folder for PEFT's files")
    networks = _networks(model)
    if not networks:
        kinds = sorted({type(a).__name__.strip("_") for a in model.placed.values()})
        raise ArtifactError(
            f"PEFT's files hold LoRA and IA3 inside pretrained networks; this model has {kinds or 'none'}"
        )
    written = [(network, *_contents(network)) for network in networks]
    places: dict[str, Path] = {}
    for network, config, tensors, parts in written:
        place = _free(folder, network.streams[0])
        place.mkdir(parents=True)
        _write_json(place / CONFIG, config)
        (place / TENSORS).write_bytes(to_bytes(tensors))
        if parts:
            _write_json(place / PARTS, {"parts": parts})
        places |= dict.fromkeys(network.streams, place)
    (folder / "README.md").write_text(_readme(model, networks, places), encoding="utf-8")
    return places


def _networks(model: AdaptedModel) -> list[_Network]:
    """Streams that share a network and its adapters count as one."""
    found: dict[tuple[object, ...], _Network] = {}
    for stream in model.streams:
        layers: dict[str, list[tuple[Site, Adapter]]] = {}
        for site, adapter in model.placed.items():
            ours = isinstance(adapter, LowRank | InputScale | OutputScale)
            if site.stream == stream and ours and site.path.startswith(HOME):
                layers.setdefault(site.path.removeprefix(HOME), []).append((site, adapter))
        places = [(p, s.part, id(a)) for p, parts in layers.items() for s, a in parts]
        if places:
            encoder = model.encoder(stream)
            key = (id(encoder.get_submodule(HOME[:-1])), frozenset(places))
            found.setdefault(key, _Network([], encoder, layers)).streams.append(stream)
    return list(found.values())


def _contents(network: _Network) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    """The config, the tensors, and where fused layers have their parts."""
    kinds = {_kind(adapter) for adapter in network.adapters}
    if len(kinds) > 1:
        raise ArtifactError(
            f"one PEFT folder holds one kind of adapter; the network of {network.streams} has "
            f"{len(kinds)} kinds, of LoRA's options or of LoRA and IA3"
        )
    own, tensors = _ia3(network) if kinds == {("IA3",)} else _lora(network)
    parts = {
        path: [site.part for site, _ in _in_order(parts)]
        for path, parts in network.layers.items()
        if parts[0][0].part is not None
    }
    kept = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    return _base(network) | own, kept, parts


def _kind(adapter: Adapter) -> tuple[object, ...]:
    """What is one value for all of a PEFT folder."""
    if not isinstance(adapter, LowRank):
        return ("IA3",)
    spec = adapter.spec
    return ("LoRA", spec.use_rslora, spec.use_dora, spec.lora_dropout, spec.init_lora_weights)


def _base(network: _Network) -> dict[str, Any]:
    """The config's part about the frozen network."""
    module, origin = network.encoder.get_submodule(HOME[:-1]), network.encoder.origin()
    kind = {
        "base_model_class": type(module).__name__,
        "parent_library": type(module).__module__,
    }
    return {
        "auto_mapping": kind,
        "base_model_name_or_path": origin.source,
        "revision": origin.revision,
        "task_type": None,
        "inference_mode": True,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "target_modules": sorted(network.layers),
    }


def _lora(network: _Network) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    spec = cast(LowRank, network.adapters[0]).spec
    for path, parts in network.layers.items():
        ordered = [(site, cast(LowRank, adapter)) for site, adapter in _in_order(parts)]
        layer = network.encoder.get_submodule(HOME + path)
        down, up, rank = _joined(path, layer, ordered)
        tensors[f"{ROOT}{path}.lora_A.weight"] = down
        tensors[f"{ROOT}{path}.lora_B.weight"] = up
        if spec.use_dora:
            tensors[f"{ROOT}{path}.lora_magnitude_vector"] = _magnitude(layer, ordered)
        ranks[path] = rank
        alphas[path] = ordered[0][1].scaling * (rank**0.5 if spec.use_rslora else rank)
    config = {
        "peft_type": "LORA",
        "r": spec.r,
        "lora_alpha": whole(spec.lora_alpha),
        "rank_pattern": {p: r for p, r in ranks.items() if r != spec.r},
        "alpha_pattern": {
            p: whole(a) for p, a in alphas.items() if abs(a - spec.lora_alpha) > 1e-9 * a
        },
        "lora_dropout": spec.lora_dropout,
        "use_rslora": spec.use_rslora,
        "use_dora": spec.use_dora,
        "init_lora_weights": spec.init_lora_weights,
        "bias": "none",
    }
    return config, tensors


def _joined(
    path: str, layer: nn.Module, parts: Sequence[tuple[Site, LowRank]]
) -> tuple[Tensor, Tensor, int]:
    """One A and one B for a layer whose parts have one each, and their rank."""
    site, adapter = parts[0]
    shape = site.convolution
    if shape is not None and (shape.groups > 1 or set(shape.dilation) != {1}):
        raise ArtifactError(
            f"PEFT cannot hold LoRA of {path}: its convolution has groups={shape.groups} and dilation="
            f"{shape.dilation}, where PEFT takes 1; leave 'conv' out of LoRA's map_roles"
        )
    if site.part is None:
        return adapter.down.weight, adapter.up.weight, len(adapter.down.weight)
    down = torch.cat([a.down.weight for _, a in parts])
    up = down.new_zeros(len(cast(Tensor, layer.weight)), len(down))
    start = 0
    for site, adapter in parts:
        end = start + len(adapter.down.weight)
        up[slice(*cast(tuple[int, int], site.part)), start:end] = adapter.up.weight.detach()
        start = end
    return down, up, len(down)


def _magnitude(layer: nn.Module, parts: Sequence[tuple[Site, LowRank]]) -> Tensor:
    """As PEFT shapes it; the length of the frozen weights where a part has no adapter."""
    weight = cast(Tensor, layer.weight)
    whole = weight.detach().flatten(1).norm(dim=1)
    for site, adapter in parts:
        whole[slice(*(site.part or (0, None)))] = cast(Tensor, adapter.magnitude).detach()
    return whole if weight.ndim == 2 else whole.view(1, -1, *[1] * (weight.ndim - 2))


def _ia3(network: _Network) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors: dict[str, Tensor] = {}
    read: list[str] = []
    for path, parts in network.layers.items():
        weight = cast(Tensor, network.encoder.get_submodule(HOME + path).weight)
        if isinstance(parts[0][1], InputScale):
            read.append(path)
            scale = cast(Tensor, parts[0][1].scale)[None]
        else:
            whole = torch.ones_like(weight.detach().flatten(1)[:, 0])
            for site, adapter in parts:
                whole[slice(*(site.part or (0, None)))] = cast(Tensor, adapter.scale).detach()
            ones = [1] * (weight.ndim - 2)
            scale = whole.view(1, -1, *ones) if ones else whole[:, None]
        tensors[f"{ROOT}{path}.ia3_l"] = scale
    return {"peft_type": "IA3", "feedforward_modules": sorted(read)}, tensors


def _in_order(parts: _Parts) -> _Parts:
    return sorted(parts, key=lambda placed: placed[0].part or (0, 0))


def _free(folder: Path, stream: str) -> Path:
    """A folder named like the stream, in letters that every file system takes."""
    name = re.sub(r"[^\w-]+", "_", stream).strip("_") or "network"
    taken = {p.name.lower() for p in folder.iterdir()} if folder.exists() else set()
    names = (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3)))
    return folder / next(n for n in names if n.lower() not in taken)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _readme(model: AdaptedModel, networks: Sequence[_Network], places: Mapping[str, Path]) -> str:
    lines = ["# Adapters for PEFT", "", "Open one with its network, in evaluation mode:", ""]
    exported: set[int] = set()
    for network in networks:
        kind = type(network.encoder.get_submodule(HOME[:-1]))
        exported |= {id(p) for a in network.adapters for p in a.parameters()}
        lines.append(
            f"- `{places[network.streams[0]].name}`: {kind.__module__}.{kind.__name__} from "
            f"{network.encoder.origin().source!r}, for {', '.join(network.streams)}"
        )
    kinds = {id(p): f"adapters of kind {type(a).__name__.strip('_')}" for a in model.adapters
             for p in a.parameters()}  # fmt: skip
    left: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in exported:
            part = kinds.get(id(parameter), name.partition(".")[0])
            left[part] = left.get(part, 0) + parameter.numel()
    lines += ["", "Trained too, but not in these files, since PEFT has no place for it:", ""]
    lines += [f"- {part}: {size:,} parameters" for part, size in left.items()] or ["- nothing"]
    lines += ["", "The predictions of the model come from all of these together."]
    return "\n".join(lines) + "\n"
