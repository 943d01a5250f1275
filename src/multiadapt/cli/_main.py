"""The group of commands, and how errors reach the person at the terminal."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import click

from multiadapt import __version__
from multiadapt.cli._cache import cache
from multiadapt.cli._compare import compare
from multiadapt.cli._embed import embed
from multiadapt.cli._evaluate import evaluate
from multiadapt.cli._export import export
from multiadapt.cli._fit import fit
from multiadapt.cli._inspect import inspect
from multiadapt.cli._mask import mask
from multiadapt.cli._methods import methods
from multiadapt.cli._predict import predict
from multiadapt.cli._remedy import in_shell
from multiadapt.cli._search import index, search
from multiadapt.cli._tell import answer, caption
from multiadapt.errors import MultiadaptError

__all__ = ["main"]


class _Failure(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Every error raised on purpose becomes its text on standard error and exit code 2.

    Errors, warnings and log lines that name keyword arguments also name the options.
    """

    def invoke(self, ctx: click.Context) -> Any:
        def hint(text: str) -> str:
            return in_shell(text, self.commands[str(ctx.invoked_subcommand)], self.commands["fit"])

        log, told = logging.getLogger("multiadapt"), _Told(hint)
        log.addFilter(told)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: click.echo(
                    f"Warning: {_with(str(message), hint)}", err=True
                )
                return super().invoke(ctx)
        except MultiadaptError as error:
            raise _Failure(_with(str(error), hint)) from error
        finally:
            log.removeFilter(told)


class _Told(logging.Filter):
    def __init__(self, hint: Callable[[str], str]) -> None:
        super().__init__()
        self.hint = hint

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _with(record.getMessage(), self.hint), None
        return True


def _with(text: str, hint: Callable[[str], str]) -> str:
    """The text and its options: after a single line in brackets, else below."""
    found = hint(text)
    if not found:
        return text
    return f"{text}\nIn the shell: {found}" if "\n" in text else f"{text} (in the shell: {found})"


@click.group(
    cls=_Commands,
    commands=[
        fit,
        predict,
        evaluate,
        compare,
        mask,
        inspect,
        export,
        methods,
        cache,
        embed,
        index,
        search,
        answer,
        caption,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Adapt frozen pretrained encoders to a table with numbers, categories, texts and files.

    Results go to standard output, everything said on the way to standard error. Exit code 2 means
    that the call or the data must be corrected; the text says how.
    """
