"""multiadapt predict"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multiadapt.cli._options import (
    TABLE,
    chunk_option,
    device_option,
    empty_option,
    encoder_option,
    keep_option,
    mask_option,
    on_error_option,
    root_option,
)

if TYPE_CHECKING:
    import numpy as np

    from multiadapt.tasks._base import Target

__all__ = ["predict"]


@click.command()
@click.argument("model", type=TABLE)
@click.argument("table", type=TABLE)
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
    several labels one column of zeros and ones each. LoRA and its kin are put into the frozen weights
    before the first row, so that predicting costs no more than the bare encoders; rounding differs.
    """
    _predict(model, table, out, chunk, proba=proba, keep=keep, given=given)


def _predict(
    folder: Path, path: Path, out: Path, chunk: int, *, proba: bool, keep: Sequence[str], given: Mapping[str, Any]
) -> None:  # fmt: skip
    from multiadapt.cli._chunks import Chunks
    from multiadapt.data.masks import apply, opened
    from multiadapt.errors import SpecError
    from multiadapt.estimators import load

    root = given["root"] or path.parent
    mask = None if given["mask"] is None else opened(given["mask"])
    with Chunks(path, out, chunk, keep) as chunks:
        model = load(folder, encoders=given["encoder"], device=given["device"])
        fitted = model.fitted_
        if proba and fitted.target.kind == "regression":
            raise SpecError("a regression has no probabilities; leave --proba out")
        with model.folded():
            for rows, start in chunks:
                masked = rows if mask is None else apply(rows, fitted.schema, mask, start)
                answer = fitted.answer(masked, root, given["on_error"], given["empty"])
                chunks.write(_columns(fitted.target, answer.scores, proba=proba))
        if mask is not None:
            mask.check_rows(chunks.rows)


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
