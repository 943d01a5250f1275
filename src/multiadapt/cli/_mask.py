"""multiadapt mask"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multiadapt.cli._options import FOLDER, TABLE, pairs, root_option, where_option

if TYPE_CHECKING:
    from multiadapt.data.masks import Mask
    from multiadapt.data.schema import Schema
    from multiadapt.data.tables import Table

__all__ = ["mask"]


@click.command()
@click.argument("table", type=TABLE)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1),
    required=True,
    metavar="SHARE",
    help="Share of rows that lose a modality.",
)
@click.option(
    "--modality",
    default="both",
    show_default=True,
    metavar="NAME",
    help="tabular or a column of pictures, texts ...; both: each drawn row loses one of its own, "
    "chosen evenly.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=TABLE, required=True, help="A .parquet or .csv file.")
@click.option("--model", type=FOLDER, help="A saved model that says what the columns hold.")
@click.option(
    "--label",
    multiple=True,
    metavar="COLUMN",
    help="No modality: what is learned. Without --model.",
)
@click.option(
    "--column-type",
    multiple=True,
    callback=pairs,
    metavar="COLUMN=KIND",
    help="What a column holds, where the guess is wrong. May be repeated. Without --model.",
)
@click.option(
    "--join-text", is_flag=True, help="All text columns are one modality. Without --model."
)
@where_option
@root_option
def mask(
    *, table: Path, rate: float, modality: str, seed: int, out: Path, model: Path | None, **given: Any
) -> None:  # fmt: skip
    """Draw which rows of TABLE lose which modality, for `predict --mask` and `evaluate --mask`.

    Exactly round(SHARE * rows) rows lose one, drawn with the seed; the holes of a smaller share are
    among those of a larger. A row that has only one modality keeps it.

    \b
    multiadapt mask houses/table.csv --rate .7 --modality both --seed 0 --out masks.parquet
    """
    idle = [f"--{name.replace('_', '-')}" for name in ("label", "column_type", "join_text")
            if model is not None and given[name]]  # fmt: skip
    if idle:
        raise click.UsageError(
            f"{' and '.join(idle)} goes without --model, which knows its columns"
        )
    from multiadapt.data.masks import draw, present
    from multiadapt.data.tables import read_table

    read = read_table(table, where=given["where"], root=given["root"])
    drawn = draw(present(read.frame, _schema(read, model, given)), rate, modality, seed)
    drawn.save(out)
    _say(drawn, out)


def _schema(read: "Table", model: Path | None, given: Mapping[str, Any]) -> "Schema":
    if model is not None:
        from multiadapt.artifact import schema_of

        return schema_of(model)
    from multiadapt.data.schema import guess_schema
    from multiadapt.gather import Roles

    roles = Roles(list(given["label"]))
    roles.check(read.frame)
    return guess_schema(
        read.frame,
        root=read.root,
        reserved=roles.columns(),
        column_types=given["column_type"],
        join_text=given["join_text"],
    )


def _say(drawn: "Mask", out: Path) -> None:
    counts = ", ".join(f"{name} {n}" for name, n in drawn.removed.sum().items())
    losing = int(drawn.removed.any(axis=1).sum())
    click.echo(f"{losing} of {len(drawn)} rows lose one modality: {counts}")
    if drawn.remark:
        click.echo(drawn.remark)
    click.echo(f"saved in {out}, digest {drawn.digest}", err=True)
