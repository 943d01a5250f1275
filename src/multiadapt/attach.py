"""Adapters, and how they correct a frozen network: by forward hook, never by wrapping a layer.

A wrapped layer can be skipped, silently, by torch's inference fast paths, which read `.weight`.
Hooks keep the class, the names and the `state_dict` of the network.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle

from multiadapt.types import Site

__all__ = [
    "Adapter",
    "Attachment",
    "attach",
    "corrected",
    "first_of",
    "instead_of_first",
    "recomputing",
    "repassed",
    "resting",
    "running",
]


class Adapter(nn.Module, ABC):
    """A small trained module that corrects what one site says."""

    corrects: ClassVar[Literal["output", "input"]] = "output"
    """input: `y` is what the site reads, and the site runs on the corrected one."""
    output_only: ClassVar[bool] = False
    """Whether it asks for nothing but the site's output: it can correct one that was kept."""
    keeps_statistics: bool = False
    """Of what passes, so that a batch may pass only once."""
    folded: bool = False
    """True while the correction is in the frozen weight and must not be made again."""

    def bind(self, module: nn.Module) -> None:
        """Called once with the frozen submodule. Default: nothing to read from it."""

    @abstractmethod
    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        """What the site reads and its output, to the corrected output of the same shape."""

    def correct(self, site: Site, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        """The same for one of the sites that it serves. Default: it does not matter which."""
        return self(xs, y)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None] | None:
        """The frozen weight and bias with the correction in them; None: this kind cannot be folded.

        Of a site with a `part` they are that part's rows.
        """
        return None

    def company(self) -> Hashable:
        """Outside training, adapters for which this is equal can run as one on a batch that is of them
        all. Default: None, each runs alone on what is its own."""
        return None

    def in_company(
        self,
        adapters: Sequence["Adapter"],
        sizes: Sequence[int],
        xs: tuple[Tensor, ...],
        y: Tensor,
    ) -> Tensor:
        """What `forward` gives of each of these adapters, self the first, on its next so many items."""
        raise NotImplementedError


class _Call:
    """One pass of one stream through a network: two threads that serve one model never share it."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.read: dict[str, Tensor] = {}


_CALL: ContextVar[_Call | None] = ContextVar("multiadapt_call", default=None)
_REST: ContextVar[bool] = ContextVar("multiadapt_rest", default=False)
_AGAIN: ContextVar[bool] = ContextVar("multiadapt_again", default=False)


@contextmanager
def running(stream: str) -> Iterator[None]:
    """Inside, the adapters of `stream` are live; those of other streams on the same network are not."""
    token = _CALL.set(None if _REST.get() else _Call(stream))
    try:
        yield
    finally:
        _CALL.reset(token)


@contextmanager
def resting() -> Iterator[None]:
    """Inside, no adapter is live, in this thread: a network says what it said before any was attached."""
    token = _REST.set(True)
    try:
        yield
    finally:
        _REST.reset(token)


@contextmanager
def recomputing(on: bool) -> Iterator[None]:  # noqa: FBT001 - as a switch is
    """Inside, `repassed` keeps no activation, if `on`, and the backward pass computes it again."""
    token = _AGAIN.set(on)
    try:
        yield
    finally:
        _AGAIN.reset(token)


def repassed(block: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    """What a block of a network says, its activations kept or, inside `recomputing`, computed again.

    The backward pass runs after the streams have, and on a GPU in a thread of its own: the adapters that are
    live now are live there too. What they read is read inside the block.
    """
    if not (_AGAIN.get() and torch.is_grad_enabled()):
        return block(state)
    call = _CALL.get()

    def again(state: Tensor) -> Tensor:
        token = _CALL.set(None if call is None else _Call(call.stream))
        try:
            return block(state)
        finally:
            _CALL.reset(token)

    return checkpoint(again, state, use_reentrant=False)


def corrected(stream: str, adapters: Mapping[Site, Adapter], y: Tensor) -> Tensor:
    """What a site of a running stream said and was kept, after these adapters, which ask for nothing else."""
    call = _CALL.get()
    if call is None or call.stream != stream:
        return y
    last_first = reversed(tuple(adapters.items()))  # as hooks that go ahead of those that are there
    for site, adapter in last_first:
        y = y if adapter.folded else adapter.correct(site, (y,), y)
    return y


class Attachment:
    """Hooks of one encoder's adapters. `remove` restores the network exactly."""

    def __init__(self, handles: list[RemovableHandle]) -> None:
        self._handles = handles

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def attach(encoder: nn.Module, adapters: Mapping[Site, Adapter]) -> Attachment:
    """Correct the outputs of `encoder`'s submodules at the given sites."""
    handles: list[RemovableHandle] = []
    for site, adapter in adapters.items():
        module = encoder.get_submodule(site.path)
        adapter.bind(module)
        for path in site.reads:
            reader = encoder.get_submodule(path)
            handles.append(reader.register_forward_pre_hook(_Reader(site, path), with_kwargs=True))
        if adapter.corrects == "input":
            ahead = _InputCorrector(site, adapter)
            handles.append(module.register_forward_pre_hook(ahead, with_kwargs=True))
        else:
            after = _Corrector(site, adapter)
            # Ahead of the network's own hooks, such as one that weighs keys: they read what is corrected.
            handles.append(module.register_forward_hook(after, with_kwargs=True, prepend=True))
    return Attachment(handles)


class _Reader:
    """Keeps a submodule's input in the running call."""

    def __init__(self, site: Site, path: str) -> None:
        self.site, self.path = site, path

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = _CALL.get()
        if call is not None and call.stream == self.site.stream:
            call.read[self.path] = first_of(args, kwargs)


class _Corrector:
    """Replaces a submodule's output by the adapter's; the first element where it is a tuple."""

    def __init__(self, site: Site, adapter: Adapter) -> None:
        self.site, self.adapter = site, adapter

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        call = _CALL.get()
        if call is None or call.stream != self.site.stream or self.adapter.folded:
            return output
        if self.site.reads:
            xs = tuple(call.read[path] for path in self.site.reads)
        else:
            xs = (first_of(args, kwargs),)
        if isinstance(output, tuple):
            return (self._correct(xs, output[0]), *output[1:])
        return self._correct(xs, output)

    def _correct(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        if self.site.part is None:
            return self.adapter.correct(self.site, xs, y)
        start, end = self.site.part
        corrected = self.adapter.correct(self.site, xs, y[..., start:end])
        return torch.cat([y[..., :start], corrected, y[..., end:]], dim=-1)


class _InputCorrector:
    """Replaces what a submodule reads by the adapter's."""

    def __init__(self, site: Site, adapter: Adapter) -> None:
        self.site, self.adapter = site, adapter

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        call = _CALL.get()
        if call is None or call.stream != self.site.stream or self.adapter.folded:
            return None
        x = first_of(args, kwargs)
        corrected = self.adapter.correct(self.site, (x,), x)
        return instead_of_first(corrected, args, kwargs)


def instead_of_first(
    x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a submodule is called with, its first argument replaced."""
    if args:
        return (x, *args[1:]), kwargs
    return args, {**kwargs, next(iter(kwargs)): x}


def first_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a submodule reads, however it is called."""
    return args[0] if args else next(iter(kwargs.values()))
