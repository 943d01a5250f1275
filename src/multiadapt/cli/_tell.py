"""multiadapt answer, caption"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from multiadapt.cli._options import (
    TABLE,
    chunk_option,
    device_option,
    keep_option,
    network_option,
    root_option,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["answer", "caption"]

F = TypeVar("F", bound=Callable[..., Any])


def _shared(length: int) -> tuple[Any, ...]:
    """Options of both commands."""
    return (
        click.option("--out", type=TABLE, help="Of a table: a .csv, .parquet or .jsonl file."),
        keep_option,
        chunk_option,
        click.option(
            "--beams",
            type=click.IntRange(1),
            default=3,
            show_default=True,
            help="beam: texts that are written side by side.",
        ),
        click.option(
            "--top-p",
            type=float,
            default=0.9,
            show_default=True,
            help="nucleus: each token is drawn among the likeliest that make up this share.",
        ),
        click.option(
            "--max-length",
            type=click.IntRange(1),
            default=length,
            show_default=True,
            help="Most tokens that are written.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="nucleus: of draws."),
        network_option,
        root_option,
        device_option,
    )


def _with(*options: Any) -> Callable[[F], F]:
    def apply(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


@click.command()
@click.argument("model", type=TABLE)
@click.argument("source", metavar="TABLE|PICTURE", type=TABLE)
@click.argument("question", required=False)
@click.option(
    "--how",
    type=click.Choice(["rank", "beam", "nucleus"]),
    help="rank takes the likeliest of the answer list, beam and nucleus write.  [default: rank where there "
    "is a list]",
)
@click.option(
    "--k",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="rank: so many answers with the likeliest first tokens are compared whole.",
)
@_with(*_shared(10))
def answer(*, model: Path, source: Path, question: str | None, **given: Any) -> None:
    """Answer the questions of a TABLE, or one QUESTION about a PICTURE, with the answerer MODEL.

    \b
    multiadapt answer runs/answers shop/new.csv --out answers.csv
    multiadapt answer runs/answers photo.jpg "what colour is it?"
    """
    table = _is_table(source)
    if table and question is not None:
        raise click.UsageError(f"{source} is a table, whose questions stand in a column")
    if not table and not question:
        raise click.UsageError(f"{source} is a picture: ask a QUESTION about it, in quotes")
    _say("answering", model, source, given, question)


@click.command()
@click.argument("model", type=TABLE)
@click.argument("source", metavar="TABLE|PICTURE", type=TABLE)
@click.option(
    "--how",
    type=click.Choice(["beam", "nucleus"]),
    default="beam",
    show_default=True,
    help="beam keeps the likeliest of several, nucleus draws.",
)
@_with(*_shared(30))
def caption(*, model: Path, source: Path, **given: Any) -> None:
    """Caption the pictures of a TABLE, or a single PICTURE, with the captioner MODEL.

    \b
    multiadapt caption runs/captions photos/new.csv --out captions.csv
    multiadapt caption runs/captions photo.jpg
    """
    _say("captioning", model, source, given, None)


_OF_TABLES = ("out", "keep", "chunk", "root")
_OTHER_TABLES = (".json", ".jsonl", ".ndjson", ".tsv", ".xlsx")
"""Not read, and no pictures either."""


def _say(kind: str, model: Path, source: Path, given: dict[str, Any], question: str | None) -> None:
    """Write what is said of every row of a table, or print what is said of one picture."""
    of_table = {name: given.pop(name) for name in _OF_TABLES}
    table = _is_table(source)
    if table and of_table["out"] is None:
        raise click.UsageError("Missing option '--out': what is said of a table goes to a file")
    if not table:
        _check_picture(source, of_table)
    opening = {name: given.pop(name) for name in ("backbone", "device")}
    if table:
        _write(kind, model, source, opening, of_table, given)
        return
    from multiadapt.cli._opening import face

    estimator = face(kind).load(model, **opening)
    frame = _one(estimator, source, question)
    click.echo(estimator.predict(frame, root=source.parent, **given).iloc[0])


def _check_picture(source: Path, of_table: Mapping[str, Any]) -> None:
    """Every option is used, or refused."""
    idle = [f"--{name}" for name in ("out", "keep", "root") if of_table[name]]
    if idle:
        raise click.UsageError(f"{source} is a picture: {' and '.join(idle)} goes with a table")


def _is_table(source: Path) -> bool:
    """UsageError: it is a table that cannot be read, or a picture that is not there."""
    from multiadapt.data.tables import SUFFIXES

    suffix = source.suffix.lower()
    if suffix in _OTHER_TABLES:
        known = ", ".join(SUFFIXES)
        raise click.UsageError(f"{source}: a table must be one of {known}, got {suffix!r}")
    if suffix not in SUFFIXES and not source.is_file():
        raise click.UsageError(f"there is no picture {source}: correct the path")
    return suffix in SUFFIXES


def _write(
    kind: str, model: Path, source: Path, opening: Mapping[str, Any], of_table: Mapping[str, Any],
    how: Mapping[str, Any],
) -> None:  # fmt: skip
    from multiadapt.cli._chunks import Chunks
    from multiadapt.cli._opening import face

    root = of_table["root"] or source.parent
    with Chunks(source, of_table["out"], of_table["chunk"], of_table["keep"]) as chunks:
        estimator = face(kind).load(model, **opening)
        for rows, start in chunks:
            # Each part draws its own numbers; those of a part are the same again.
            drawn = {**how, "seed": how["seed"] + start}
            chunks.write({"prediction": estimator.predict(rows, root=root, **drawn).to_numpy()})


def _one(estimator: Any, source: Path, question: str | None) -> "pd.DataFrame":
    import pandas as pd

    plan = estimator.fitted_.plan
    # In a list the name is one file, whatever it holds: in text a ; stands between two.
    cells: dict[str, list[Any]] = {plan.image: [[source.name]]}
    cells |= {} if question is None else {plan.question: [question]}
    return pd.DataFrame(cells)
