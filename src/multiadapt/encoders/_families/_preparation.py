"""From cells to what a network reads of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

__all__ = ["Note", "Preparation"]

Note: TypeAlias = Callable[[str, int], None]
"""Told by a preparation what it did to how many items."""


class Preparation(ABC):
    """From one modality's items, such as pictures, to what a network of it reads."""

    @abstractmethod
    def tensors(self, items: Sequence[Any], note: Note) -> dict[str, Tensor]:
        """Each (f, ...), on the CPU, in order; called in several threads at once.

        Sequences are padded at their end; "mask" (f, n) is then among the tensors. `note` is told
        what was done to how many items, such as ("texts are longer than 128 tokens and cut", 3).
        """

    def numbers(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What the network reads of `tensors`, on any device. Default: the tensors themselves."""
        return tensors

    @property
    def bytes_by(self) -> str | None:
        """What tells the bytes that `tensors` makes of an item from all others'. Default: None, it makes none."""
        return None
