"""Save and load retrievers: a folder as `artifact` writes it, with the trained tensors only."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from multiadapt import __version__
from multiadapt.artifact import (
    check_kind,
    golden_cells,
    read_json,
    read_tensors,
    write_tensors,
    write_whole,
)
from multiadapt.crossmodal._adopt import served
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._retrieval import Contrast, RetrievalModel
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema
from multiadapt.errors import ArtifactError, EncoderError, SpecError
from multiadapt.methods._base import Method, Training
from multiadapt.retrieving import FittedRetriever, PairPlan, model_of
from multiadapt.types import Inputs

__all__ = ["load_retriever", "save_retriever"]

Side: TypeAlias = Literal["query", "target"]

FORMAT = 1
_SEED, _ROWS = 20_011, 3
_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}


def save_retriever(fitted: FittedRetriever, folder: str | Path) -> None:
    """Write the artifact; an earlier artifact there is replaced as a whole, any other folder refused."""
    write_whole(Path(folder), lambda part: _write(fitted, part))


def load_retriever(
    folder: str | Path, device: torch.device, backbone: BackboneSpec | None = None
) -> FittedRetriever:
    """A saved retriever, checked on its golden rows; `backbone` says where the network has moved to.

    ArtifactError: a file is missing or altered, or the network's weights are not the saved ones.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    check_kind(folder, config, "retriever")
    if config.get("format") != FORMAT:
        raise ArtifactError(
            f"{folder} holds a retriever of format {config.get('format')!r}; this version "
            f"({__version__}) reads format {FORMAT}"
        )
    with _damage(folder):
        plan = _plan(config, backbone)
    with contextlib.nullcontext() if backbone is not None else _damage(folder):
        model = _opened(
            folder, plan, config
        )  # a SpecError tells what is wrong with the user's backbone
    with _damage(folder):
        fitted = _rebuilt(folder, config, plan, model)
        _check(fitted, config["golden"], folder)
    fitted.plan = replace(plan, device=device)
    fitted.model.to(device)
    return fitted


