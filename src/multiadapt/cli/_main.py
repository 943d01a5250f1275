"""The group of commands, and how errors reach the person at the terminal."""

import warnings
from typing import Any

import click

from multiadapt import __version__
from multiadapt.cli._compare import compare
from multiadapt.cli._evaluate import evaluate
from multiadapt.cli._fit import fit
from multiadapt.cli._inspect import inspect
from multiadapt.cli._methods import methods
from multiadapt.cli._predict import predict
from multiadapt.errors import MultiadaptError

__all__ = ["main"]


class _Failure(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Every error raised on purpose becomes its text on standard error and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except MultiadaptError as error:
                raise _Failure(str(error)) from error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


@click.group(
    cls=_Commands,
    commands=[fit, predict, evaluate, compare, inspect, methods],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Adapt frozen pretrained encoders to a table with numbers, categories and pictures.

    Results go to standard output, everything said on the way to standard error. Exit code 2 means
    that the call or the data must be corrected; the text says how.
    """
