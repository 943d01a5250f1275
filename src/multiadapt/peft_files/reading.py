"""Tensors for our adapters out of folders in PEFT's layout, written by PEFT or by us."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from multiadapt.adapters.ia3 import IA3
from multiadapt.adapters.lora import LoRA
from multiadapt.attach import Adapter
from multiadapt.encoders._base import Encoder
from multiadapt.errors import ArtifactError, SpecError
from multiadapt.model import AdaptedModel
from multiadapt.peft_files._layout import CONFIG, HOME, PARTS, ROOT, TENSORS, whole
from multiadapt.types import Role, Site

__all__ = ["Imported", "import_into", "import_peft"]


@dataclass(frozen=True)
class Imported:
    """What a PEFT folder holds for one encoder."""

    spec: LoRA | IA3
    """Builds adapters at all these sites. Where it builds others, those stay without effect."""
    states: Mapping[Site, Mapping[str, Tensor]]

    def fill(self, placed: Mapping[Site, Adapter]) -> None:
        """Copy the tensors into the adapters that `spec` built for the same sites."""
        if missing := [site.key for site in self.states if site not in placed]:
            raise ArtifactError(f"no adapter at {len(missing)} places of the file: {missing[:5]}")
        for site, state in self.states.items():
            own = placed[site].state_dict()
            if {k: t.shape for k, t in own.items()} != {k: t.shape for k, t in state.items()}:
                raise ArtifactError(
                    f"the adapter at {site.key} must hold {_shapes(state)}, it holds {_shapes(own)}"
                )
            placed[site].load_state_dict(state)


class _File(NamedTuple):
    """A folder that has been read and found in order."""

    folder: Path
    config: Mapping[str, Any]
    layers: Mapping[str, Mapping[str, Tensor]]
    """By the corrected layer's path: tensors by their name there."""
    parts: Mapping[str, list[list[int]]]
    """Of fused layers that we wrote: the rows of each part."""


def import_into(model: AdaptedModel, folders: Mapping[str, str | Path]) -> None:
    """Fill the model's adapters from a folder for each of these streams. SpecError: no such stream."""
    for stream, folder in folders.items():
        if stream not in model.streams:
            raise SpecError(f"no stream is named {stream!r}; this model has {list(model.streams)}")
        import_peft(folder, model.encoder(stream)).fill(model.placed)


def import_peft(folder: str | Path, encoder: Encoder) -> Imported:
    """Read a folder that PEFT (or `export_peft`) wrote for the encoder's network."""
    file = _read(Path(folder))
    sites = _sites(encoder, file)
    return (_lora if file.config["peft_type"] == "LORA" else _ia3)(file, sites, encoder)


def _read(folder: Path) -> _File:
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder} is no PEFT folder with safetensors: it has no {name}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        beside = folder / PARTS
        parts = json.loads(beside.read_text(encoding="utf-8"))["parts"] if beside.exists() else {}
    except (ValueError, KeyError, SafetensorError) as error:
        raise ArtifactError(f"{folder} cannot be read: {error}") from error
    if (kind := config.get("peft_type")) not in ("LORA", "IA3"):
        raise ArtifactError(f"{folder} must hold LORA or IA3, got peft_type {kind!r}")
    _refuse_unknown(folder, config)
    names = ["ia3_l"] if kind == "IA3" else ["lora_A.weight", "lora_B.weight"]
    names += ["lora_magnitude_vector"] if config.get("use_dora") else []
    return _File(folder, config, _by_layer(folder / TENSORS, tensors, names), parts)


