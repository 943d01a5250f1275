"""What `inspect` finds: in a saved model, or by counting a method's parameters without data."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch

from multiadapt.cli._opening import face, kind_of, moved
from multiadapt.cli._output import show_json, show_table
from multiadapt.cli._setting import check_read, divided, encoders, method_of
from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.estimators import load
from multiadapt.model import build_encoders, count_parts, encoder_spec
from multiadapt.types import Site, Stream

__all__ = ["counted", "saved", "show"]


def saved(folder: Path, encoder: Mapping[str, str], backbone: str | None) -> dict[str, Any]:
    """A saved model, loaded and so checked on its golden rows."""
    kind = kind_of(folder)
    if kind is None:
        if backbone is not None:
            raise SpecError(f"{folder} holds a model of tables: name moved encoders with --encoder")
        fitted = load(folder, encoders=encoder, device="cpu").fitted_
        told, task = fitted, fitted.task.to_dict()
        label = fitted.info.get("label")
    else:
        place = moved(backbone, encoder)
        fitted = face(kind).load(folder, backbone=place, device="cpu").fitted_
        told, task = fitted.plan, {"name": "retrieval" if kind == "retriever" else kind}
        label = f"{told.query} to {told.target}" if kind == "retriever" else told.text
    return {**_described(fitted, told, folder), "task": task, "label": label}


def _described(fitted: Any, told: Any, folder: Path) -> dict[str, Any]:
    """`told`: what has method, training and schema."""
    files = {f.name: f.stat().st_size for f in sorted(folder.iterdir()) if f.is_file()}
    model = fitted.model
    streams = {s: model.encoder(s) for s in model.streams}
    return {
        **_totals([asdict(p) for p in model.parts()]),
        "method": told.method.to_dict(),
        "training": told.training.to_dict(),
        "columns": [asdict(c) for c in told.schema.columns],
        "encoders": {
            s: {**asdict(e.origin()), "holds_rows": e.learned().holds_rows}
            for s, e in streams.items()
        },
        "files": files,
        "bytes": sum(files.values()),
        "info": fitted.info,
    }


def counted(
    method: str,
    named: Mapping[str, str],
    changes: Mapping[str, Any],
    tabular_width: int | None,
    outputs: int,
) -> dict[str, Any]:
    """Counts of a method on encoders of given widths; networks of random weights get no memory."""
    parts = divided(changes)
    if parts["training"] or parts["task"]:
        raise SpecError(f"training and task options do not change counts, got {list(changes)}")
    if "tabular" in named:
        raise SpecError(
            "a tabular encoder's width depends on the table; give --tabular-width, not --encoder tabular="
        )
    spec = method_of(method, parts["method"])
    check_read(spec, named)
    if tabular_width is not None and not spec.uses(Stream("tabular", "tabular", ())):
        raise SpecError(f"method {spec.name!r} reads no table; leave --tabular-width out")
    built = _built(encoders(named, parts["encoders"]))
    widths = {name: e.width for name, e in built.items()}
    sites = [s for e in built.values() for s in e.sites()]
    if tabular_width is not None:
        widths = {"tabular": tabular_width, **widths}
        sites.append(_pooled(tabular_width))
    if not widths:
        raise SpecError(
            f"method {method!r} has nothing to read; name --tabular-width or --encoder image="
        )
    found = count_parts(spec, sites, widths, outputs, list(built.values()))
    return {**_totals([asdict(p) for p in found]), "method": spec.to_dict(), "widths": widths}


def show(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Everything as JSON, or what a person asks for first."""
    if as_json:
        show_json(found)
        return
    if "columns" in found:
        _show_saved(found)
    show_table(pd.DataFrame(found["parts"]))
    click.echo(f"\ntrainable {found['trainable']:,} of {found['trainable'] + found['frozen']:,}")


def _show_saved(found: Mapping[str, Any]) -> None:
    click.echo(f"{found['method']['name']} for {found['label']} ({found['task']['name']})\n")
    show_table(pd.DataFrame(found["columns"], columns=["name", "kind", "reason"]))
    click.echo("")
    for stream, origin in found["encoders"].items():
        rows = "; its context holds training rows" if origin["holds_rows"] else ""
        click.echo(f"encoder {stream}: {origin['source']}, licence {origin['licence']}{rows}")
    click.echo("")
    for name, size in found["files"].items():
        click.echo(f"{size:>12,} bytes  {name}")
    click.echo("")


def _totals(parts: list[dict[str, Any]]) -> dict[str, Any]:
    totals = {k: sum(p[k] for p in parts) for k in ("trainable", "frozen")}
    return {**totals, "parts": parts}


def _built(named: Mapping[str, str | EncoderSpec]) -> dict[str, Encoder]:
    """Encoders of image streams."""
    streams = [Stream(name, "image", ()) for name in named]
    specs = {name: encoder_spec("image", choice) for name, choice in named.items()}
    random = all(str(getattr(s, "source", "")).startswith("random:") for s in specs.values())
    with torch.device("meta") if random else contextlib.nullcontext():
        return build_encoders(streams, specs, "classification")


def _pooled(width: int) -> Site:
    return Site(
        "tabular", "pooled", "pooled", 0, width, width,
        network="tabular", modality="tabular", layout="vector",
    )  # fmt: skip
