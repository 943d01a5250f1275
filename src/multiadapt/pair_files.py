"""Save and load retrievers: a folder as `artifact` writes it, with the trained tensors only."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from multiadapt import __version__
from multiadapt.artifact import (
    golden_cells,
    read_json,
    read_tensors,
    write_tensors,
    write_whole,
)
from multiadapt.crossmodal._adopt import served
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._retrieval import Contrast
from multiadapt.data.schema import Schema
from multiadapt.errors import ArtifactError, EncoderError, SpecError
from multiadapt.methods._base import Method, Training
from multiadapt.retrieving import FittedRetriever, PairPlan, model_of

__all__ = ["load_retriever", "save_retriever"]

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
    if config.get("kind") != "retriever" or config.get("format") != FORMAT:
        raise ArtifactError(
            f"{folder} holds a {config.get('kind', 'model')!r} of format {config.get('format')!r}; this "
            f"version ({__version__}) reads retrievers of format {FORMAT}"
        )
    try:
        fitted = _rebuilt(folder, config, device, backbone)
        _check(fitted, config["golden"], folder)
    except (KeyError, TypeError, AttributeError, SpecError) as error:
        raise ArtifactError(
            f"{folder / 'config.json'} is damaged: {error!r}; restore it from a copy, or fit again"
        ) from error
    return fitted


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
            "vectors": {side: v.tolist() for side, v in _golden(fitted).items()},
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


def _rebuilt(
    folder: Path, config: Mapping[str, Any], device: torch.device, moved: BackboneSpec | None
) -> FittedRetriever:
    plan = PairPlan(
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
    try:
        model = model_of(plan, config["rows"])
    except EncoderError as error:
        raise ArtifactError(
            f"the network of {folder} cannot be opened: {error}. Where it has moved, name its place: "
            "load(folder, backbone=...)"
        ) from error
    for stream in model.streams:
        was, now = config["origins"][stream]["sha256"], model.encoder(stream).origin().sha256
        if was != now:
            raise ArtifactError(
                f"the frozen weights of {stream!r} must be those it was trained on: they had hash "
                f"{was[:12]}, these have {now[:12]}; name the right ones with backbone=..."
            )
    model.load_trained(read_tensors(folder / "adapter.safetensors"))
    fitted = FittedRetriever(plan, model, config["info"])
    fitted.model.eval()
    fitted.plan = replace(plan, device=device)
    fitted.model.to(device)
    return fitted


def _golden(fitted: FittedRetriever) -> dict[str, np.ndarray]:
    """Vectors of rows drawn from a seed, never the user's data."""
    rng = np.random.default_rng(_SEED)
    wide = {s: fitted.model.encoder(s).width for s in fitted.model.streams}
    frame = pd.DataFrame(
        {c.name: golden_cells(c, _ROWS, rng, wide) for c in fitted.plan.schema.columns}
    )
    return {side: fitted.vectors(frame, side, Path()) for side in ("query", "target")}


def _check(fitted: FittedRetriever, golden: Mapping[str, Any], folder: Path) -> None:
    for side, got in _golden(fitted).items():
        gap = float(np.abs(np.asarray(golden["vectors"][side]) - got).max())
        if not gap <= golden["tolerance"]:
            raise ArtifactError(
                f"{folder} does not reproduce its golden rows: vectors differ by {gap:.3g}, allowed is "
                f"{golden['tolerance']:.3g}; the files were altered or a library changed what the "
                "network computes"
            )
