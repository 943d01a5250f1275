"""Which id stands at which place of an index; places are given once and not used again."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int

from multiadapt.search._base import Id

__all__ = ["Names"]


class Names:
    def __init__(self, names: Iterable[Id | None] = ()) -> None:
        self.all: list[Id | None] = list(names)
        """The id at each place, None where it was removed."""
        self._places = {name: i for i, name in enumerate(self.all) if name is not None}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    @property
    def ids(self) -> list[Id]:
        return list(self._places)

    @property
    def removed(self) -> int:
        return len(self.all) - len(self._places)

    def alive(self) -> Bool[np.ndarray, " n"]:
        return np.array([name is not None for name in self.all], dtype=bool)

    def places(self, names: Sequence[Id]) -> Int[np.ndarray, " n"]:
        return np.array([self._places[name] for name in names], dtype=np.int64)

    def add(self, names: Sequence[Id]) -> Int[np.ndarray, " n"]:
        places = np.arange(len(self.all), len(self.all) + len(names))
        self.all.extend(names)
        self._places.update(zip(names, places.tolist(), strict=True))
        return places

    def remove(self, names: Sequence[Id]) -> Int[np.ndarray, " n"]:
        places = self.places(names)
        for name, place in zip(names, places.tolist(), strict=True):
            self.all[place] = None
            del self._places[name]
        return places

    def at(self, places: Iterable[int]) -> list[Id]:
        found = (self.all[place] for place in places)
        return [name for name in found if name is not None]
