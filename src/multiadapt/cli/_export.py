"""multiadapt export"""

from pathlib import Path

import click

from multiadapt.cli._options import FOLDER, TABLE, device_option, encoder_option

__all__ = ["export"]


@click.command()
@click.argument("model", type=TABLE)
@click.option("--out", type=FOLDER, required=True, help="A new or an empty folder.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["peft"]),
    default="peft",
    show_default=True,
    help="peft: a folder for each adapted network, which peft.PeftModel.from_pretrained opens.",
)
@encoder_option
@device_option
def export(
    *, model: Path, out: Path, form: str, encoder: dict[str, str], device: str | None
) -> None:
    """Write the adapters of MODEL, a folder that fit made, as files that other libraries open.

    LoRA and IA3 inside pretrained networks are written; README.md in the folder says what else was
    trained and is not in the files.
    """
    from multiadapt.estimators import load

    places = load(model, encoders=encoder, device=device).export_peft(out)
    for stream, place in places.items():
        click.echo(f"{stream}: {place}")
