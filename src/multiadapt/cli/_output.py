"""Tables and JSON on standard output."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pandas as pd

__all__ = ["show_json", "show_profile", "show_table", "show_validation"]


def show_json(value: Mapping[str, Any]) -> None:
    """One JSON object; what is undefined is null, which NaN is not in JSON."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def show_table(frame: pd.DataFrame, *, index: bool = False) -> None:
    """A frame as text, numbers short and whole ones in thousands."""
    formatted = frame.map(_cell)
    click.echo(formatted.to_string(index=index, index_names=False))


def show_profile(profile: pd.DataFrame | None, *, quiet: bool) -> None:
    """Where the time went, if that was asked for; unless quiet, the estimator has said it."""
    if profile is None or not quiet:
        return
    from multiadapt.reports.profile import lines

    for line in lines(profile):
        click.echo(line)


def show_validation(info: Mapping[str, Any], metric: str = "") -> None:
    """What a fit says of its validation rows: every metric, or where there are none what training watched, the
    loss and `metric`, after the epoch that was kept."""
    told = f"validation on {info['validation_rows']} rows, which chose the epoch"
    if "validation" in info:
        click.echo(f"\n{told}; 95 % intervals:")
        show_table(pd.DataFrame(info["validation"]).T, index=True)
        return
    kept = info["history"]["best_epoch"]
    for record in info["history"]["epochs"]:
        if record["epoch"] == kept and "validation_loss" in record:
            watched = {"loss": "validation_loss", metric: "validation_metric"}
            found = [f"{n} {_cell(record[key])}" for n, key in watched.items() if key in record]
            click.echo(f"\n{told}; after epoch {kept}: {', '.join(found)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _cell(value: Any) -> str:
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
