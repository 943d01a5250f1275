"""What `fit --task retrieval` does with a request."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import click
import pandas as pd

from multiadapt.cli._options import Request
from multiadapt.cli._output import show_table
from multiadapt.cli._setting import changed, divided, encoders, method_of
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._retrieval import Contrast
from multiadapt.crossmodal.blip import Blip
from multiadapt.data.tables import read_table
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.folders import check_place
from multiadapt.methods._pretrained import check_method
from multiadapt.retriever import RECIPE, CrossModalRetriever

__all__ = ["fit_retriever"]

Backbone: TypeAlias = Mapping[str, str | EncoderSpec] | BackboneSpec

_IDLE = (
    "label", "target", "class_weight", "separator", "metric", "groups", "sample_weight", "join_text",
)  # fmt: skip
"""Options of other tasks."""


def fit_retriever(
    request: Request,
    method: str,
    *,
    query: str | None,
    find: str | None,
    backbone: str | None,
    val: Path | None,
    time_limit: float | None,
    resume: bool,
    out: Path | None,
) -> None:
    """Fit, print what was trained, save."""
    if query is None or find is None:
        raise SpecError("--task retrieval pairs two columns: name them with --query and --find")
    if idle := [n for n in _IDLE if getattr(request, n)]:
        options = ", ".join(f"--{n.replace('_', '-')}" for n in idle)
        raise SpecError(f"--task retrieval has no use for {options}: leave it out")
    if out is not None:
        check_place(out)
    parts = divided(request.changes, pairs=True)
    if parts["task"]:
        idle = " and ".join(f"--set task.{name}" for name in parts["task"])
        raise SpecError(f"--task retrieval has no use for {idle}: leave it out")
    spec = method_of(method, parts["method"])
    check_method(spec)
    model = CrossModalRetriever(
        spec,
        backbone=_backbone(request, backbone, parts["encoders"]),
        training=changed(RECIPE, parts["training"]),
        contrast=changed(Contrast(), parts["contrast"]),
        column_types=dict(request.column_type) or None,  # type: ignore[arg-type]
        seed=request.seed,
        validation=request.validation,
        on_error=request.on_error,  # type: ignore[arg-type]
        max_files=request.max_files,
        device=request.device,
        memory=request.memory,
        verbose=not request.quiet,
    )
    table = read_table(request.table, where=request.where, root=request.root)
    file = out.with_name(f"{out.name}.resume.safetensors") if resume and out else None
    model.fit(
        table.frame, query=query, target=find, val_data=val, split_column=request.split_column,
        root=table.root, time_limit=time_limit, resume=file,
    )  # fmt: skip
    show_table(pd.DataFrame([vars(p) for p in model.fitted_.model.parts()]))
    if out is None:
        click.echo("this model is not saved: name a folder with --out to keep it", err=True)
        return
    model.save(out)
    click.echo(f"saved in {out}", err=True)
    ended = model.fitted_.info["history"]["stopped"] not in ("interrupt", "time_limit")
    if file is not None and ended:
        file.unlink(missing_ok=True)


def _backbone(request: Request, source: str | None, changes: Mapping[str, Any]) -> Backbone:
    """A BLIP network, or an encoder for each side."""
    if request.encoder:
        if source is not None:
            raise SpecError("--backbone and --encoder name two ways to compare: give one")
        return encoders(request.encoder, changes)
    spec: BackboneSpec = Blip() if source is None else Blip(source)
    return changed(spec, changes)
