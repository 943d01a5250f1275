"""multiadapt answer, caption"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from multiadapt.cli._options import (
    TABLE,
    chunk_option,
    device_option,
    encoder_option,
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
            help="beam: texts that are written side by side.  [default: 3]",
        ),
        click.option(
            "--top-p",
            type=float,
            help="nucleus: each token is drawn among the likeliest that make up this share.  "
            "[default: 0.9]",
        ),
        click.option(
            "--max-length",
            type=click.IntRange(1),
            help=f"beam and nucleus: most tokens that are written.  [default: {length}]",
        ),
        click.option("--seed", type=int, help="nucleus: of draws.  [default: 0]"),
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
@click.argument("source", metavar="TABLE|PICTURE|CLIP", type=TABLE)
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
    help="rank: so many answers with the likeliest first tokens are compared whole.  [default: 128]",
)
@_with(*_shared(10), encoder_option)
def answer(*, model: Path, source: Path, question: str | None, **given: Any) -> None:
    """Answer the questions of a TABLE, or one QUESTION about a PICTURE or CLIP, with the answerer MODEL.

    \b
    multiadapt answer runs/answers shop/new.csv --out answers.csv
    multiadapt answer runs/answers photo.jpg "what colour is it?"
    multiadapt answer runs/film-answers film.mp4 "who sings?"
    """
    table = _is_table(source)
    if table and question is not None:
        raise click.UsageError(f"{source} is a table, whose questions stand in a column")
    if not table and not question:
        raise click.UsageError(f"{source} is a picture or clip: ask a QUESTION about it, in quotes")
    _say("answering", model, source, given, question)


@click.command()
@click.argument("model", type=TABLE)
@click.argument("source", metavar="TABLE|PICTURE|CLIP", type=TABLE)
@click.option(
    "--how",
    type=click.Choice(["beam", "nucleus"]),
    default="beam",
    show_default=True,
    help="beam keeps the likeliest of several, nucleus draws.",
)
@_with(*_shared(30))
def caption(*, model: Path, source: Path, **given: Any) -> None:
    """Caption the pictures or clips of a TABLE, or a single PICTURE or CLIP, with the captioner MODEL.

    \b
    multiadapt caption runs/captions photos/new.csv --out captions.csv
    multiadapt caption runs/captions photo.jpg
    """
    _say("captioning", model, source, given, None)


_OF_TABLES = ("out", "keep", "chunk", "root")
_USED = {
    "rank": ("k",),
    "beam": ("beams", "max_length"),
    "nucleus": ("top_p", "max_length", "seed"),
}
"""By way of saying, the options that it reads."""
_OTHER_TABLES = (".json", ".jsonl", ".ndjson", ".tsv", ".xlsx")
"""Not read, and no pictures or clips either."""


def _say(kind: str, model: Path, source: Path, given: dict[str, Any], question: str | None) -> None:
    """Write what is said of every row of a table, or print what is said of one picture or clip."""
    of_table = {name: given.pop(name) for name in _OF_TABLES}
    table = _is_table(source)
    if table and of_table["out"] is None:
        raise click.UsageError("Missing option '--out': what is said of a table goes to a file")
    if not table:
        _check_picture(source, of_table)
    opening = {name: given.pop(name, {}) for name in ("backbone", "encoder", "device")}
    how = {name: value for name, value in given.items() if value is not None}
    if "how" in how:
        _check_used(how["how"], how)
    if table:
        _write(kind, model, source, opening, of_table, how)
        return
    estimator = _opened(kind, model, opening, how)
    frame = _one(estimator, source, question)
    click.echo(estimator.predict(frame, root=source.parent, **how).iloc[0])


def _opened(kind: str, model: Path, opening: Mapping[str, Any], how: Mapping[str, Any]) -> Any:
    from multiadapt.cli._opening import face, moved

    place = moved(opening["backbone"], opening["encoder"])
    estimator = face(kind).load(model, backbone=place, device=opening["device"])
    if "how" not in how:
        listed = estimator.fitted_.plan.answers is not None
        _check_used("rank" if listed else "beam", how)
    return estimator


def _check_used(way: str, how: Mapping[str, Any]) -> None:
    """UsageError: an option would have no effect on what is said this way."""
    idle = [name for name in how if name not in ("how", *_USED[way])]
    if idle:
        told, takes = (
            " and ".join(f"--{n.replace('_', '-')}" for n in names) for names in (idle, _USED[way])
        )
        given = "" if "how" in how else ", the default of this model,"
        raise click.UsageError(f"--how {way}{given} has no use for {told}: it takes {takes}")


def _check_picture(source: Path, of_table: Mapping[str, Any]) -> None:
    """Every option is used, or refused."""
    idle = [f"--{name}" for name in ("out", "keep", "root") if of_table[name]]
    if idle:
        raise click.UsageError(
            f"{source} is a picture or clip: {' and '.join(idle)} goes with a table"
        )


def _is_table(source: Path) -> bool:
    """UsageError: it is a table that cannot be read, or a picture or clip that is not there."""
    from multiadapt.data.tables import SUFFIXES

    suffix = source.suffix.lower()
    if suffix in _OTHER_TABLES:
        known = ", ".join(SUFFIXES)
        raise click.UsageError(f"{source}: a table must be one of {known}, got {suffix!r}")
    if suffix not in SUFFIXES and not source.exists():  # a clip may be a folder of frames
        raise click.UsageError(f"there is no picture or clip {source}: correct the path")
    return suffix in SUFFIXES


def _write(
    kind: str, model: Path, source: Path, opening: Mapping[str, Any], of_table: Mapping[str, Any],
    how: Mapping[str, Any],
) -> None:  # fmt: skip
    from multiadapt.cli._chunks import Chunks, Found
    from multiadapt.cli._identity import identity
    from multiadapt.data.table_writer import check_results

    check_results(of_table["out"])
    root = of_table["root"] or source.parent
    options = {**of_table, **opening, **how, "root": root, "out": None}
    told = identity(model, source, options)
    with Chunks(source, of_table["out"], of_table["chunk"], of_table["keep"], told) as chunks:
        estimator = _opened(kind, model, opening, how)
        for rows, start in chunks:
            # Each part draws its own numbers; those of a part are the same again.
            drawn = {**how, "seed": how.get("seed", 0) + start}
            said = estimator.predict(rows, root=root, **drawn).to_numpy()
            chunks.write(Found({"prediction": said}))


def _one(estimator: Any, source: Path, question: str | None) -> "pd.DataFrame":
    import pandas as pd

    plan = estimator.fitted_.plan
    # In a list the name is one file, whatever it holds: in text a ; stands between two.
    cells: dict[str, list[Any]] = {plan.shown: [[source.name]]}
    cells |= {} if question is None else {plan.question: [question]}
    return pd.DataFrame(cells)
