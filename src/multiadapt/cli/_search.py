"""multiadapt index, search"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multiadapt.cli._options import (
    FOLDER,
    TABLE,
    device_option,
    encoder_option,
    json_option,
    network_option,
    root_option,
    where_option,
)

if TYPE_CHECKING:
    from multiadapt.retriever import CrossModalRetriever

__all__ = ["index", "search"]

side_option = click.option(
    "--side",
    type=click.Choice(["query", "target"]),
    default="target",
    show_default=True,
    help="Which of the two columns that the retriever was fitted on.",
)


@click.command()
@click.argument("model", type=TABLE)
@click.argument("table", type=TABLE)
@click.option("--out", type=FOLDER, required=True, help="Folder of the index.")
@click.option(
    "--id", "column", metavar="COLUMN", help="What rows are called.  [default: the cells]"
)
@click.option(
    "--kind",
    type=click.Choice(["exact", "hnsw", "ivf", "lance"]),
    default="exact",
    show_default=True,
    help="hnsw and ivf need FAISS, lance LanceDB.",
)
@side_option
@network_option
@encoder_option
@where_option
@root_option
@device_option
def index(
    *, model: Path, table: Path, out: Path, column: str | None, kind: str, side: str, where: str | None,
    root: Path | None, **opening: Any,
) -> None:  # fmt: skip
    """Put the cells of TABLE into an index that `multiadapt search` looks through.

    Each distinct cell is kept once, under its own text. With --id each distinct pair of a name and a
    cell is kept, and no name may stand for two cells.
    """
    from multiadapt.data.tables import read_table
    from multiadapt.gather import check_columns

    retriever = _opened(model, opening)
    rows = read_table(table, where=where, root=root)
    if column is not None:
        check_columns(rows.frame, {column: "id"})
    ids = None if column is None else rows.frame[column].tolist()
    made = retriever.index(rows.frame, ids, side=side, kind=kind, root=rows.root)
    made.save(out)
    click.echo(f"{len(made)} vectors in {out}", err=True)


@click.command()
@click.argument("model", type=TABLE)
@click.argument("index", type=FOLDER)
@click.argument("query")
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option(
    "--by",
    type=click.Choice(["query", "target"]),
    default="query",
    show_default=True,
    help="What QUERY is: a cell of the column that asks, or of the one that is found.",
)
@click.option(
    "--rerank",
    type=click.IntRange(0),
    help="So many of the nearest are read again and told apart, 0: none.  [default: 32 where the network "
    "can]",
)
@network_option
@encoder_option
@click.option(
    "--root",
    type=FOLDER,
    help="Folder that the files of INDEX lie in now, where they are read again and have moved.",
)
@device_option
@json_option
def search(
    *, model: Path, index: Path, query: str, k: int, by: str, rerank: int | None, root: Path | None,
    as_json: bool, **opening: Any,
) -> None:  # fmt: skip
    """Find the K cells of INDEX that are nearest to QUERY, a sentence or the path of a file."""
    from multiadapt.cli._output import show_json, show_table

    retriever = _opened(model, opening)
    known = retriever.open_index(index, root=root)
    found = retriever.search(known, query, k, side=by, rerank=rerank)
    if as_json:
        show_json({"found": found.to_dict("records")})  # type: ignore[union-attr]
    else:
        show_table(found)  # type: ignore[arg-type]


def _opened(model: Path, opening: Mapping[str, Any]) -> "CrossModalRetriever":
    from multiadapt.cli._opening import moved
    from multiadapt.retriever import CrossModalRetriever

    place = moved(opening["backbone"], opening["encoder"])
    return CrossModalRetriever.load(model, backbone=place, device=opening["device"])