@contextlib.contextmanager
def _damage(folder: Path) -> Iterator[None]:
    """What a file that somebody changed leads to, said as that."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, SpecError) as error:
        raise ArtifactError(
            f"{folder / 'config.json'} is damaged: {error!r}; restore it from a copy, or fit again"
        ) from error


def _write(fitted: FittedRetriever, folder: Path) -> None:
    folder.mkdir()
    plan = fitted.plan
    write_tensors(fitted.model.trained_state(), folder / "adapter.safetensors")
    encoders = {s: fitted.model.encoder(s) for s in fitted.model.streams}
    config = {
        "kind": "retriever",
        "format": FORMAT,
        "multiadapt": __version__,
        "method": plan.method.to_dict(),
        "backbone": plan.backbone.to_dict(),
        "contrast": plan.contrast.to_dict(),
        "training": plan.training.to_dict(),
        "schema": plan.schema.to_dict(),
        "query": plan.query,
        "target": plan.target,
        "origins": {s: asdict(e.origin()) for s, e in encoders.items()},
        "base": fitted.model.base,
        "kinds": fitted.model.kinds(),
        "served": served(fitted.model),
        "rows": fitted.model.rows,
        "seed": plan.seed,
        "options": {
            "validation": plan.validation,
            "on_error": plan.on_error,
            "memory": plan.memory,
        },
        "info": fitted.info,
        "golden": {
            "tolerance": _TOLERANCE[plan.training.precision],
            **_lists(_golden(fitted)),
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(fitted, config), encoding="utf-8")


def _card(fitted: FittedRetriever, config: Mapping[str, Any]) -> str:
    parts = "\n".join(
        f"| {p.part} | {p.trainable:,} | {p.frozen:,} |" for p in fitted.model.parts()
    )
    origins = "\n".join(
        f"- {name}: {o['source']} ({o['licence']}), SHA-256 {o['sha256'][:16]}..."
        for name, o in config["origins"].items()
    )
    return (
        f"# A retriever: {fitted.plan.query} to {fitted.plan.target}\n\n"
        f"Trained with multiadapt {__version__} by {fitted.plan.method.name} on "
        f"{fitted.info.get('rows', '?')} pairs. The frozen networks are not in this folder:\n\n{origins}\n\n"
        f"| part | trained | frozen |\n|---|---|---|\n{parts}\n"
    )


def _plan(config: Mapping[str, Any], moved: BackboneSpec | None) -> PairPlan:
    return PairPlan(
        Method.from_dict(config["method"]),
        moved or BackboneSpec.from_dict(config["backbone"]),
        Contrast.from_dict(config["contrast"]),
        Training.from_dict(config["training"]),
        Schema.from_dict(config["schema"]),
        config["query"],
        config["target"],
        None,
        config["seed"],
        device=torch.device("cpu"),
        **config["options"],
    )


def _opened(folder: Path, plan: PairPlan, config: Mapping[str, Any]) -> RetrievalModel:
    try:
        return model_of(plan, config["rows"])
    except EncoderError as error:
        raise ArtifactError(
            f"the network of {folder} cannot be opened: {error}. Where it has moved, name its place: "
            "load(folder, backbone=...)"
        ) from error


def _rebuilt(
    folder: Path, config: Mapping[str, Any], plan: PairPlan, model: RetrievalModel
) -> FittedRetriever:
    for stream in model.streams:
        was, now = config["origins"][stream]["sha256"], model.encoder(stream).origin().sha256
        if was != now:
            raise ArtifactError(
                f"the frozen weights of {stream!r} must be those it was trained on: they had hash "
                f"{was[:12]}, these have {now[:12]}; name the right ones with backbone=..."
            )
    model.load_trained(read_tensors(folder / "adapter.safetensors"))
    model.eval()
    return FittedRetriever(plan, model, config["info"])


def _golden(fitted: FittedRetriever) -> dict[str, Any]:
    """What it says of rows drawn from a seed, never the user's data: vectors, and logits of matches.

    Always on the CPU, as models of tables have it.
    """
    there = fitted.plan.device
    here = replace(fitted, plan=replace(fitted.plan, device=torch.device("cpu")))
    fitted.model.to("cpu")
    frame = _golden_frame(fitted)
    sides: tuple[Side, ...] = ("query", "target")
    vectors = {side: here.vectors(frame, side, Path()) for side in sides}
    found = {"vectors": vectors} | ({"match": _match(here, frame)} if fitted.model.matches else {})
    fitted.model.to(there)
    return found


def _lists(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same as JSON has it."""
    return {k: _lists(v) if isinstance(v, Mapping) else v.tolist() for k, v in found.items()}


def _golden_frame(fitted: FittedRetriever) -> pd.DataFrame:
    rng = np.random.default_rng(_SEED)
    wide = {s: fitted.model.encoder(s).width for s in fitted.model.streams}
    return pd.DataFrame(
        {c.name: golden_cells(c, _ROWS, rng, wide) for c in fitted.plan.schema.columns}
    )


def _match(fitted: FittedRetriever, frame: pd.DataFrame) -> Float[np.ndarray, "b 2"]:
    """Of each row's text with its own picture: (no match, match)."""
    model, reading = fitted.model, Reading(Path(), fitted.plan.schema.max_files, "raise")
    batch: dict[str, Inputs] = {}
    sides: tuple[Side, ...] = ("query", "target")
    with torch.inference_mode():
        for side in sides:
            for read in fitted.feed(frame, side, reading).batches([np.arange(_ROWS)]):
                batch |= read
        seen = model.sight(model.tokens({model.seen: batch[model.seen]}))
        return model.matched(batch[model.texts], seen).float().cpu().numpy()


def _check(fitted: FittedRetriever, golden: Mapping[str, Any], folder: Path) -> None:
    got = _golden(fitted)
    pairs = {f"vectors of the {s}": (golden["vectors"][s], v) for s, v in got["vectors"].items()}
    if "match" in golden:  # the first files have none
        pairs["match logits"] = (golden["match"], got["match"])
    for what, (saved, now) in pairs.items():
        saved = np.asarray(saved)
        limit = golden["tolerance"] * max(1.0, float(np.abs(saved).max(initial=0)))
        gap = float(np.abs(saved - now).max())
        if not gap <= limit:
            raise ArtifactError(
                f"{folder} does not reproduce its golden rows: {what} differ by {gap:.3g}, allowed is "
                f"{limit:.3g}; the files were altered or a library changed what the network computes"
            )
