"""Save and load answerers and captioners: a folder as `artifact` writes it, with the trained tensors only."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from multiadapt import __version__
from multiadapt.card import parts_table
from multiadapt.crossmodal._adopt import Donor, served
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._choice import moved
from multiadapt.crossmodal._writing import WritingModel
from multiadapt.data.schema import Schema
from multiadapt.errors import ArtifactError
from multiadapt.folders import (
    GOLDEN_SEED,
    TOLERANCE,
    check_format,
    check_golden,
    check_kind,
    check_weights,
    damaged,
    golden_cells,
    network,
    read_config,
    read_tensors,
    write_config,
    write_tensors,
    write_whole,
)
from multiadapt.methods._base import Method, Training
from multiadapt.writing import FittedWriter, WritingPlan, blip_of, model_of

__all__ = ["load_writer", "read_donor", "save_writer"]

FORMAT = 1
_ROWS = 3
"""Golden rows."""


def save_writer(fitted: FittedWriter, folder: str | Path) -> None:
    """Write the artifact; an earlier artifact there is replaced as a whole, any other folder refused."""
    write_whole(Path(folder), lambda part: _write(fitted, part))


def load_writer(
    folder: str | Path,
    kind: Literal["answering", "captioning"],
    device: torch.device,
    backbone: object = None,
) -> FittedWriter:
    """A saved writer, checked on its golden rows; `backbone` says where the network has moved to.

    ArtifactError: a file is missing or altered, or the network's weights are not the saved ones.
    """
    folder = Path(folder)
    config = read_config(folder)
    check_kind(folder, config, kind)
    check_format(folder, config, f"a model for {kind}", FORMAT)
    with damaged(folder):
        plan = _plan(config)
    if backbone is not None:
        there = moved(plan.backbone, plan.schema.streams(), backbone)
        plan = replace(plan, backbone=blip_of(there))
    with network(folder, moved=backbone is not None):
        model = model_of(plan)
    with damaged(folder):
        origin = model.encoder(plan.shown).origin()
        check_weights("", config["origin"], origin, "backbone=...")
        _check_weighing(config.get("weighs_by", ""), model, origin.source)
        model.load_trained(read_tensors(folder / "adapter.safetensors"))
        fitted = FittedWriter(plan, model.eval(), config["info"])
        golden = config["golden"]
        check_golden(folder, "losses", golden["losses"], _golden(fitted), golden["tolerance"])
    fitted.plan = replace(fitted.plan, device=device)
    fitted.model.to(device)
    return fitted


def read_donor(folder: str | Path) -> Donor:
    """What a saved retriever, answerer or captioner learned, for another task to begin from."""
    folder = Path(folder)
    config = read_config(folder)
    if not {"method", "base", "kinds", "served"} <= config.keys():
        raise ArtifactError(
            f"{folder} must hold a saved retriever, answerer or captioner of a vision-language network"
        )
    return Donor(
        str(folder),
        config["method"],
        config["base"],
        config["kinds"],
        config["served"],
        read_tensors(folder / "adapter.safetensors"),
    )


def _write(fitted: FittedWriter, folder: Path) -> None:
    folder.mkdir()
    plan, model = fitted.plan, fitted.model
    write_tensors(model.trained_state(), folder / "adapter.safetensors")
    config = {
        "kind": "captioning" if plan.question is None else "answering",
        "format": FORMAT,
        "multiadapt": __version__,
        "method": plan.method.to_dict(),
        "backbone": plan.backbone.to_dict(),
        "training": plan.training.to_dict(),
        "schema": plan.schema.to_dict(),
        "image": plan.shown,
        "question": plan.question,
        "text": plan.text,
        "answers": plan.answers,
        "origin": asdict(model.encoder(plan.shown).origin()),
        "base": model.base,
        "weighs_by": model.weighs_by,
        "kinds": model.kinds(),
        "served": served(model),
        "seed": plan.seed,
        "options": {
            "prompt": plan.prompt,
            "smoothing": plan.smoothing,
            "validation": plan.validation,
            "on_error": plan.on_error,
            "memory": plan.memory,
        },
        "info": fitted.info,
        "golden": {
            "tolerance": TOLERANCE[plan.training.precision],
            "losses": _golden(fitted).tolist(),
        },
    }
    write_config(config, folder)
    (folder / "README.md").write_text(_card(fitted, config), encoding="utf-8")


def _card(fitted: FittedWriter, config: Mapping[str, Any]) -> str:
    plan, origin = fitted.plan, config["origin"]
    reads = " and ".join(plan.roles)
    return (
        f"# {config['kind'].capitalize()}: {reads} to {plan.text}\n\n"
        f"Trained with multiadapt {__version__} by {plan.method.name} on {fitted.info.get('rows', '?')} "
        "rows. The frozen network is not in this folder:\n\n"
        f"- {origin['source']} ({origin['licence']}), SHA-256 {origin['sha256'][:16]}...\n\n"
        f"{parts_table(fitted.model.parts())}\n"
    )


def _plan(config: Mapping[str, Any]) -> WritingPlan:
    answers = config["answers"]
    return WritingPlan(
        method=Method.from_dict(config["method"]),
        backbone=blip_of(BackboneSpec.from_dict(config["backbone"])),
        training=Training.from_dict(config["training"]),
        schema=Schema.from_dict(config["schema"]),
        shown=config["image"],
        question=config["question"],
        text=config["text"],
        answers=None if answers is None else tuple(answers),
        root=None,
        seed=config["seed"],
        device=torch.device("cpu"),
        **config["options"],
    )


def _check_weighing(saved: str, model: WritingModel, source: str) -> None:
    """ArtifactError: questions would weigh frames in another way than in training."""
    if saved != model.weighs_by:
        was, now = (h[:12] or "none" for h in (saved, model.weighs_by))
        raise ArtifactError(
            "the projections by which frames are weighed must be those it was trained with, which had hash "
            f"{was}; {source!r} has {now}; name the right ones with backbone=..."
        )


def _golden(fitted: FittedWriter) -> np.ndarray:
    """Losses of rows drawn from a seed, never the user's data. Always on the CPU: a GPU rounds otherwise."""
    device, rng = fitted.plan.device, np.random.default_rng(GOLDEN_SEED)
    here = FittedWriter(replace(fitted.plan, device=torch.device("cpu")), fitted.model.to("cpu"))
    frame = pd.DataFrame(
        {c.name: golden_cells(c, _ROWS, rng, {}) for c in here.plan.schema.columns}
    )
    if (
        here.plan.question is not None
    ):  # 4,000 letters of a golden text would be cut, with a warning
        frame[here.plan.question] = ["old", "Blue or red", "42.5"]
    found = here.losses(frame, Path(), [["red"], ["Blue 42"], ["old"]])
    fitted.model.to(device)
    return found
