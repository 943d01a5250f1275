"""Save and load: specs as JSON, trained tensors as safetensors, never a pickle.

A folder holds `config.json`, `adapter.safetensors` (what was trained), `context.safetensors` (what
encoders learned from the training rows: vocabularies' numbers, an in-context encoder's context) and
`README.md`, the model card. Pretrained weights are named with their hash, not copied.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from huggingface_hub import HfApi, snapshot_download
from torch import Tensor

from multiadapt import __version__
from multiadapt.card import card
from multiadapt.data.schema import Schema
from multiadapt.encoders._base import Encoder, EncoderSpec, Learned
from multiadapt.errors import ArtifactError
from multiadapt.fitted import Fitted
from multiadapt.folders import (
    GOLDEN_SEED,
    TOLERANCE,
    check_golden,
    check_kind,
    check_weights,
    damaged,
    golden_cells,
    movable,
    read_config,
    read_tensors,
    write_config,
    write_tensors,
    write_whole,
)
from multiadapt.methods._base import Method, Training
from multiadapt.model import (
    AdaptedModel,
    Choice,
    Opening,
    at_place,
    build_encoders,
    encoder_spec,
)
from multiadapt.tasks._base import TaskSpec
from multiadapt.types import Stream

__all__ = ["FORMAT", "fetch", "load", "push", "save", "schema_of"]

FORMAT = 2
"""Bumped when the layout changes; the last one stays readable."""

_READ = (1, FORMAT)
"""1: before columns of texts, sounds and vectors; a table row of gaps had a vector of its own."""


def save(fitted: Fitted, folder: str | Path, kind: str | None = None) -> None:
    """Write the artifact; an earlier artifact there is replaced as a whole, any other folder refused.

    `kind`: what the folder holds where it is more than a model for the rows of tables.
    """
    write_whole(Path(folder), lambda part: _write(fitted, part, kind))


def load(
    folder: str | Path,
    *,
    encoders: str | PathLike[str] | Mapping[str, Choice] | None = None,
    device: str = "cpu",
    kind: str | None = None,
    opening: Opening | None = None,
) -> Fitted:
    """Rebuild a saved model and check it: same tensors, same encoders, same golden scores.

    `encoders` names another place for a modality's or a column's frozen weights, or for those of all, when
    they have moved; their hash must still be the saved one. `opening` opens frozen networks that other
    models run too; a method that trains a network's own parameters gets networks of its own.
    """
    folder = Path(folder)
    config = _config(folder, kind)
    with damaged(folder):
        if isinstance(encoders, (str, PathLike)):
            encoders = dict.fromkeys(config["encoders"], encoders)
        fitted = _rebuilt(folder, config, encoders or {}, opening)
        fitted.model.eval()
        _check_golden(fitted, config["golden"], folder, gaps=config["format"] > 1)
    _move(fitted, torch.device(device))
    return fitted


def schema_of(folder: str | Path) -> Schema:
    """What a saved model takes its columns for, read without opening its encoders."""
    return Schema.from_dict(_config(Path(folder), None)["schema"])


def _rebuilt(
    folder: Path,
    config: Mapping[str, Any],
    moved: Mapping[str, Choice],
    opening: Opening | None,
) -> Fitted:
    schema = Schema.from_dict(config["schema"])
    method, task = Method.from_dict(config["method"]), TaskSpec.from_dict(config["task"])
    training, target = Training.from_dict(config["training"]), task.restore(config["target"])
    streams = {s.name: s for s in schema.streams()}
    kept = [streams[name] for name in config["encoders"]]
    known = {s.name for s in kept} | {s.modality for s in kept}
    if unknown := sorted(moved.keys() - known):
        raise ArtifactError(f"{_option(config)} names {unknown}; this model has {sorted(known)}")
    specs = {s.name: _encoder_spec(config["encoders"][s.name], s, moved) for s in kept}
    with movable(folder, "an encoder", f"load(folder, {_place(config, specs, kept)})"):
        built = build_encoders(kept, specs, target.kind, opening)
        if opening is not None and any(method.native(e) for e in built.values()):
            built = build_encoders(kept, specs, target.kind)
    context = read_tensors(folder / "context.safetensors")
    _restore(built, config["encoders"], context, _option(config))
    model = AdaptedModel(built, method, target)
    model.load_trained(read_tensors(folder / "adapter.safetensors"))
    seed, info = config["seed"], config["info"]
    return Fitted(schema, task, target, method, training, specs, model, seed, info)


def _write(fitted: Fitted, folder: Path, kind: str | None) -> None:
    folder.mkdir()
    learned = {s: fitted.model.encoder(s).learned() for s in fitted.model.streams}
    context = {f"{s}:{k}": t for s, kept in learned.items() for k, t in kept.tensors.items()}
    write_tensors(fitted.model.trained_state(), folder / "adapter.safetensors")
    write_tensors(context, folder / "context.safetensors")
    config = ({} if kind is None else {"kind": kind}) | _describe(fitted, learned)
    write_config(config, folder)
    sizes = {f.name: f.stat().st_size for f in sorted(folder.iterdir())}
    (folder / "README.md").write_text(card(config, fitted.model.parts(), sizes), encoding="utf-8")


def _describe(fitted: Fitted, learned: Mapping[str, Learned]) -> dict[str, Any]:
    encoders = {
        stream: {
            "spec": fitted.specs[stream].to_dict(),
            "origin": asdict(fitted.model.encoder(stream).origin()),
            "learned": dict(kept.values),
            "holds_rows": kept.holds_rows,
        }
        for stream, kept in learned.items()
    }
    return {
        "format": FORMAT,
        "multiadapt": __version__,
        "method": fitted.method.to_dict(),
        "training": fitted.training.to_dict(),
        "task": fitted.task.to_dict(),
        "target": fitted.target.state(),
        "schema": fitted.schema.to_dict(),
        "encoders": encoders,
        "seed": fitted.seed,
        "info": fitted.info,
        "golden": {
            "seed": GOLDEN_SEED,
            "tolerance": TOLERANCE[fitted.training.precision],
            "scores": _golden(fitted, GOLDEN_SEED).tolist(),
        },
    }


def _option(config: Mapping[str, Any]) -> str:
    """What names moved encoders to the `load` of this folder."""
    return "encoders" if config.get("kind") is None else "backbone"


def _place(
    config: Mapping[str, Any], specs: Mapping[str, EncoderSpec], kept: Sequence[Stream]
) -> str:
    """What names moved encoders: those that are opened from somewhere, by modality."""
    opened = [s.modality for s in kept if "source" in specs[s.name].get_params(deep=False)]
    each = ", ".join(f"{modality!r}: ..." for modality in dict.fromkeys(opened))
    return f"{_option(config)}={{{each}}}"


def _config(folder: Path, kind: str | None) -> dict[str, Any]:
    config = read_config(folder)
    check_kind(folder, config, kind)
    if config.get("format") not in _READ:
        raise ArtifactError(
            f"{folder / 'config.json'} has format {config.get('format')!r}; this version "
            f"({__version__}) reads {' and '.join(map(str, _READ))}"
        )
    return config


def _encoder_spec(
    saved: Mapping[str, Any], stream: Stream, moved: Mapping[str, Choice]
) -> EncoderSpec:
    spec = EncoderSpec.from_dict(saved["spec"])
    choice = moved.get(stream.name, moved.get(stream.modality))
    if choice is None:
        return spec
    if isinstance(choice, EncoderSpec):
        return choice
    if "source" in spec.get_params(deep=False):
        return at_place(spec, choice)
    return encoder_spec(stream.modality, choice)


def _restore(
    built: Mapping[str, Encoder],
    saved: Mapping[str, Mapping[str, Any]],
    context: Mapping[str, Tensor],
    option: str,
) -> None:
    for stream, encoder in built.items():
        named = {tuple(k.rpartition(":")[::2]): t for k, t in context.items()}
        tensors = {key: t for (owner, key), t in named.items() if owner == stream}
        encoder.restore(Learned(saved[stream]["learned"], tensors, saved[stream]["holds_rows"]))
        place = f"{option}={{{encoder.stream.modality!r}: ...}}"
        check_weights(f" of {stream!r}", saved[stream]["origin"], encoder.origin(), place)


def _golden(fitted: Fitted, seed: int) -> np.ndarray:
    """Scores of four rows drawn from a seed, never the user's data; the last has gaps where it may.

    Always on the CPU: a GPU rounds convolutions to TF32, beyond the tolerance.
    """
    device = fitted.device
    _move(fitted, torch.device("cpu"))
    found = fitted.answer(_golden_frame(fitted, seed), Path(), "missing", silent=True)
    _move(fitted, device)
    return found.scores


def _move(fitted: Fitted, device: torch.device) -> None:
    """Only where it is elsewhere: others may be running the networks that are there."""
    model = fitted.model
    if any(t.device != device for t in (*model.parameters(), *model.buffers())):
        model.to(device)


def _golden_frame(fitted: Fitted, seed: int) -> pd.DataFrame:
    """Three whole rows, and one with as many gaps as the method allows."""
    rng, last = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    columns, demand = fitted.schema.columns, fitted.method.missing.demands
    wide = {s: e.width for s in fitted.model.streams if (e := fitted.model.encoder(s))}
    whole, gaps = (
        pd.DataFrame({c.name: golden_cells(c, rows, draw, wide) for c in columns})
        for rows, draw in ((3, rng), (1, last))
    )
    first = fitted.model.encoder(fitted.model.streams[0]).stream.columns
    kept = {c.name for c in first} if demand == "one" else set()
    if demand != "all":
        gaps.loc[:, [c for c in gaps if c not in kept]] = None
    return pd.concat([whole, gaps], ignore_index=True)


def _check_golden(fitted: Fitted, golden: Mapping[str, Any], folder: Path, *, gaps: bool) -> None:
    """`gaps`: the last row, which has them, counts too."""
    rows = slice(None) if gaps else slice(3)
    saved, got = np.asarray(golden["scores"])[rows], _golden(fitted, golden["seed"])[rows]
    check_golden(folder, "scores", saved, got, golden["tolerance"])


def push(
    fitted: Fitted,
    repo_id: str,
    *,
    private: bool | None,
    token: str | None,
    commit_message: str,
) -> str:
    """Upload the artifact to a Hugging Face repository, made if absent; the commit's address.

    The folder that files were relative to on this machine is left out.
    """
    fitted = replace(fitted, info={**fitted.info, "root": None})
    hub = HfApi(token=token)
    hub.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save(fitted, Path(folder) / "model")
        commit = hub.upload_folder(
            repo_id=repo_id, folder_path=Path(folder) / "model", commit_message=commit_message
        )
    return str(commit)


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """The folder of a model on a Hugging Face repository, downloaded; a local folder as it is."""
    if Path(repo_id).is_dir():
        return Path(repo_id)
    return Path(snapshot_download(repo_id, revision=revision))
