"""multiadapt inspect"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from multiadapt.cli._options import (
    TABLE,
    encoder_option,
    json_option,
    network_option,
    set_option,
)

__all__ = ["inspect"]


@click.command()
@click.argument("model", type=TABLE, required=False)
@click.option("--method", metavar="NAME", help="Count what this method would train, without data.")
@encoder_option
@network_option
@set_option
@click.option(
    "--tabular-width",
    type=click.IntRange(1),
    help="Width of the tabular embedding to count with; without it there is no table.",
)
@click.option("--outputs", type=click.IntRange(1), help="Outputs of the head.  [default: 1]")
@json_option
def inspect(
    *,
    model: Path | None,
    method: str | None,
    encoder: Mapping[str, str],
    backbone: str | None,
    changes: Mapping[str, Any],
    tabular_width: int | None,
    outputs: int | None,
    as_json: bool,
) -> None:
    """Show a saved MODEL, or count the parameters of a --method that nobody has fitted.

    \b
    multiadapt inspect runs/houses
    multiadapt inspect --method ti-adapter --set image.variant=bc2 \\
        --encoder image=random:resnet-50 --tabular-width 4096 --outputs 1
    """
    if (model is None) == (method is None):
        raise click.UsageError("give either a MODEL folder or a --method")
    from multiadapt.cli import _inspecting

    if model is not None:
        if changes or tabular_width or outputs:
            raise click.UsageError(
                "--set, --tabular-width and --outputs go with --method, not with a MODEL"
            )
        found = _inspecting.saved(model, encoder, backbone)
    elif backbone is not None:
        raise click.UsageError("--backbone goes with a saved MODEL; --encoder names what to count")
    else:
        found = _inspecting.counted(str(method), encoder, changes, tabular_width, outputs or 1)
    _inspecting.show(found, as_json=as_json)
