"""What `evaluate` does with models whose columns have roles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pandas as pd

from multiadapt.cli._opening import face, moved
from multiadapt.cli._output import show_json, show_table
from multiadapt.folders import holding

__all__ = ["run"]

_IDLE = (
    "label", "sample_weight", "metric", "mask", "missing_grid", "against", "plot", "masks",
    "contributions", "out",
)  # fmt: skip
"""Options that say nothing to these models."""


def run(kind: str, model: Path, table: Path, given: Mapping[str, Any]) -> None:
    """Every metric, of the network as it was beside."""
    idle = [name for name in _IDLE if given[name]]
    idle += [name for name in ("empty", "on_error") if given[name] != "raise"]
    if idle:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise click.UsageError(f"{model} holds {holding(kind)}, which has no use for {options}")
    place = moved(given["backbone"], given["encoder"])
    estimator = face(kind).load(model, backbone=place, device=given["device"])
    found = estimator.evaluate(
        table, where=given["where"], root=given["root"], seed=given["seed"]
    ).reset_index()
    kept = {"method": estimator.fitted_.plan.method.to_dict(), "where": given["where"]}
    if kind == "retriever":
        _show_pairs(found, kept, as_json=given["as_json"])
    else:
        _show_texts(kind, found, kept, as_json=given["as_json"])


def _show_pairs(found: pd.DataFrame, kept: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json({"metrics": found.to_dict("records"), "task": "retrieval", **kept})
        return
    show_table(found.drop(columns="protocol"))
    told = found.drop_duplicates(["way", "protocol"])
    for way, protocol in zip(told["way"], told["protocol"], strict=True):
        click.echo(f"\n{way}: {protocol}")


def _show_texts(kind: str, found: pd.DataFrame, kept: Mapping[str, Any], *, as_json: bool) -> None:
    rows, protocol = int(found["rows"].iloc[0]), found["protocol"].iloc[0]
    if not as_json:
        what = "questions" if kind == "answering" else "pictures or clips"
        click.echo(f"{rows} {what}, 95 % intervals:")
        show_table(found.drop(columns=["rows", "protocol"]))
        click.echo(f"\n{protocol}")
        return
    numbers = {
        str(name): of.set_index("metric").filter(["value", "low", "high"]).T.to_dict()
        for name, of in found.groupby("model")
    }
    metrics = numbers["adapted"]
    metric = next(m for m in ("vqa_accuracy", "exact_match", "cider_d") if m in metrics)
    show_json(
        {
            "metrics": metrics,
            "zero_shot": numbers.get("zero-shot"),
            "rows": rows,
            "metric": metric,
            "task": kind,
            "protocol": protocol,
            **kept,
        }
    )
