"""multiadapt fit"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click

from multiadapt.cli._options import FOLDER, TABLE, Request, estimator_options

__all__ = ["fit"]

_COLUMNS = {
    "retrieval": {"query": "query", "target": "find"},
    "answering": {"image": "image", "question": "question", "answer": "answer"},
    "captioning": {"image": "image", "caption": "caption"},
}
"""By task, its estimator's roles of columns and the options that name them. "video" stands in for "image"."""
_TASKS = {
    "query": ("retrieval",),
    "find": ("retrieval",),
    "image": ("answering", "captioning"),
    "video": ("answering", "captioning"),
    "question": ("answering",),
    "answer": ("answering",),
    "caption": ("captioning",),
    "backbone": ("retrieval", "answering", "captioning"),
    "init_from": ("answering", "captioning"),
    "base": ("answering", "captioning"),
}
"""By option, the tasks that it goes with."""


@click.command()
@click.argument("table", type=TABLE)
@click.option(
    "--method",
    metavar="NAME",
    help="What is trained; `multiadapt methods` lists them.  [default: ti-adapter, and uniadapter with "
    "--task retrieval, answering and captioning]",
)
@estimator_options
@click.option("--val", type=TABLE, help="A table of rows to validate on.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="End training after this long.")
@click.option(
    "--resume",
    is_flag=True,
    help="Write OUT.resume.safetensors while training, and continue from it where it is there.",
)
@click.option("--profile", is_flag=True, help="Tell where the time went.")
@click.option("--out", type=FOLDER, help="Folder to save the model in.")
@click.option("--query", metavar="COLUMN", help="With --task retrieval: the column that asks.")
@click.option("--find", metavar="COLUMN", help="With --task retrieval: the column that is found.")
@click.option(
    "--image", metavar="COLUMN", help="With --task answering or captioning: the pictures."
)
@click.option(
    "--video",
    metavar="COLUMN",
    help="With --task answering or captioning, in place of --image: the clips.",
)
@click.option("--question", metavar="COLUMN", help="With --task answering: what is asked.")
@click.option(
    "--answer",
    metavar="COLUMN",
    help="With --task answering: what is answered; several people's answers with ; between them.",
)
@click.option("--caption", metavar="COLUMN", help="With --task captioning: what is written.")
@click.option(
    "--backbone",
    metavar="SOURCE",
    help="With --task retrieval, answering or captioning: one network for both sides, BLIP or, for the "
    "first two, CLIP or SigLIP; starter is the small one inside the package. --encoder text=... --encoder image=... instead names one for each side.",
)
@click.option(
    "--init-from",
    type=FOLDER,
    help="With --task answering or captioning: a saved model of another task on the same network, whose "
    "adapters training begins from.",
)
@click.option(
    "--base",
    type=click.Choice(["same", "other"]),
    help="With --init-from; other: take over also what was trained on other base weights.",
)
def fit(
    *, method: str | None, val: Path | None, time_limit: float | None, resume: bool, profile: bool,
    out: Path | None, **given: Any,
) -> None:  # fmt: skip
    """Train on TABLE (CSV, Parquet or Arrow) and save what was trained.

    \b
    multiadapt fit houses/table.csv --label price_usd --method ti-adapter \\
        --encoder image=microsoft/resnet-50 --split-column split \\
        --set image.variant=bc1 --out runs/houses

    \b
    multiadapt fit photos/table.csv --task retrieval --query caption --find photo \\
        --method uniadapter --backbone Salesforce/blip-itm-base-coco --out runs/photos

    \b
    multiadapt fit shop/questions.csv --task answering --image photo --question question \\
        --answer answer --out runs/answers
    """
    own = {name: given.pop(name) for name in _TASKS}
    request = Request(**given)
    if resume and out is None:
        raise click.UsageError("--resume needs --out: the file to continue from lies beside it")
    columns = _columns(request.task, own)
    click.get_current_context().with_resource(_main_speaks())
    if columns:
        from multiadapt.cli import _pairing

        told = _pairing.Pairing(
            columns, own["backbone"], val, time_limit, profile, own["init_from"], own["base"]
        )
        _pairing.fit(request, method or "uniadapter", told, resume=resume, out=out)
        return
    request.need_label()
    from multiadapt.cli import _running

    _running.fit(
        request, method or "ti-adapter", val=val, time_limit=time_limit, resume=resume,
        profile=profile, out=out,
    )  # fmt: skip


@contextmanager
def _main_speaks() -> Iterator[None]:
    """Inside, of several processes that train together only the main one prints."""
    from multiadapt.processes import main

    if main():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _columns(task: str, own: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a task that has roles for them; empty: it has a label. Every option is used, or refused."""
    for name, tasks in _TASKS.items():
        if own[name] is not None and task not in tasks:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} goes with --task {' or '.join(tasks)}")
    if own["base"] is not None and own["init_from"] is None:
        raise click.UsageError("--base goes with --init-from")
    roles = _COLUMNS.get(task, {})
    if own["video"] is not None:
        if own["image"] is not None:
            raise click.UsageError("--image names pictures and --video clips: give one of them")
        roles = {"video": "video", **{r: o for r, o in roles.items() if r != "image"}}
    if not all(own[option] for option in roles.values()):
        *most, last = [f"--{option}" for option in roles.values()]
        clips = "; --video in place of --image names clips" if "image" in roles else ""
        raise click.UsageError(
            f"--task {task} reads columns with roles: name them with {', '.join(most)} and {last}{clips}"
        )
    return {role: own[option] for role, option in roles.items()}
