"""Frozen networks that several models run, each once in memory."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from multiadapt.encoders._base import EncoderSpec
from multiadapt.encoders._pretrained import Backbone
from multiadapt.model import AdaptedModel, TaskKind

__all__ = ["Networks", "networks_of", "size_of"]


class Networks:
    """Networks by what opens them."""

    def __init__(self) -> None:
        self._opened: dict[tuple[EncoderSpec, TaskKind | None], nn.Module] = {}

    def open(self, spec: EncoderSpec, kind: TaskKind) -> nn.Module | None:
        """The network of a spec, opened unless it is there."""
        found = self._opened.get((spec, None), self._opened.get((spec, kind)))
        if found is not None:
            return found
        network = spec.open(kind)
        if isinstance(network, Backbone):  # it is the same one for every kind of labels
            network = self._same(network)
            self._opened = {
                **self._opened,
                (spec, None): network,
            }  # others may be looking through it
        elif network is not None:
            self._opened = {**self._opened, (spec, kind): network}
        return network

    def __contains__(self, network: nn.Module) -> bool:
        return any(network is other for other in self._opened.values())

    def keep(self, models: Iterable[AdaptedModel]) -> None:
        """Forget those that none of these models runs."""
        used = [network for model in models for network in networks_of(model)]
        self._opened = {
            key: network
            for key, network in self._opened.items()
            if any(network is other for other in used)
        }

    def move(self, device: torch.device) -> None:
        """Those that are elsewhere; others may be running what is there already."""
        for network in self._opened.values():
            if any(t.device != device for t in (*network.parameters(), *network.buffers())):
                network.to(device)

    def _same(self, network: Backbone) -> Backbone:
        """One that is there already and computes the same, whatever place it is from."""
        for other in self._opened.values():
            if isinstance(other, Backbone) and other.same(network):
                return other
        network.shared = True
        return network


def networks_of(model: AdaptedModel) -> list[nn.Module]:
    """The frozen networks of a model's encoders, each once."""
    found = [getattr(model.encoder(stream), "backbone", None) for stream in model.streams]
    return list(
        {id(network): network for network in found if isinstance(network, nn.Module)}.values()
    )


def size_of(*parts: nn.Module | Tensor) -> int:
    """Bytes of tensors and of modules' parameters and buffers."""
    tensors: list[Tensor] = []
    for part in parts:
        tensors += [part] if isinstance(part, Tensor) else [*part.parameters(), *part.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)
