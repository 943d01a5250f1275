"""Corrections put into the frozen weights for a while: predicting then costs no more than frozen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.types import Site

__all__ = ["folded"]


@contextmanager
def folded(encoders: Mapping[str, nn.Module], placed: Mapping[Site, Adapter]) -> Iterator[int]:
    """Inside, the adapters that can be are in the weights of the encoders (by stream) and their hooks rest.

    Gives the number of layers that hold one. A layer stays as it is where streams share it but not its
    adapters. After it the very same weights are back. Nobody else may run the encoders, train them or
    move them to another device meanwhile.
    """
    if any(adapter.folded for adapter in placed.values()):
        raise SpecError("the adapters are folded already: leave the outer folded() first")
    layers = [layer for layer in _layers(encoders, placed) if _merge(layer)]
    kept = [{name: p.data for name, p in layer.module.named_parameters()} for layer in layers]
    try:
        for layer in layers:
            _write(layer.module, layer.merged)
            _rest(layer.adapters, folded=True)
        yield len(layers)
    finally:
        for layer, before in zip(layers, kept, strict=True):
            _write(layer.module, before)
            _rest(layer.adapters, folded=False)


class _Place(NamedTuple):
    """One stream's adapter at some rows of a layer; None: all rows."""

    rows: tuple[int, int] | None
    adapter: Adapter


class _Layer(NamedTuple):
    module: nn.Module
    places: tuple[_Place, ...]
    merged: dict[str, Tensor]

    @property
    def adapters(self) -> list[Adapter]:
        return [place.adapter for place in self.places]


def _layers(encoders: Mapping[str, nn.Module], placed: Mapping[Site, Adapter]) -> list[_Layer]:
    """Linear layers and convolutions whose adapters serve all their streams, and nothing else."""
    modules: dict[int, nn.Module] = {}
    by_stream: dict[int, dict[str, list[_Place]]] = {}
    homes: dict[int, set[int]] = {}
    for site, adapter in placed.items():
        if site.stream not in encoders:
            continue
        module = encoders[site.stream].get_submodule(site.path)
        modules[id(module)] = module
        own = by_stream.setdefault(id(module), {}).setdefault(site.stream, [])
        own.append(_Place(site.part, adapter))
        homes.setdefault(id(adapter), set()).add(id(module))
    users = {stream: {id(m) for m in encoder.modules()} for stream, encoder in encoders.items()}
    found: list[_Layer] = []
    for key, places in by_stream.items():
        every = [frozenset(places.get(stream, ())) for stream in encoders if key in users[stream]]
        alone = all(len(homes[id(p.adapter)]) == 1 for p in every[0])
        if alone and set(every) == {every[0]} and _is_plain(modules[key]):
            found.append(_Layer(modules[key], tuple(next(iter(places.values()))), {}))
    return found


def _is_plain(module: nn.Module) -> bool:
    return type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d)


@torch.no_grad()
def _merge(layer: _Layer) -> bool:
    """Fills `merged`; False where an adapter cannot be folded or two correct the same rows."""
    frozen = {name: p.data for name, p in layer.module.named_parameters()}
    merged = {name: tensor.clone() for name, tensor in frozen.items()}  # laid out as before
    done: set[int] = set()
    for rows, adapter in layer.places:
        span = range(*rows) if rows else range(len(frozen["weight"]))
        part = slice(span.start, span.stop)
        bias = frozen["bias"][part] if "bias" in frozen else None
        both = adapter.fold(frozen["weight"][part], bias)
        if both is None or not done.isdisjoint(span):
            return False
        done |= set(span)
        merged["weight"][part] = both[0]
        if both[1] is not None:
            merged["bias"][part] = both[1]
    layer.merged.update(merged)
    return True


def _write(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.data = tensors[name]


def _rest(adapters: Sequence[Adapter], *, folded: bool) -> None:
    for adapter in adapters:
        adapter.folded = folded
