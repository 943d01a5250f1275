"""Which queries and targets of a table belong together, and the rows of earlier batches."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Known", "Queue"]


class Known:
    """Who belongs to whom, whatever rows say so: a pair of the table is no wrong answer in any batch."""

    def __init__(self, rows: Int[Tensor, "b 2"]) -> None:
        """`rows`: which query and which target each row of the table has."""
        self.size = tuple(int(n) + 1 for n in rows.amax(0))
        self._lists = [self._list(rows[:, own], rows[:, 1 - own], own) for own in (0, 1)]

    def _list(
        self, own: Int[Tensor, " b"], other: Int[Tensor, " b"], side: int
    ) -> tuple[Int[Tensor, " b"], Int[Tensor, " n"], Int[Tensor, " n"]]:
        """All partners, one's after another's, and where each one's begin and how many they are."""
        count = torch.bincount(own, minlength=self.size[side])
        return other[torch.argsort(own, stable=True)], count.cumsum(0) - count, count

    def belong(
        self, asking: Int[Tensor, " a"], pool: Int[Tensor, " p"], side: int
    ) -> Bool[Tensor, "a p"]:
        """Which of the pool belong to whom; those who ask are queries where `side` is 0, else targets."""
        partners, start, count = self._lists[side]
        each = count[asking]
        rows = torch.arange(len(asking), device=asking.device).repeat_interleave(each)
        first = (start[asking] - each.cumsum(0) + each).repeat_interleave(each)
        hits = partners[first + torch.arange(len(rows), device=asking.device)]
        found = torch.zeros(
            len(asking), self.size[1 - side], dtype=torch.bool, device=asking.device
        )
        found[rows, hits] = True
        return found[:, pool]

    def to(self, device: torch.device) -> "Known":
        self._lists = [tuple(t.to(device) for t in part) for part in self._lists]  # type: ignore[misc]
        return self


class Queue:
    """The latest rows of earlier batches, in places that are written again: nothing is moved.

    What is put becomes visible at the next `settle`, because autograd still reads what it would overwrite.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.filled = self._next = 0
        self._kept: tuple[Tensor, ...] = ()
        self._waiting: tuple[Tensor, ...] = ()

    def put(self, sides: Sequence[Float[Tensor, "b _ e"]], rows: Int[Tensor, "b 2"]) -> None:
        """What the teacher says of both sides, and which query and target they are."""
        if self.most:
            self._waiting = tuple(t.detach()[: self.most] for t in (*sides, rows))

    def settle(self) -> None:
        if not self._waiting:
            return
        new, self._waiting = self._waiting, ()
        if not self._kept:
            self._kept = tuple(t.new_empty(self.most, *t.shape[1:]) for t in new)
        places = (self._next + torch.arange(len(new[0]), device=new[0].device)) % self.most
        for kept, part in zip(self._kept, new, strict=True):
            kept[places] = part
        self._next = (self._next + len(places)) % self.most
        self.filled = min(self.filled + len(places), self.most)

    def side(self, side: int) -> list[Float[Tensor, "k n e"]]:
        """Vectors of one side; an empty list where nothing is queued."""
        return [self._kept[side][: self.filled]] if self.filled else []

    def rows(self) -> list[Int[Tensor, "k 2"]]:
        return [self._kept[2][: self.filled]] if self.filled else []

    def state(self) -> dict[str, Tensor]:
        """For a resume file."""
        self.settle()
        if not self.filled:
            return {}
        names = ("query", "target", "rows")
        kept = {n: t[: self.filled] for n, t in zip(names, self._kept, strict=True)}
        return kept | {"next": torch.tensor(self._next)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.filled = self._next = 0
        self._kept = self._waiting = ()
        if state:
            self.put([state["query"], state["target"]], state["rows"])
            self.settle()
            self._next = int(state["next"])
