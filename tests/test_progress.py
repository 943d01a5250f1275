"""What a person sees while a model trains."""

import io
import logging

from rich.console import Console

from multiadapt.reports.progress import _bar, _Display, showing
from multiadapt.training import Event


def test_bar_shows_loss_metric_rate_and_time_left() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=160, record=True)
    with _bar(screen) as bar:
        display = _Display(bar)
        display.show(Event(1, 4, 100, 100, 0.5, 2.0, validation=0.75, metric=0.625))
        display.show(Event(2, 4, 50, 100, 0.25, 3.0))
        bar.refresh()
        task = bar.tasks[0]
        assert (task.completed, task.total) == (150, 400)
        assert task.description == "epoch 2/4"
        text = task.fields["text"]
    assert text == "loss 0.2500 | validation loss 0.7500 metric 0.6250 | 50 rows/s"
    assert {"TimeElapsedColumn", "TimeRemainingColumn"} <= {type(c).__name__ for c in bar.columns}


def test_quiet_says_nothing(capfd) -> None:
    with showing(verbose=False) as tell:
        logging.getLogger("multiadapt").info("column size: numeric")
        tell(Event(1, 1, 1, 1, 0.5, 1.0))
    assert capfd.readouterr() == ("", "")


def test_without_a_terminal_there_are_lines_and_no_bar(capfd) -> None:
    line = "column size: numeric " + "x" * 200
    with showing(verbose=True) as tell:
        logging.getLogger("multiadapt").info(line)
        tell(Event(1, 1, 1, 1, 0.5, 1.0))
    assert capfd.readouterr().err == line + "\n"
    assert not logging.getLogger("multiadapt").handlers


def test_a_programs_own_handlers_are_left_alone(capfd) -> None:
    log, handler = logging.getLogger("multiadapt"), logging.NullHandler()
    log.addHandler(handler)
    try:
        with showing(verbose=True):
            log.info("to the program's own handler")
            assert log.handlers == [handler]
    finally:
        log.removeHandler(handler)
    assert capfd.readouterr().err == ""
