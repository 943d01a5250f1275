"""What processes tell one another beside numbers: errors, decisions, blocks of rows."""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from multiadapt.errors import TrainingError
from multiadapt.processes._group import Group, alone, current
from multiadapt.types import Inputs

__all__ = [
    "alike",
    "agreed",
    "agreeing",
    "dealt",
    "decided",
    "each",
    "every",
    "first",
    "interruptible",
    "laid",
    "own",
    "spread",
    "told",
]

T = TypeVar("T")


def told(value: Any) -> list[Any]:
    """What each process says, in their order; JSON values."""
    group = current()
    if group is None:
        return [value]
    mine = json.dumps(value).encode()
    return [json.loads(group.hand_bytes(owner, mine)) for owner in range(group.size)]


def alike(*what: Any) -> None:
    """TrainingError: processes were given something different, and would wait for one another for ever."""
    if current() is None:
        return
    known = told(what)
    if odd := [i for i, other in enumerate(known) if other != known[0]]:
        raise TrainingError(
            "all processes must be given the same rows, options and seed; those of process "
            f"{', '.join(map(str, odd))} differ from those of process 0"
        )


def first(value: float) -> float:
    """What the main process says: its clock decides for all, and a last bit that differs does not part them."""
    group = current()
    if group is None:
        return value
    return float(group.boards(torch.tensor([value], dtype=torch.float64))[0])


def decided(choice: bool) -> bool:  # noqa: FBT001 - it is what the question is about
    """What the main process has chosen."""
    return bool(first(float(choice)))


def spread(tensors: Mapping[str, Tensor]) -> None:
    """Write the main process's values into the tensors of all."""
    group = current()
    if group is None:
        return
    found = group.hand(0, tensors)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(found[name])


@contextmanager
def agreed() -> Iterator[None]:
    """An error inside ends all processes, each with the text of the first that has one. Inside, each is alone."""
    group = current()
    if group is None:
        yield
        return
    found: Exception | None = None
    try:
        with alone():
            yield
    except Exception as error:  # noqa: BLE001 - raised again, in every process
        found = error
    group.settle(found)


def agreeing(items: Iterator[T]) -> Iterator[T]:
    """The items, as many in every process; an error or an interrupt in one ends all."""
    if current() is None:
        yield from items
        return
    while True:
        with agreed():
            found = next(items, None)
        if found is None:
            return
        yield found


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C waits for the next `agreed`, where it reaches all processes at once: a terminal sends it to
    each at a moment when others may wait for it."""
    group = current()
    if group is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def remember(*_: object) -> None:
        group.interrupted = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def dealt(
    order: Sequence[np.ndarray], produce: Callable[[Sequence[np.ndarray]], Iterator[Inputs]]
) -> Iterator[Inputs]:
    """What `produce` makes of blocks of rows, all in order; each process makes its share and hands it on."""
    group = current()
    if group is None:
        yield from produce(order)
        return
    mine = produce(every(order))
    for start in range(0, len(order), group.size):
        found: Inputs | None = None
        with agreed():
            if start + group.rank < len(order):
                found = next(mine)
        for owner in range(min(group.size, len(order) - start)):
            yield _handed(group, owner, found if owner == group.rank else None)


def every(order: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """This process's of the blocks of a whole table."""
    group = current()
    return order if group is None else order[group.rank :: group.size]


def laid(found: Float[np.ndarray, "b c"], order: Sequence[np.ndarray]) -> Float[np.ndarray, "n k"]:
    """What each process has found of the rows of `every` block, put together in the order of the blocks."""
    group = current()
    if group is None:
        return found
    width = int(group.all(torch.tensor(found.shape[1]), dist.ReduceOp.MAX))
    sizes = [len(rows) for rows in order]
    mine = every(np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]))
    whole = torch.zeros(sum(sizes), width)
    if len(found):
        whole[np.concatenate(mine)] = torch.from_numpy(found)
    return group.all(whole).numpy()


def each(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What every process has for itself, under names that tell whose it is."""
    group = current()
    if group is None:
        return dict(tensors)
    found = [group.hand(owner, tensors) for owner in range(group.size)]
    return {_whose(i) + name: t for i, some in enumerate(found) for name, t in some.items()}


def own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `each`."""
    group = current()
    start = "" if group is None else _whose(group.rank)
    return {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}


def _whose(rank: int) -> str:
    return f"process:{rank}:"


def _handed(group: Group, owner: int, inputs: Inputs | None) -> Inputs:
    mine = None
    if inputs is not None:
        mine = {**inputs.tensors, "#count": inputs.count, "#cut": torch.tensor(inputs.cut)}
    found = group.hand(owner, mine)
    if inputs is not None:
        return inputs
    count, cut = found.pop("#count"), int(found.pop("#cut"))
    return Inputs(found, count, cut)
