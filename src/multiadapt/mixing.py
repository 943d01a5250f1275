"""Adapters that come with the pass: items of several models in one run through one frozen network.

`attach` puts the adapters of one model at a network's places for good. A network that many models share
has one listener at each place instead, and every pass says whose each of its items is: the frozen layers
run once for all items, each model's adapters on its own. Models come and go without touching a hook, and a
pass lives in a context variable, so that two threads that serve one network never share it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from multiadapt.attach import Adapter, first_of, instead_of_first
from multiadapt.types import Site

__all__ = ["Corrections", "Pass", "Share", "listen", "mixed"]

_Rows: TypeAlias = slice | Tensor


class _Correction(NamedTuple):
    """One adapter at one place."""

    site: Site
    adapter: Adapter
    kind: str
    """Corrections of one kind at one place can be made as one; "": this one is made alone."""


class Corrections:
    """One stream's adapters inside a shared network, by the submodule that they correct."""

    def __init__(self, home: nn.Module, adapters: Mapping[Site, Adapter]) -> None:
        self.ahead: dict[str, list[_Correction]] = {}
        self.after: dict[str, list[_Correction]] = {}
        self.reads = {path for site in adapters for path in site.reads}
        for site, adapter in adapters.items():
            adapter.bind(home.get_submodule(site.path))
            company = adapter.company()
            # As a text, whose hash is computed once: it is asked for at every place in every pass.
            kind = "" if company is None else repr((site.part, site.reads, company))
            one = _Correction(site, adapter, kind)
            if adapter.corrects == "input":
                self.ahead.setdefault(site.path, []).append(one)
            else:  # in the order of `attach`, whose hooks go ahead of those that are there
                self.after.setdefault(site.path, []).insert(0, one)


class Share(NamedTuple):
    """The next so many items of a pass, and what corrects them."""

    corrections: Corrections
    items: int


class Pass:
    """One run of a network over the items of several models."""

    def __init__(self, shares: Sequence[Share]) -> None:
        self.own = [share.corrections for share in shares]
        self.sizes = [share.items for share in shares]
        self.starts = [0]
        for size in self.sizes:
            self.starts.append(self.starts[-1] + size)
        self.reads = {path for own in self.own for path in own.reads}
        self.ahead = {path for own in self.own for path in own.ahead}
        self.after = {path for own in self.own for path in own.after}
        self.read: dict[str, Tensor] = {}
        self.apart = False
        """True once a place was met that reads what is nobody's item, such as a table of distances: what
        this pass gives is void then, and the models must run one by one."""
        self._chosen: dict[tuple[int, ...], _Rows] = {}

    def corrected(self, every: Sequence[Sequence[_Correction]], x: Tensor, y: Tensor) -> Tensor:
        """`y` after the corrections of each share, by the share's own order."""
        found, mine = y, False
        for turn in range(max(map(len, every))):
            for members in _alike(every, turn):
                ones = [every[i][turn] for i in members]
                xs = self._xs(ones[0].site, x)
                if len(every) > 1 and any(len(t) != self.starts[-1] for t in (y, *xs)):
                    self.apart = True
                    return y
                whole, span = len(members) == len(every), slice(*(ones[0].site.part or (None,)))
                if whole and ones[0].site.part is None:
                    found, mine = self._made(ones, members, xs, found), False
                    continue
                if not mine:  # what the layer said may be what another one reads
                    found, mine = found.clone(), True
                rows = slice(None) if whole else self._rows(members, y.device)
                some = tuple(t[rows] for t in xs)
                found[(rows, ..., span)] = self._made(ones, members, some, found[rows][..., span])
        return found

    def _xs(self, site: Site, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.read[path] for path in site.reads) if site.reads else (x,)

    def _made(
        self,
        ones: Sequence[_Correction],
        members: Sequence[int],
        xs: tuple[Tensor, ...],
        y: Tensor,
    ) -> Tensor:
        first = ones[0]
        if len(ones) == 1:
            return first.adapter.correct(first.site, xs, y)
        sizes = [self.sizes[i] for i in members]
        return first.adapter.in_company([one.adapter for one in ones], sizes, xs, y)

    def _rows(self, members: tuple[int, ...], device: torch.device) -> _Rows:
        """The items of these shares; a slice where they lie side by side."""
        if members not in self._chosen:
            spans = [(self.starts[i], self.starts[i + 1]) for i in members]
            if all(b == a + 1 for a, b in pairwise(members)):
                self._chosen[members] = slice(spans[0][0], spans[-1][1])
            else:
                every = [row for span in spans for row in range(*span)]
                self._chosen[members] = torch.tensor(every, device=device)
        return self._chosen[members]


def _alike(every: Sequence[Sequence[_Correction]], turn: int) -> list[tuple[int, ...]]:
    """Which shares' corrections can be made as one, of those whose turn it is."""
    groups: dict[str | int, list[int]] = {}
    for i, own in enumerate(every):
        if turn < len(own):
            groups.setdefault(own[turn].kind or i, []).append(i)
    return [tuple(members) for members in groups.values()]


_PASS: ContextVar[Pass | None] = ContextVar("multiadapt_pass", default=None)


@contextmanager
def mixed(shares: Sequence[Share]) -> Iterator[Pass]:
    """Inside, a network with listeners corrects its items, which are those of the shares in order."""
    found = Pass(shares)
    token = _PASS.set(found)
    try:
        yield found
    finally:
        _PASS.reset(token)


def listen(home: nn.Module, sites: Sequence[Site]) -> None:
    """Put a listener at every place of `home` that an adapter may correct or read."""
    for path in dict.fromkeys(path for site in sites for path in (site.path, *site.reads)):
        module = home.get_submodule(path)
        module.register_forward_pre_hook(_Ahead(path), with_kwargs=True)
        # Ahead of the network's own hooks, such as one that weighs keys: they read what is corrected.
        module.register_forward_hook(_After(path), with_kwargs=True, prepend=True)


class _Ahead:
    """Keeps what a submodule reads for those who ask for it, and corrects it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        now = _PASS.get()
        if now is None or not (self.path in now.reads or self.path in now.ahead):
            return None
        x = first_of(args, kwargs)
        if self.path in now.reads:
            now.read[self.path] = x
        if self.path not in now.ahead:
            return None
        corrected = now.corrected([own.ahead.get(self.path, ()) for own in now.own], x, x)
        return instead_of_first(corrected, args, kwargs)


class _After:
    """Corrects what a submodule says; the first element where it is a tuple."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        now = _PASS.get()
        if now is None or self.path not in now.after:
            return output
        every = [own.after.get(self.path, ()) for own in now.own]
        x = first_of(args, kwargs)
        if isinstance(output, tuple):
            return (now.corrected(every, x, output[0]), *output[1:])
        return now.corrected(every, x, output)
