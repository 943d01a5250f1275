"""multiadapt fit"""

from pathlib import Path
from typing import Any

import click

from multiadapt.cli._options import FOLDER, TABLE, Request, estimator_options

__all__ = ["fit"]


@click.command()
@click.argument("table", type=TABLE)
@click.option(
    "--method",
    metavar="NAME",
    help="What is trained; `multiadapt methods` lists them.  [default: ti-adapter, and uniadapter with "
    "--task retrieval]",
)
@estimator_options
@click.option("--val", type=TABLE, help="A table of rows to validate on.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="End training after this long.")
@click.option(
    "--resume",
    is_flag=True,
    help="Write OUT.resume.safetensors while training, and continue from it where it is there.",
)
@click.option("--out", type=FOLDER, help="Folder to save the model in.")
@click.option("--query", metavar="COLUMN", help="With --task retrieval: the column that asks.")
@click.option("--find", metavar="COLUMN", help="With --task retrieval: the column that is found.")
@click.option(
    "--backbone",
    metavar="SOURCE",
    help="With --task retrieval: a BLIP network; --encoder text=... --encoder image=... instead names "
    "an encoder for each side.",
)
def fit(
    *, method: str | None, val: Path | None, time_limit: float | None, resume: bool, out: Path | None,
    query: str | None, find: str | None, backbone: str | None, **given: Any,
) -> None:  # fmt: skip
    """Train on TABLE (CSV, Parquet or Arrow) and save what was trained.

    \b
    multiadapt fit houses/table.csv --label price_usd --method ti-adapter \\
        --encoder image=microsoft/resnet-50 --split-column split \\
        --set image.variant=bc1 --out runs/houses

    \b
    multiadapt fit photos/table.csv --task retrieval --query caption --find photo \\
        --method uniadapter --backbone Salesforce/blip-itm-base-coco --out runs/photos
    """
    request = Request(**given)
    if resume and out is None:
        raise click.UsageError("--resume needs --out: the file to continue from lies beside it")
    if request.task == "retrieval":
        from multiadapt.cli import _pairing

        _pairing.fit_retriever(
            request, method or "uniadapter", query=query, find=find, backbone=backbone, val=val,
            time_limit=time_limit, resume=resume, out=out,
        )  # fmt: skip
        return
    if query or find or backbone:
        raise click.UsageError("--query, --find and --backbone go with --task retrieval")
    request.need_label()
    from multiadapt.cli import _running

    _running.fit(
        request, method or "ti-adapter", val=val, time_limit=time_limit, resume=resume, out=out
    )
