"""Where a fit is saved, and the file that it continues from."""

from pathlib import Path
from typing import Any

import click

from multiadapt import processes
from multiadapt.folders import check_place

__all__ = ["begin", "finish"]


def begin(out: Path | None, *, resume: bool) -> Path | None:
    """The file to continue from, where one is asked for. ArtifactError: `out` holds something else."""
    if out is None:
        click.echo("this model is not saved: name a folder with --out to keep it", err=True)
        return None
    check_place(out)
    return out.with_name(f"{out.name}.resume.safetensors") if resume else None


def finish(model: Any, out: Path | None, file: Path | None) -> None:
    """Save a fitted estimator; of a run that has come to its end there is nothing to continue."""
    if out is None:
        return
    with processes.together(), processes.agreed():  # nobody ends before it is written
        model.save(out)
    click.echo(f"saved in {out}", err=True)
    ended = model.fitted_.info["history"]["stopped"] not in ("interrupt", "time_limit")
    if file is not None and ended:
        file.unlink(missing_ok=True)
