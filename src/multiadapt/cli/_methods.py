"""multiadapt methods"""

import click

from multiadapt.cli._options import json_option

__all__ = ["methods"]


@click.command()
@click.argument("name", required=False)
@json_option
def methods(*, name: str | None, as_json: bool) -> None:
    """List the methods, or the options of the method NAME with their defaults."""
    from multiadapt.cli import _documentation
    from multiadapt.cli._output import show_json

    if name is None:
        found = _documentation.methods()
        if as_json:
            show_json(found)
            return
        width = max(map(len, found))
        for method, line in found.items():
            click.echo(f"{method:<{width}}  {line}")
        return
    options = _documentation.options(name)
    if as_json:
        show_json(
            {o.path: {"default": o.default, "type": o.type, "about": o.about} for o in options}
        )
        return
    click.echo("\n".join(_documentation.lines(name, options)))
