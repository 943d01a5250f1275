"""multiadapt embed"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multiadapt.cli._opening import kind_of
from multiadapt.cli._options import (
    PLACE,
    TABLE,
    chunk_option,
    device_option,
    encoder_option,
    engine_option,
    keep_option,
    mask_option,
    network_option,
    root_option,
    where_option,
    workers_option,
)

if TYPE_CHECKING:
    from multiadapt.cli._working import Job

__all__ = ["embed"]

_SHARED = ("root", "where", "encoder", "device")
_OF_ROWS = ("stream", "mask", "empty", "on_error")
_OF_PAIRS = ("side", "backbone")


@click.command()
@click.argument("model", type=TABLE)
@click.argument("table", type=PLACE)
@click.option("--out", type=TABLE, required=True, help="A .parquet file.")
@click.option(
    "--stream",
    metavar="NAME",
    help="The vector of one modality alone, after its adapters: tabular or a column of pictures, texts ...  "
    "[default: the vector that the head reads]",
)
@click.option(
    "--side",
    type=click.Choice(["query", "target"]),
    help="Of a retriever: which of the two columns that it was fitted on.  [default: target]",
)
@chunk_option
@keep_option
@where_option
@mask_option
@click.option(
    "--empty",
    type=click.Choice(["raise", "missing"]),
    help="What the vector of a row without any of its modalities is: an error, where the method asks for "
    "at least one, or missing.  [default: raise]",
)
@network_option
@encoder_option
@root_option
@click.option(
    "--on-error",
    type=click.Choice(["raise", "missing"]),
    help="What an unreadable cell is: an error, or missing and listed.  [default: raise]",
)
@device_option
@engine_option
@workers_option
def embed(
    *, model: Path, table: Path | str, out: Path, chunk: int, keep: Sequence[str], engine: str,
    workers: int | None, **given: Any,
) -> None:  # fmt: skip
    """Write a vector for every row of TABLE, made by MODEL, a folder that fit made.

    It is what the head reads of all modalities together, or with --stream one modality's own; of a
    retriever the vector, of length 1, of the cell of one side. The file has the columns `row`, counted from
    0 in the whole TABLE, and `vector`: a table that fit takes. As with predict, a run that was broken off continues
    where it stopped.
    """
    from multiadapt.cli._chunks import Chunks
    from multiadapt.cli._identity import identity
    from multiadapt.cli._working import home_of, run
    from multiadapt.errors import SpecError

    if out.suffix.lower() != ".parquet":
        raise SpecError(f"--out must end in .parquet, vectors are no text; got {out.name!r}")
    given["root"] = given["root"] or home_of(table)
    job = _job(model, given)
    told = identity(model, table, {**given, "keep": keep, "chunk": chunk})
    run(job, Chunks(table, out, chunk, keep, told), engine, workers)


def _job(model: Path, given: Mapping[str, Any]) -> "Job":
    """UsageError: an option says nothing to a model of this kind."""
    from multiadapt.cli._working import Embedding, Finding

    rows = kind_of(model) is None
    idle = [name for name in (_OF_PAIRS if rows else _OF_ROWS) if given[name]]
    if idle:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        what = "of a model for the rows of tables" if rows else "of a retriever"
        raise click.UsageError(f"a vector {what} has no use for {options}")
    shared = {name: given[name] for name in _SHARED}
    if not rows:
        side = given["side"] or "target"
        return Finding(model=model, side=side, backbone=given["backbone"], **shared)
    own = {name: given[name] for name in ("stream", "mask")}
    own |= {name: given[name] or "raise" for name in ("empty", "on_error")}
    return Embedding(model=model, **shared, **own)
