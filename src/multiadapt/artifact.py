"""Save and load: specs as JSON, trained tensors as safetensors, never a pickle.

A folder holds `config.json`, `adapter.safetensors` (what was trained), `context.safetensors` (what
encoders learned from the training rows: vocabularies' numbers, an in-context encoder's context) and
`README.md`, the model card. Pretrained weights are named with their hash, not copied.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from huggingface_hub import HfApi, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from multiadapt import __version__
from multiadapt.card import card
from multiadapt.data.schema import Schema
from multiadapt.encoders._base import Encoder, EncoderSpec, Learned, Origin
from multiadapt.errors import ArtifactError, EncoderError, SpecError
from multiadapt.fitted import Fitted
from multiadapt.methods._base import Method, Training
from multiadapt.model import AdaptedModel, build_encoders, encoder_spec
from multiadapt.tasks._base import TaskSpec
from multiadapt.types import Column, Stream

__all__ = [
    "FORMAT",
    "check_kind",
    "check_place",
    "fetch",
    "golden_cells",
    "load",
    "push",
    "read_json",
    "read_tensors",
    "save",
    "schema_of",
    "write_tensors",
    "write_whole",
]

FORMAT = 2
"""Bumped when the layout changes; the last one stays readable."""

_READ = (1, FORMAT)
"""1: before columns of texts, sounds and vectors; a table row of gaps had a vector of its own."""

_FILES = {"README.md", "adapter.safetensors", "config.json", "context.safetensors"}
_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
_GOLDEN_SEED = 20_011


def save(fitted: Fitted, folder: str | Path) -> None:
    """Write the artifact; an earlier artifact there is replaced as a whole, any other folder refused."""
    write_whole(Path(folder), lambda part: _write(fitted, part))


def write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """A folder that `write` makes, in place of an earlier artifact; other folders are refused."""
    check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as part:
        write(Path(part) / "new")
        old = Path(part) / "old"
        if folder.exists():
            folder.rename(old)  # a kill between the two leaves both in `part`
        try:
            (Path(part) / "new").rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise


def check_place(folder: Path) -> None:
    """ArtifactError where something that is no artifact of ours would be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    others = (
        sorted({f.name for f in folder.iterdir()} - _FILES) if folder.is_dir() else [folder.name]
    )
    if not others and {"format", "multiadapt"} <= set(read_json(folder / "config.json")):
        return
    raise ArtifactError(
        f"{folder} holds other files {others or ['config.json']}; name a new folder or an earlier artifact"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ArtifactError where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} must hold a JSON object, got {type(found).__name__}")
    return found


_KINDS = {
    "retriever": (
        "a retriever",
        "CrossModalRetriever.load, or in a shell multiadapt evaluate, embed, index and search",
    ),
    "answering": ("an answerer of questions", "QuestionAnswerer.load"),
    "captioning": ("a captioner", "Captioner.load"),
    None: ("a model for the rows of tables", "multiadapt.load, or in a shell multiadapt predict"),
}
"""What a folder holds by the kind in its config.json, and what opens it."""


def check_kind(folder: Path, config: Mapping[str, Any], kind: str | None) -> None:
    """ArtifactError: the folder holds a model of another kind; None is one for the rows of tables."""
    held = config.get("kind")
    if held == kind:
        return
    if held not in _KINDS:
        raise ArtifactError(
            f"{folder} holds a model of kind {held!r}, which this version ({__version__}) does not know"
        )
    what, instead = _KINDS[held]
    raise ArtifactError(f"{folder} holds {what}, not {_KINDS[kind][0]}; open it with {instead}")


def load(
    folder: str | Path,
    *,
    encoders: Mapping[str, str | EncoderSpec] | None = None,
    device: str = "cpu",
) -> Fitted:
    """Rebuild a saved model and check it: same tensors, same encoders, same golden scores.

    `encoders` names another place for a modality's or a column's frozen weights, when they have
    moved; their hash must still be the saved one.
    """
    folder = Path(folder)
    config = _config(folder)
    try:
        fitted = _rebuilt(folder, config, encoders or {})
        fitted.model.eval()
        _check_golden(fitted, config["golden"], folder, gaps=config["format"] > 1)
    except (KeyError, TypeError, AttributeError, SpecError) as error:
        raise ArtifactError(
            f"{folder / 'config.json'} is damaged: {error!r}; restore it from a copy, or fit again"
        ) from error
    fitted.model.to(torch.device(device))
    return fitted


def schema_of(folder: str | Path) -> Schema:
    """What a saved model takes its columns for, read without opening its encoders."""
    return Schema.from_dict(_config(Path(folder))["schema"])


def _rebuilt(
    folder: Path, config: Mapping[str, Any], moved: Mapping[str, str | EncoderSpec]
) -> Fitted:
    schema = Schema.from_dict(config["schema"])
    method, task = Method.from_dict(config["method"]), TaskSpec.from_dict(config["task"])
    training, target = Training.from_dict(config["training"]), task.restore(config["target"])
    streams = {s.name: s for s in schema.streams()}
    kept = [streams[name] for name in config["encoders"]]
    known = {s.name for s in kept} | {s.modality for s in kept}
    if unknown := sorted(moved.keys() - known):
        raise ArtifactError(f"encoders names {unknown}; this model has {sorted(known)}")
    specs = {s.name: _encoder_spec(config["encoders"][s.name], s, moved) for s in kept}
    try:
        built = build_encoders(kept, specs, target.kind)
    except EncoderError as error:
        raise ArtifactError(
            f"an encoder of {folder} cannot be opened: {error}. Where it has moved, name its place: "
            "load(folder, encoders={'image': ...})"
        ) from error
    _restore(built, config["encoders"], read_tensors(folder / "context.safetensors"))
    model = AdaptedModel(built, method, target)
    model.load_trained(read_tensors(folder / "adapter.safetensors"))
    seed, info = config["seed"], config["info"]
    return Fitted(schema, task, target, method, training, specs, model, seed, info)