def _by_layer(
    path: Path, tensors: Mapping[str, Tensor], names: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """Each layer's tensors, which must be those of `names`."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name = next((n for n in names if key.endswith(f".{n}")), None)
        if name is None or not key.startswith(ROOT):
            raise ArtifactError(f"{path} must hold only {', '.join(names)}, it has {key!r}")
        layers.setdefault(key.removeprefix(ROOT).removesuffix(f".{name}"), {})[name] = (
            tensor.float()
        )
    broken = [layer for layer, own in layers.items() if len(own) < len(names)]
    if broken or not layers:
        raise ArtifactError(
            f"{path} must hold {', '.join(names)} of every layer; {len(broken)} of {len(layers)} lack "
            f"some: {broken[:5]}"
        )
    return layers


_INITS = (True, False, None, "gaussian", "eva")
_UNKNOWN = (
    "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "lora_bias",
    "modules_to_save", "monteclora_config", "target_parameters", "trainable_token_indices",
    "use_bdlora", "use_qalora",
)  # fmt: skip


def _refuse_unknown(folder: Path, config: Mapping[str, Any]) -> None:
    """Options that change what a file's tensors mean."""
    found = [name for name in _UNKNOWN if config.get(name)]
    if config.get("init_lora_weights", True) not in _INITS:  # these alter the frozen weights too
        found.append("init_lora_weights")
    if found:
        values = {name: config[name] for name in found}
        raise ArtifactError(f"{folder / CONFIG} has options that cannot be imported: {values}")


def _sites(encoder: Encoder, file: _File) -> dict[str, list[Site]]:
    """The sites of each layer of the file; the network may stand under a task's head there."""
    own: dict[str, list[Site]] = {}
    for site in encoder.sites():
        if site.path.startswith(HOME) and site.role not in ("entry", "block", "ffn", "norm"):
            own.setdefault(site.path.removeprefix(HOME), []).append(site)
    found = {
        layer: next((s for p, s in own.items() if f".{layer}".endswith(f".{p}")), [])
        for layer in file.layers
    }
    if unknown := [layer for layer, sites in found.items() if not sites]:
        raise ArtifactError(
            f"{file.folder} corrects {len(unknown)} layers that are no sites of {encoder.stream.name!r}: "
            f"{unknown[:5]}"
        )
    return found


def _lora(file: _File, sites: Mapping[str, Sequence[Site]], encoder: Encoder) -> Imported:
    config = file.config
    rooted = bool(config.get("use_rslora", False))
    states: dict[Site, dict[str, Tensor]] = {}
    scalings: dict[Site, float] = {}
    for layer, tensors in file.layers.items():
        rank = len(tensors["lora_A.weight"])
        alpha = _pattern(config.get("alpha_pattern") or {}, layer, config.get("lora_alpha", 8))
        for site, state in _split(tensors, sites[layer], file.parts.get(layer)):
            states[site] = state
            scalings[site] = alpha / (rank**0.5 if rooted else rank)
    ranks = sorted({len(state["down.weight"]) for state in states.values()})
    if len(ranks) > 1:
        raise ArtifactError(f"{file.folder} has layers of the ranks {ranks}; one LoRA has one rank")
    alpha = next(iter(scalings.values())) * (ranks[0] ** 0.5 if rooted else ranks[0])
    roles, map_roles, blocks = _reach(states, encoder)
    spec = LoRA(
        r=ranks[0],
        lora_alpha=whole(alpha),
        lora_dropout=config.get("lora_dropout", 0.0),
        roles=roles,
        map_roles=map_roles,
        use_rslora=rooted,
        use_dora=bool(config.get("use_dora", False)),
        blocks=blocks,
    )
    ours = spec.lora_alpha / (spec.r**0.5 if rooted else spec.r)
    for site, state in states.items():
        if abs(scalings[site] - ours) > 1e-9 * ours:  # a layer with an alpha of its own
            state["up.weight"] = state["up.weight"] * (scalings[site] / ours)
    return Imported(spec, states)


def _split(
    tensors: Mapping[str, Tensor], sites: Sequence[Site], parts: list[list[int]] | None
) -> list[tuple[Site, dict[str, Tensor]]]:
    """One layer's tensors by site. A fused layer's parts share its A, unless it is made of theirs."""
    down, up = tensors["lora_A.weight"], tensors["lora_B.weight"]
    magnitude = tensors.get("lora_magnitude_vector")
    found: list[tuple[Site, dict[str, Tensor]]] = []
    for site in sites:
        rows, columns = slice(*(site.part or (0, None))), slice(None)
        if parts is not None:
            if list(site.part or ()) not in parts:
                continue  # it had no adapter
            rank = len(down) // len(parts)
            start = parts.index(list(site.part or ())) * rank
            columns = slice(start, start + rank)
        state = {"down.weight": down[columns], "up.weight": up[rows][:, columns]}
        if magnitude is not None:
            state["magnitude"] = magnitude.flatten()[rows]
        found.append((site, {k: t.clone() for k, t in state.items()}))
    return found


def _ia3(file: _File, sites: Mapping[str, Sequence[Site]], encoder: Encoder) -> Imported:
    states: dict[Site, dict[str, Tensor]] = {}
    read: set[Role] = set()
    for layer, tensors in file.layers.items():
        scale = tensors["ia3_l"].flatten()
        if _matches(file.config.get("feedforward_modules") or [], layer):
            if sites[layer][0].role != "ffn_out":
                raise ArtifactError(
                    f"IA3 of {layer} rescales its input; only the last feed-forward layer's can be"
                )
            read.add("ffn_out")
        own = file.parts.get(layer)
        for site in (s for s in sites[layer] if own is None or list(s.part or ()) in own):
            states[site] = {"scale": scale[slice(*(site.part or (0, None)))].clone()}
    roles, map_roles, blocks = _reach(states, encoder)
    named = [tuple("ffn_mid" if r in read else r for r in kind) for kind in (roles, map_roles)]
    return Imported(IA3(named[0], named[1], blocks), states)  # type: ignore[arg-type]


def _reach(
    states: Mapping[Site, object], encoder: Encoder
) -> tuple[tuple[Role, ...], tuple[Role, ...], str | None]:
    """Roles, roles in a CNN and blocks of a spec that reaches these sites of the encoder."""
    roles: tuple[Role, ...] = tuple(dict.fromkeys(site.role for site in states))
    none: tuple[Role, ...] = ()
    first = min(site.block for site in states)
    blocks = f"last {encoder.blocks - first}" if first else None
    maps = any(site.layout == "map" for site in encoder.sites())
    return (none, roles, blocks) if maps else (roles, none, blocks)


def _pattern(patterns: Mapping[str, Any], layer: str, default: float | int) -> float:
    """PEFT's rule: the first pattern that the end of the layer's path matches."""
    found = (v for k, v in patterns.items() if re.match(rf"(.*\.)?({k})$", layer))
    return float(next(found, default))


def _matches(targets: str | Sequence[str], layer: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, layer) is not None
    return any(layer.endswith(target) for target in targets)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
