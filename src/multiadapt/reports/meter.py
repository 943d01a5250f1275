"""What a piece of work costs: seconds and peak memory."""

import ctypes
import gc
import sys
import threading
import time
from types import TracebackType

import psutil
import torch

__all__ = ["Meter"]

_EVERY = 0.01  # seconds between looks at the memory


class Meter:
    """Seconds and peak memory of what runs inside its `with` block.

    Memory on a CPU is the process's peak above what it held on entry, seen every hundredth of a
    second; on a GPU the allocator's peak. A process keeps some freed memory and uses it again, so
    that work after other work may look a little smaller than it would alone.
    """

    seconds: float = 0.0
    peak_mb: float = 0.0
    """Million bytes."""

    def __init__(self, device: str | None = None) -> None:
        self._cuda = device.startswith("cuda") if device else torch.cuda.is_available()
        self._process = psutil.Process()
        self._over = threading.Event()
        self._peak = 0

    def __enter__(self) -> "Meter":
        _give_back()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._idle = self._peak = self._held()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.seconds = time.perf_counter() - self._started
        self._over.set()
        self._watch.join()
        peak = torch.cuda.max_memory_allocated() if self._cuda else self._peak - self._idle
        self.peak_mb = peak / 1e6

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            self._peak = max(self._peak, self._held())

    def _held(self) -> int:
        return self._process.memory_info().rss


def _give_back() -> None:
    """Free what earlier work left, as far as the allocator lets go of it."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
        if trim is not None:
            trim(0)
