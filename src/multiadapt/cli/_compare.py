"""multiadapt compare"""

from pathlib import Path
from typing import Any

import click

from multiadapt.cli._options import FOLDER, PAIRED, TABLE, Request, estimator_options

__all__ = ["compare"]


@click.command()
@click.argument("table", type=TABLE)
@click.option(
    "--methods",
    required=True,
    multiple=True,
    metavar="NAME,NAME,...",
    help="Methods, and variants of one: ti-adapter:image.variant=bc1. May be repeated.",
)
@estimator_options
@click.option("--folds", type=click.IntRange(2), help="Number of folds.  [default: 5]")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    help="With --split-column, in place of folds: seeds that each method is trained with.",
)
@click.option(
    "--against", help="The method that others are tested against, or best.  [default: the first]"
)
@click.option("--out", type=FOLDER, required=True, help="Folder for the tables and finished runs.")
def compare(
    *, methods: tuple[str, ...], folds: int | None, seeds: int | None, against: str | None, out: Path, **given: Any
) -> None:  # fmt: skip
    """Compare methods on TABLE: metrics with intervals, paired tests, parameters, seconds, memory.

    Every method meets the same folds, or the same test rows of a split column. Finished runs are
    kept: the same call continues after an interruption, and does only what is new after a change.
    Here `--set METHOD.image.r=8` is an option of one method, and training., task. and encoders. of
    all.

    \b
    multiadapt compare houses/table.csv --label price_usd \\
        --methods frozen,ti-adapter,full,trees --folds 5 --out runs/compare
    """
    request = Request(**given)
    if request.task in PAIRED:
        raise click.UsageError(
            f"compare takes tasks with a label; fit one model of {request.task} by each method instead"
        )
    request.need_label()
    if request.split_column is None and seeds is not None:
        raise click.UsageError("--seeds needs --split-column, which marks the rows to test on")
    if request.split_column is not None and folds is not None:
        raise click.UsageError("give --folds or --split-column, not both")
    from multiadapt.cli import _comparing

    if request.split_column is None:
        folds = folds or 5
    _comparing.run(request, methods, folds=folds, seeds=seeds or 1, against=against, out=out)
