"""multiadapt evaluate"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multiadapt.cli._options import (
    FOLDER,
    TABLE,
    device_option,
    empty_option,
    encoder_option,
    json_option,
    mask_option,
    network_option,
    on_error_option,
    pairs,
    root_option,
    where_option,
)

if TYPE_CHECKING:
    from multiadapt.data.tables import Table

__all__ = ["evaluate"]


def _rates(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[float] | None:
    try:
        return None if value is None else [float(word) for word in value.split(",")]
    except ValueError as error:
        text = f"{value!r} is no list of numbers such as 0,.3,.7"
        raise click.BadParameter(text, context, parameter) from error


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
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the bootstrap and of masks."
)
@click.option("--metric", help="Of the curves or contributions.  [default: the model's own]")
@mask_option
@empty_option
@click.option(
    "--missing-grid",
    callback=_rates,
    metavar="RATE,RATE,...",
    help="Curves of the metric against the share of rows that lose a modality: each, and both.",
)
@click.option(
    "--against",
    multiple=True,
    callback=pairs,
    metavar="NAME=FOLDER",
    help="Another saved model on the same axes. May be repeated. With --missing-grid.",
)
@click.option("--plot", type=TABLE, metavar="PNG", help="Draw the curves. With --missing-grid.")
@click.option(
    "--masks", type=FOLDER, help="Keep the masks here, or take them. With --missing-grid."
)
@click.option(
    "--contributions",
    is_flag=True,
    help="Which modality pays: Shapley values of the metric, and costs.",
)
@click.option("--out", type=TABLE, metavar="CSV", help="Write the curves or the contributions.")
@json_option
@encoder_option
@network_option
@root_option
@on_error_option
@device_option
def evaluate(*, model: Path, table: Path, **given: Any) -> None:
    """Score MODEL on the labelled rows of TABLE: every metric with its 95 % interval over rows.

    Of a retriever: how well each of its two columns finds the other. Of a retriever, an answerer and a
    captioner the network as it was before training stands beside.

    With --json: {"metrics": {name: {"value", "low", "high"}}, "rows", "metric", "method", ...}.

    \b
    multiadapt evaluate runs/shop shop/table.csv --missing-grid 0,.3,.7,1 \\
        --against "zero filling=runs/zero" --plot curves.png
    """
    _check(given)
    from multiadapt.cli._opening import kind_of
    from multiadapt.data.tables import read_table

    kind = kind_of(model)
    if kind is not None:
        from multiadapt.cli import _evaluating

        _evaluating.run(kind, model, table, given)
        return
    if given["backbone"] is not None:
        raise click.UsageError(
            "--backbone goes with a retriever, an answerer or a captioner; --encoder names moved encoders"
        )
    read = read_table(table, where=given["where"], root=given["root"])
    if given["missing_grid"] is not None:
        _curves(model, read, given)
    elif given["contributions"]:
        _contributions(model, read, given)
    else:
        _metrics(model, read, given)


def _check(given: Mapping[str, Any]) -> None:
    """Every option is used, or refused."""
    modes = {"--mask": given["mask"], "--missing-grid": given["missing_grid"],
             "--contributions": given["contributions"] or None, "--json": given["as_json"] or None}  # fmt: skip
    asked = [name for name, value in modes.items() if value is not None]
    curves, pays = "--missing-grid" in asked, "--contributions" in asked
    if (curves or pays) and len(asked) > 1:
        raise click.UsageError(f"give one of {' and '.join(sorted(asked))}")
    if given["empty"] == "prior" and (curves or pays):
        raise click.UsageError(
            "--empty goes without --missing-grid and --contributions, which always take the prior"
        )
    needs = {"against": curves, "plot": curves, "masks": curves, "out": curves or pays,
             "metric": curves or pays}  # fmt: skip
    for name, met in needs.items():
        if given[name] and not met:
            other = " or --contributions" if name in ("out", "metric") else ""
            raise click.UsageError(f"--{name} goes with --missing-grid{other}")


def _loaded(folder: str | Path, given: Mapping[str, Any]) -> Any:
    from multiadapt.estimators import load

    estimator = load(folder, encoders=given["encoder"], device=given["device"])
    estimator.on_error = given["on_error"]
    return estimator


def _rows(read: "Table", given: Mapping[str, Any]) -> dict[str, Any]:
    """The labelled rows as an estimator takes them."""
    from multiadapt.gather import labels_of

    label = list(given["label"])
    y = labels_of(read.frame, None, label[0] if len(label) == 1 else label) if label else None
    weight = given["sample_weight"]
    return {
        "X": read.frame,
        "y": y,
        "sample_weight": weight,
        "root": read.root,
        "seed": given["seed"],
    }


def _metrics(model: Path, read: "Table", given: Mapping[str, Any]) -> None:
    from multiadapt.cli._output import show_json, show_table
    from multiadapt.data.masks import opened

    estimator = _loaded(model, given)
    mask = None if given["mask"] is None else opened(given["mask"])
    found = estimator.evaluate(**_rows(read, given), mask=mask, empty=given["empty"])
    if not given["as_json"]:
        click.echo(f"{len(read.frame)} rows, 95 % intervals:")
        show_table(found, index=True)
        if mask is not None:
            click.echo(mask.description)
        return
    kept = ("modality", "rate", "seed", "reached", "digest")
    fitted = estimator.fitted_
    show_json(
        {
            "metrics": found.to_dict("index"),
            "rows": len(read.frame),
            "metric": fitted.target.metric,
            "task": fitted.task.name,
            "method": fitted.method.to_dict(),
            "where": given["where"],
            "mask": None if mask is None else {name: getattr(mask, name) for name in kept},
        }
    )


def _curves(model: Path, read: "Table", given: Mapping[str, Any]) -> None:
    from multiadapt.cli._output import show_table

    others = {name: _loaded(folder, given) for name, folder in given["against"].items()}
    found = _loaded(model, given).robustness(
        **_rows(read, given),
        rates=given["missing_grid"],
        against=others,
        metric=given["metric"],
        masks=given["masks"],
    )
    click.echo(f"{len(read.frame)} rows, 95 % intervals; {found.definition}:")
    show_table(found.table.drop(columns=["area", "rows"]))
    click.echo("\narea under the curve, divided by the range of the rates:")
    show_table(found.areas, index=True)
    if given["out"] is not None:
        found.to_csv(given["out"])
    if given["plot"] is not None:
        found.plot(given["plot"])


def _contributions(model: Path, read: "Table", given: Mapping[str, Any]) -> None:
    from multiadapt.cli._output import show_table

    found = _loaded(model, given).contributions(**_rows(read, given), metric=given["metric"])
    better = "lower" if found.lower_is_better else "higher"
    click.echo(
        f"{len(read.frame)} rows, 95 % intervals; {found.metric} ({better} is better): "
        f"{found.full:.4g} with all, {found.empty:.4g} with none:"
    )
    show_table(found.table, index=True)
    click.echo("\n".join(["", *found.sentences]))
    if given["out"] is not None:
        found.to_csv(given["out"])
