"""multiadapt evaluate"""

from pathlib import Path
from typing import Any

import click

from multiadapt.cli._options import (
    TABLE,
    device_option,
    encoder_option,
    json_option,
    on_error_option,
    root_option,
    where_option,
)

__all__ = ["evaluate"]


@click.command()
@click.argument("model", type=TABLE)
@click.argument("table", type=TABLE)
@where_option
@click.option(
    "--label",
    multiple=True,
    metavar="COLUMN",
    help="The label's column, where it has another name than in training.",
)
@click.option("--sample-weight", metavar="COLUMN", help="Weights of at least 0.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@json_option
@encoder_option
@root_option
@on_error_option
@device_option
def evaluate(*, model: Path, table: Path, as_json: bool, **given: Any) -> None:
    """Score MODEL on the labelled rows of TABLE: every metric with its 95 % interval over rows.

    With --json: {"metrics": {name: {"value", "low", "high"}}, "rows", "metric", "method", ...}.
    """
    from multiadapt.cli._output import show_json, show_table
    from multiadapt.data.tables import read_table
    from multiadapt.estimators import load
    from multiadapt.gather import labels_of

    read = read_table(table, where=given["where"], root=given["root"])
    estimator = load(model, encoders=given["encoder"], device=given["device"])
    estimator.on_error = given["on_error"]
    label = list(given["label"])
    found = estimator.evaluate(
        read.frame,
        labels_of(read.frame, None, label[0] if len(label) == 1 else label) if label else None,
        sample_weight=given["sample_weight"],
        root=read.root,
        seed=given["seed"],
    )
    if not as_json:
        click.echo(f"{len(read.frame)} rows, 95 % intervals:")
        show_table(found, index=True)
        return
    show_json(
        {
            "metrics": found.to_dict("index"),
            "rows": len(read.frame),
            "metric": estimator.fitted_.target.metric,
            "task": estimator.fitted_.task.name,
            "method": estimator.fitted_.method.to_dict(),
            "where": given["where"],
        }
    )
