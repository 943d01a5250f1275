"""multiadapt predict"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multiadapt.cli._options import (
    TABLE,
    device_option,
    empty_option,
    encoder_option,
    mask_option,
    on_error_option,
    root_option,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from multiadapt.tasks._base import Target

__all__ = ["predict"]


@click.command()
@click.argument("model", type=TABLE)
@click.argument("table", type=TABLE)
@click.option("--out", type=TABLE, required=True, help="A .csv, .parquet or .jsonl file.")
@click.option(
    "--chunk",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Rows that are read and written together; memory is bounded by it.",
)
@click.option("--proba", is_flag=True, help="Add a column of probabilities for each class.")
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Copy this column, in place of the row's number. May be repeated.",
)
@mask_option
@empty_option
@encoder_option
@root_option
@on_error_option
@device_option
def predict(
    *,
    model: Path,
    table: Path,
    out: Path,
    chunk: int,
    proba: bool,
    keep: Sequence[str],
    **given: Any,
) -> None:
    """Predict every row of TABLE with MODEL, a folder that fit made.

    The rows keep their order. `row` counts from 0; `prediction` is what the model predicts, for
    several labels one column of zeros and ones each.
    """
    _predict(model, table, out, chunk, proba=proba, keep=keep, given=given)


def _predict(
    folder: Path, path: Path, out: Path, chunk: int, *, proba: bool, keep: Sequence[str], given: Mapping[str, Any]
) -> None:  # fmt: skip
    from multiadapt.data.masks import apply, opened
    from multiadapt.data.tables import TableWriter, read_chunks
    from multiadapt.errors import SpecError
    from multiadapt.estimators import load

    root = given["root"] or path.parent
    mask = None if given["mask"] is None else opened(given["mask"])
    start = 0
    with TableWriter(out) as writer:
        fitted = load(folder, encoders=given["encoder"], device=given["device"]).fitted_
        if proba and fitted.target.kind == "regression":
            raise SpecError("a regression has no probabilities; leave --proba out")
        for rows in read_chunks(path, chunk):
            kept = _kept(rows, keep, start)
            masked = rows if mask is None else apply(rows, fitted.schema, mask, start)
            answer = fitted.answer(masked, root, given["on_error"], given["empty"])
            found = _columns(fitted.target, answer.scores, proba=proba)
            _check_names(list(kept), list(found))
            writer.write(kept.assign(**found))
            start += len(rows)
        if mask is not None:
            mask.check_rows(start)
    click.echo(f"{start} rows in {out}", err=True)


def _kept(rows: "pd.DataFrame", keep: Sequence[str], start: int) -> "pd.DataFrame":
    """The columns that say which row it is."""
    import pandas as pd

    from multiadapt.data.tables import did_you_mean
    from multiadapt.errors import SchemaError

    if not keep:
        return pd.DataFrame({"row": range(start, start + len(rows))})
    absent = [name for name in keep if name not in rows]
    if absent:
        meant = did_you_mean(absent, rows)
        raise SchemaError(
            f"columns {absent} are to be kept but absent; the table has {list(rows)}{meant}"
        )
    return rows.loc[:, list(keep)].reset_index(drop=True)


def _check_names(kept: Sequence[str], found: Sequence[str]) -> None:
    from multiadapt.errors import SchemaError

    both = [name for name in kept if name in found]
    if both:
        raise SchemaError(f"kept columns may not be called as results are, got {both}: rename them")


def _columns(target: "Target", scores: "np.ndarray", *, proba: bool) -> "dict[str, np.ndarray]":
    found: dict[str, np.ndarray] = {}
    predicted, state = target.predict(scores), target.state()
    names = state.get("names", state.get("classes", []))
    if predicted.ndim == 2:
        found |= {f"prediction_{n}": predicted[:, i] for i, n in enumerate(names)}
    else:
        found["prediction"] = predicted
    if proba:
        likely = target.probabilities(scores)
        found |= {f"probability_{n}": likely[:, i] for i, n in enumerate(names)}
    return found
