"""Jobs that workers of Ray are given in tests: they know which worker did a part, and may die of one."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from multiadapt.cli._chunks import Found
from multiadapt.cli._working import Job, Work

__all__ = ["Watched"]


@dataclass(frozen=True)
class Watched(Job):
    """Another job, beside whose columns the worker stands; the first that meets the row `dies_at` dies, or
    with `always` each that does."""

    job: Job
    notes: Path
    """Folder in which each opening of the job leaves a file, and a death."""
    dies_at: int | None = None
    always: bool = False
    device: str | None = "cpu"
    where: str | None = None

    @contextmanager
    def opened(self) -> Iterator[Work]:
        with self.job.opened() as work:
            (self.notes / f"opened-{os.getpid()}").touch(exist_ok=False)

            def part(rows: pd.DataFrame, start: int) -> Found:
                if self.dies_at in range(start, start + len(rows)) and (
                    self.always or not self._dead()
                ):
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.3)  # so that no worker does it all
                found = work(rows, start)
                return replace(
                    found, columns={**found.columns, "worker": [os.getpid()] * len(rows)}
                )

            yield part

    def _dead(self) -> bool:
        """Whether one has died before; if not, one will have."""
        try:
            (self.notes / "died").touch(exist_ok=False)
        except FileExistsError:
            return True
        return False
