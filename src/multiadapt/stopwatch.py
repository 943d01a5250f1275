"""Where the time of a fit goes: parts of the training thread, one at a time, and work in threads beside it."""

import copy
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from multiadapt.types import Tokens

__all__ = ["OTHER", "Lap", "NoWatch", "Stopwatch", "Watch", "watching"]

OTHER = "other"
"""The part of the training thread that no other one is."""
_WHOLE = ("validation",)
"""Parts that are not told apart further, and whose work beside the training thread is not told."""
_COUNTING = "counting"
_FORWARD, _BACKWARD = "adapters forward", "adapters backward"
_HEAD, _HEAD_BACKWARD = "head forward", "head backward"


@runtime_checkable  # so that annotations can be checked
class _Network(Protocol):
    """A module whose encoders are told apart from what joins and reads them."""

    encoders: Any

    def parameters(self) -> Iterator[nn.Parameter]: ...


class Watch(ABC):
    """Told what a fit is doing."""

    measures: bool
    """Whether anybody will look."""

    @abstractmethod
    def stage(self, name: str, rows: int = 0) -> AbstractContextManager[Any]:
        """Inside, time counts: an epoch, or what comes before; `rows` are those of it that no batch has."""

    @abstractmethod
    def part(self, name: str) -> AbstractContextManager[Any]:
        """Of the training thread; time in a part inside another one is the inner one's alone."""

    @abstractmethod
    def beside(self, name: str) -> AbstractContextManager[Any]:
        """Work in a thread of its own."""

    @abstractmethod
    def batch(self, rows: int, model: _Network, loss: Callable[[Any], Tensor]) -> None:
        """A batch of so many rows begins, whose loss `loss` computes with a model."""

    @abstractmethod
    def forward(self, model: _Network) -> AbstractContextManager[Any]:
        """Inside, a loss is computed."""

    @abstractmethod
    def backward(self) -> AbstractContextManager[Any]:
        """Inside, gradients of the last loss are."""


class NoWatch(Watch):
    """Nobody looks, and nothing is measured."""

    measures = False
    _nothing = nullcontext()

    def stage(self, name: str, rows: int = 0) -> AbstractContextManager[Any]:
        return self._nothing

    def part(self, name: str) -> AbstractContextManager[Any]:
        return self._nothing

    def beside(self, name: str) -> AbstractContextManager[Any]:
        return self._nothing

    def batch(self, rows: int, model: _Network, loss: Callable[[Any], Tensor]) -> None:
        pass

    def forward(self, model: _Network) -> AbstractContextManager[Any]:
        return self._nothing

    def backward(self) -> AbstractContextManager[Any]:
        return self._nothing


@dataclass
class Lap:
    """What one stage took."""

    stage: str
    rows: int = 0
    batches: int = 0
    parts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of the training thread; together they are all of it."""
    beside: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Summed over threads, which run at the same time."""


class Stopwatch(Watch):
    """Keeps a lap of every stage. All but `beside` is called from one thread."""

    measures = True

    def __init__(self, clock: Callable[[], float]) -> None:
        self.laps: list[Lap] = []
        self.operations: dict[str, float] | None = None
        """By part, floating-point operations for a row, counted on the first batch; None: there was none."""
        self._clock = clock
        self._lap: Lap | None = None
        self._parts = [OTHER]
        self._since = clock()
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str, rows: int = 0) -> Iterator[None]:
        self._tick()
        self._lap = Lap(name, rows)
        try:
            yield
        finally:
            self._tick()
            self._lap.parts.pop(_COUNTING, None)
            self.laps.append(self._lap)
            self._lap = None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        depth = len(self._parts)
        self._begin(name)
        try:
            yield
        finally:  # whatever was broken off inside
            self._tick()
            del self._parts[depth:]

    @contextmanager
    def beside(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                if self._lap is not None and self._parts[-1] not in _WHOLE:
                    self._lap.beside[name] += time.perf_counter() - started

    def batch(self, rows: int, model: _Network, loss: Callable[[Any], Tensor]) -> None:
        if self._lap is not None:
            self._lap.rows += rows
            self._lap.batches += 1
        if self.operations is None:
            with self.part(_COUNTING):
                counted = _operations(model, loss)
            self.operations = {part: n / max(rows, 1) for part, n in counted.items() if n}

    @contextmanager
    def forward(self, model: _Network) -> Iterator[None]:
        handles = [e.register_forward_pre_hook(self._entered) for e in model.encoders]
        handles += [e.register_forward_hook(self._left) for e in model.encoders]
        try:
            with self.part(_HEAD):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def backward(self) -> AbstractContextManager[None]:
        return self.part(_HEAD_BACKWARD)

    def _entered(self, *_: Any) -> None:
        self._begin(_FORWARD)

    def _left(self, module: nn.Module, args: Any, tokens: Tokens) -> None:
        self._tick()
        self._parts.pop()
        for tensor in (tokens.x, tokens.pooled, tokens.guests):
            if tensor.requires_grad:
                tensor.register_hook(self._crossed)

    def _crossed(self, gradient: Tensor) -> None:
        """Gradients reach an encoder: autograd goes back in the order of the forward pass, so that all of the
        head's are there by then."""
        if self._parts[-1] == _HEAD_BACKWARD:
            self._tick()
            self._parts[-1] = _BACKWARD

    def _begin(self, part: str) -> None:
        self._tick()
        outer = self._parts[-1]
        self._parts.append(outer if outer in _WHOLE else part)

    def _tick(self) -> None:
        """What has passed was of the part that is on."""
        now = self._clock()
        if self._lap is not None:
            self._lap.parts[self._parts[-1]] += now - self._since
        self._since = now


def watching(device: torch.device, *, wanted: bool) -> Watch:
    """A stopwatch of seconds, if one is wanted. At every change of parts an accelerator is waited for, so that
    its work counts where it was asked for."""
    if not wanted:
        return NoWatch()

    def clock() -> float:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter()

    return Stopwatch(clock)


def _operations(model: _Network, loss: Callable[[Any], Tensor]) -> dict[str, float]:
    """Floating-point operations of matrix products, convolutions and attention in a loss and its gradients, by
    part: of a copy that shares what is frozen, so that nothing of the model changes."""
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(model, {id(p): p for p in model.parameters() if not p.requires_grad})
    counter = FlopCounterMode(display=False, custom_mapping=_on_cpu())
    watch = Stopwatch(counter.get_total_flops)
    cuda = [d for d in {p.device for p in model.parameters()} if d.type == "cuda"]
    with torch.random.fork_rng(cuda), counter, watch.stage("step"):
        with watch.forward(twin):
            value = loss(twin)
        with watch.backward():
            value.backward()
    return watch.laps[0].parts


def _on_cpu() -> dict[Any, Callable[..., int]]:
    """torch's counter knows attention on accelerators alone."""
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(gradient, query, key, value)

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
