"""Save and load retrievers: a folder as `artifact` writes it, with the trained tensors only."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from multiadapt import __version__
from multiadapt.card import parts_table
from multiadapt.crossmodal._adopt import served
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._choice import moved
from multiadapt.crossmodal._retrieval import Contrast, RetrievalModel
from multiadapt.crossmodal.dual import Dual
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema
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
from multiadapt.retrieving import FittedRetriever, PairPlan, model_of
from multiadapt.types import Inputs

__all__ = ["load_retriever", "save_retriever"]

Side: TypeAlias = Literal["query", "target"]

FORMAT = 1
_ROWS = 3
"""Golden rows."""


def save_retriever(fitted: FittedRetriever, folder: str | Path) -> None:
    """Write the artifact; an earlier artifact there is replaced as a whole, any other folder refused."""
    write_whole(Path(folder), lambda part: _write(fitted, part))


def load_retriever(
    folder: str | Path, device: torch.device, backbone: object = None
) -> FittedRetriever:
    """A saved retriever, checked on its golden rows; `backbone` says where the network, or an encoder of
    either side, has moved to.

    ArtifactError: a file is missing or altered, or the network's weights are not the saved ones.
    """
    folder = Path(folder)
    config = read_config(folder)
    check_kind(folder, config, "retriever")
    check_format(folder, config, "a retriever", FORMAT)
    with damaged(folder):
        plan = _plan(config)
    if backbone is not None:
        plan = replace(plan, backbone=moved(plan.backbone, plan.schema.streams(), backbone))
    with network(folder, moved=backbone is not None, place=_place(plan)):
        model = model_of(plan, config["rows"])
    with damaged(folder):
        fitted = _rebuilt(folder, config, plan, model)
        _check(fitted, config["golden"], folder)
    fitted.plan = replace(plan, device=device)
    fitted.model.to(device)
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
            "tolerance": TOLERANCE[plan.training.precision],
            **_lists(_golden(fitted)),
        },
    }
    write_config(config, folder)
    (folder / "README.md").write_text(_card(fitted, config), encoding="utf-8")


def _card(fitted: FittedRetriever, config: Mapping[str, Any]) -> str:
    origins = "\n".join(
        f"- {name}: {o['source']} ({o['licence']}), SHA-256 {o['sha256'][:16]}..."
        for name, o in config["origins"].items()
    )
    return (
        f"# A retriever: {fitted.plan.query} to {fitted.plan.target}\n\n"
        f"Trained with multiadapt {__version__} by {fitted.plan.method.name} on "
        f"{fitted.info.get('rows', '?')} pairs. The frozen networks are not in this folder:\n\n{origins}\n\n"
        f"{parts_table(fitted.model.parts())}\n"
    )


def _place(plan: PairPlan) -> str:
    """What names another place to `load`: of the one network, or of each encoder."""
    sides = plan.backbone.encoders.values() if isinstance(plan.backbone, Dual) else ()
    return "backbone={...}" if len({getattr(s, "source", s) for s in sides}) > 1 else "backbone=..."


def _plan(config: Mapping[str, Any]) -> PairPlan:
    return PairPlan(
        Method.from_dict(config["method"]),
        BackboneSpec.from_dict(config["backbone"]),
        _contrast(config["contrast"]),
        Training.from_dict(config["training"]),
        Schema.from_dict(config["schema"]),
        config["query"],
        config["target"],
        None,
        config["seed"],
        device=torch.device("cpu"),
        **config["options"],
    )


def _contrast(saved: Mapping[str, Any]) -> Contrast:
    """Without a teacher, what is of one did nothing, and was taken all the same until it was refused."""
    idle = ("queue", "distill") if saved["momentum"] is None else ()
    return Contrast.from_dict({k: v for k, v in saved.items() if k not in idle})


def _rebuilt(
    folder: Path, config: Mapping[str, Any], plan: PairPlan, model: RetrievalModel
) -> FittedRetriever:
    for stream in model.streams:
        origin = model.encoder(stream).origin()
        check_weights(f" of {stream!r}", config["origins"][stream], origin, _place(plan))
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
    rng = np.random.default_rng(GOLDEN_SEED)
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
        shown = {model.seen: batch[model.seen]}
        seen = model.sight(shown, model.tokens(shown))
        return model.matched(batch[model.texts], seen).float().cpu().numpy()


def _check(fitted: FittedRetriever, golden: Mapping[str, Any], folder: Path) -> None:
    got = _golden(fitted)
    pairs = {f"vectors of the {s}": (golden["vectors"][s], v) for s, v in got["vectors"].items()}
    if "match" in golden:  # the first files have none
        pairs["match logits"] = (golden["match"], got["match"])
    for what, (saved, now) in pairs.items():
        check_golden(folder, what, saved, now, golden["tolerance"])
