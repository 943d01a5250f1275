"""multiadapt predict"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from multiadapt.cli._options import (
    PLACE,
    TABLE,
    chunk_option,
    device_option,
    empty_option,
    encoder_option,
    engine_option,
    keep_option,
    mask_option,
    on_error_option,
    root_option,
    workers_option,
)

__all__ = ["predict"]


@click.command()
@click.argument("model", type=TABLE)
@click.argument("table", type=PLACE)
@click.option("--out", type=TABLE, required=True, help="A .csv, .parquet or .jsonl file.")
@chunk_option
@click.option("--proba", is_flag=True, help="Add a column of probabilities for each class.")
@keep_option
@mask_option
@empty_option
@encoder_option
@root_option
@on_error_option
@device_option
@engine_option
@workers_option
def predict(
    *, model: Path, table: Path | str, out: Path, chunk: int, keep: Sequence[str], engine: str,
    workers: int | None, **given: Any,
) -> None:  # fmt: skip
    """Predict every row of TABLE with MODEL, a folder that fit made.

    The rows keep their order. `row` counts from 0; `prediction` is what the model predicts, for
    several labels one column of zeros and ones each. LoRA and its kin are put into the frozen weights
    before the first row, so that predicting costs no more than the bare encoders; rounding differs.

    A run that was broken off, even by kill -9, continues where it stopped when the same call is made again.
    """
    from multiadapt.cli._chunks import Chunks
    from multiadapt.cli._identity import identity
    from multiadapt.cli._working import Prediction, home_of, run
    from multiadapt.data.table_writer import check_results

    check_results(out)
    given["root"] = given["root"] or home_of(table)
    told = identity(model, table, {**given, "keep": keep, "chunk": chunk})
    job = Prediction(model=model, where=None, **given)
    run(job, Chunks(table, out, chunk, keep, told), engine, workers)