def _write(fitted: Fitted, folder: Path) -> None:
    folder.mkdir()
    learned = {s: fitted.model.encoder(s).learned() for s in fitted.model.streams}
    context = {f"{s}:{k}": t for s, kept in learned.items() for k, t in kept.tensors.items()}
    write_tensors(fitted.model.trained_state(), folder / "adapter.safetensors")
    write_tensors(context, folder / "context.safetensors")
    config = _describe(fitted, learned)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
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
            "seed": _GOLDEN_SEED,
            "tolerance": _TOLERANCE[fitted.training.precision],
            "scores": _golden(fitted, _GOLDEN_SEED).tolist(),
        },
    }


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        raise ArtifactError(f"{folder} is no saved model: it has no config.json")
    config = read_json(path)
    check_kind(folder, config, None)
    if config.get("format") not in _READ:
        raise ArtifactError(
            f"{path} has format {config.get('format')!r}; this version ({__version__}) reads "
            f"{' and '.join(map(str, _READ))}"
        )
    return config


def _encoder_spec(
    saved: Mapping[str, Any], stream: Stream, moved: Mapping[str, str | EncoderSpec]
) -> EncoderSpec:
    spec = EncoderSpec.from_dict(saved["spec"])
    choice = moved.get(stream.name, moved.get(stream.modality))
    if choice is None:
        return spec
    if isinstance(choice, EncoderSpec):
        return choice
    if "source" in spec.get_params():
        return spec.with_params(source=choice)
    return encoder_spec(stream.modality, choice)


def _restore(
    built: Mapping[str, Encoder],
    saved: Mapping[str, Mapping[str, Any]],
    context: Mapping[str, Tensor],
) -> None:
    for stream, encoder in built.items():
        named = {tuple(k.rpartition(":")[::2]): t for k, t in context.items()}
        tensors = {key: t for (owner, key), t in named.items() if owner == stream}
        encoder.restore(Learned(saved[stream]["learned"], tensors, saved[stream]["holds_rows"]))
        was, now = Origin(**saved[stream]["origin"]), encoder.origin()
        if was.sha256 != now.sha256:
            raise ArtifactError(
                f"the frozen weights of {stream!r} must be those it was trained on: {was.source!r} had "
                f"hash {was.sha256[:12]}, {now.source!r} has {now.sha256[:12]}; name the right ones "
                f"with encoders={{{encoder.stream.modality!r}: ...}}"
            )


def read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise ArtifactError(f"{path.parent} is incomplete: {path.name} is missing")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    flat = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    path.write_bytes(to_bytes(flat))  # `save_file` would let nobody else read it


def _golden(fitted: Fitted, seed: int) -> np.ndarray:
    """Scores of four rows drawn from a seed, never the user's data; the last has gaps where it may.

    Always on the CPU: a GPU rounds convolutions to TF32, beyond the tolerance.
    """
    device = fitted.device
    fitted.model.to("cpu")
    found = fitted.answer(_golden_frame(fitted, seed), Path(), "missing", silent=True)
    fitted.model.to(device)
    return found.scores


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


def golden_cells(
    column: Column, rows: int, rng: np.random.Generator, wide: Mapping[str, int]
) -> pd.Series:
    """Cells drawn for a column; `wide` tells the length of vectors by column."""
    words = (
        "red",
        "Blue",
        "OLD",
        "élan",
        "42.5",
        "£,",
        "дом",
        "猫",
        "🦊",
        "x" * 4000,
    )  # all tokenizers differ
    values: list[Any] = {
        "numeric": lambda: list(rng.normal(size=rows)),
        "categorical": lambda: [f"golden {i}" for i in rng.integers(0, 3, rows)],
        "datetime": lambda: [f"20{i:02d}-0{i % 9 + 1}-11" for i in rng.integers(10, 30, rows)],
        "image": lambda: list(rng.integers(0, 256, (rows, 48, 64, 3), np.uint8)),
        "text": lambda: [" ".join(rng.permutation(words)[: 9 + i]) for i in range(rows)],
        "audio": lambda: [(rng.uniform(-0.5, 0.5, 8_000), 16_000) for _ in range(rows)],
        "video": lambda: list(rng.integers(0, 256, (rows, 3, 48, 64, 3), np.uint8)),
        "vector": lambda: list(rng.normal(size=(rows, wide.get(column.name, 1)))),
    }.get(column.kind, lambda: [None] * rows)()
    return pd.Series(values, dtype=object)


def _check_golden(fitted: Fitted, golden: Mapping[str, Any], folder: Path, *, gaps: bool) -> None:
    """`gaps`: the last row, which has them, counts too."""
    rows = slice(None) if gaps else slice(3)
    expected = np.asarray(golden["scores"], dtype=np.float64)[rows]
    got = _golden(fitted, golden["seed"]).astype(np.float64)[rows]
    limit = golden["tolerance"] * max(1.0, float(np.abs(expected).max(initial=0)))
    gap = float(np.abs(expected - got).max(initial=0))  # nan stays nan, and is refused
    if not gap <= limit:
        raise ArtifactError(
            f"{folder} does not reproduce its golden rows: scores differ by {gap:.3g}, allowed is "
            f"{limit:.3g}; the files were altered or a library changed what the encoders compute"
        )


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
