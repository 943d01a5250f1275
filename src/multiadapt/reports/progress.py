"""What a person sees while a model trains: log lines, and on a terminal a bar."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from multiadapt import processes
from multiadapt.training import Event

__all__ = ["showing"]


@contextmanager
def showing(*, verbose: bool) -> Iterator[Callable[[Event], None]]:
    """Inside, multiadapt's log lines reach standard error; yields what a run tells its events to.

    The bar appears only where standard error is a terminal. Handlers that the program has set on
    the logger are left alone and nothing is added to them. Of several processes the main one alone speaks.
    """
    if not processes.main():
        with _silent():
            yield lambda event: None
        return
    if not verbose:
        yield lambda event: None
        return
    console = Console(stderr=True)
    with _speaking(console):
        if not sys.stderr.isatty():
            yield lambda event: None
            return
        with _bar(console) as bar:
            yield _Display(bar).show


@contextmanager
def _speaking(console: Console) -> Iterator[None]:
    log = logging.getLogger("multiadapt")
    if log.handlers or log.level:
        yield
        return
    handler: logging.Handler = logging.StreamHandler(
        sys.stderr
    )  # a log file wants no wrapped lines
    if console.is_terminal:
        handler = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


@contextmanager
def _silent() -> Iterator[None]:
    log = logging.getLogger("multiadapt")
    handlers, propagates = log.handlers, log.propagate
    log.handlers, log.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        log.handlers, log.propagate = handlers, propagates


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


class _Display:
    """One bar over all epochs; early stopping ends it before it is full."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("training", total=None, text="")
        self.best = ""

    def show(self, event: Event) -> None:
        done = (event.epoch - 1) * event.of + event.rows
        if event.validation is not None:
            metric = "" if event.metric is None else f" metric {event.metric:.4f}"
            self.best = f" | validation loss {event.validation:.4f}{metric}"
        rate = done / max(event.seconds, 1e-9)
        self.bar.update(
            self.task,
            description=f"epoch {event.epoch}/{event.epochs}",
            completed=done,
            total=event.epochs * event.of,
            text=f"loss {event.loss:.4f}{self.best} | {rate:,.0f} rows/s",
        )
