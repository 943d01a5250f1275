"""What every kind of adapter is built from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from torch import nn

from multiadapt.attach import Adapter
from multiadapt.spec import Spec
from multiadapt.types import Site

__all__ = ["Activation", "AdapterSpec", "activation", "shared"]

Activation: TypeAlias = Literal["relu", "gelu", "silu", "tanh", "identity"]


class AdapterSpec(Spec, ABC):
    """A kind of adapter and its options. It sees sites, never encoders."""

    folder = "adapters"

    @abstractmethod
    def build(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        """Adapters for the sites it wants. Several sites may get one and the same adapter."""


def activation(name: Activation) -> nn.Module:
    kinds = {
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "tanh": nn.Tanh,
        "identity": nn.Identity,
    }
    return kinds[name]()


def shared(sites: Sequence[Site], *, share: bool) -> list[list[Site]]:
    """Groups of sites that get one adapter: those at one place of a network that several streams use."""
    groups: dict[tuple[object, ...], list[Site]] = {}
    for site in sites:
        network = site.network or site.stream  # a network without a name is nobody else's
        place = (network, site.path, site.role, site.part) if share else (site.key, site.part)
        groups.setdefault(place, []).append(site)
    return list(groups.values())
