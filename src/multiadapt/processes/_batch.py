"""A batch that several processes share: sums, means and random numbers over all of its rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from multiadapt.processes._group import Group, current
from multiadapt.types import Inputs

__all__ = [
    "anywhere",
    "batch",
    "bounds",
    "counted",
    "drawn",
    "draws",
    "gathered",
    "mean_of",
    "part",
    "random_state",
    "restore_random",
    "rows_of_all",
    "seeded",
    "share",
    "sum_gradients",
    "summed",
    "unheard",
]


@contextmanager
def batch(rows: int) -> Iterator[None]:
    """Inside, all work on so many rows, of which each process has its `part`."""
    group = current()
    if group is None:
        yield
        return
    start, end = group.bounds(rows)
    group.rows, group.heard = rows, end > start
    try:
        yield
    finally:
        group.rows, group.heard = 0, True


@contextmanager
def unheard() -> Iterator[None]:
    """Inside, this process keeps step with the others and adds nothing to their sums."""
    group = current()
    if group is None:
        yield
        return
    before, group.heard = group.heard, False
    try:
        yield
    finally:
        group.heard = before


def part(rows: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " b"]:
    """This process's of a batch's rows; where they are too few for all, the first, which is `unheard`."""
    group = current()
    if group is None:
        return rows
    start, end = group.bounds(len(rows))
    return rows[start:end] if end > start else rows[:1]


def bounds(rows: int) -> tuple[int, int]:
    """Where this process's rows of a batch begin and end."""
    group = current()
    return (0, rows) if group is None else group.bounds(rows)


def counted(loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The loss; 0, and so its gradients, in a process whose row counts for nothing."""
    group = current()
    return loss if group is None or group.heard else loss * 0


def summed(x: Tensor) -> Tensor:
    """The sum over all processes, without gradient."""
    group = current()
    if group is None:
        return x
    return group.all(x if group.heard else torch.zeros_like(x))


def anywhere(items: int) -> bool:
    """Whether any process has some."""
    group = current()
    return items > 0 if group is None else int(group.all(torch.tensor(items))) > 0


def share(weight: Float[Tensor, " b"]) -> Tensor | float:
    """What a weighted mean over this process's rows counts in that over all rows of the batch."""
    if current() is None:
        return 1.0
    mine = weight.sum()
    return mine / summed(mine).clamp_min(torch.finfo(mine.dtype).tiny)


def mean_of(rows: Float[Tensor, "b d"]) -> Float[Tensor, " d"] | None:
    """The mean of the rows of all processes, without gradient; None: there are none."""
    if current() is None:
        return rows.mean(0) if len(rows) else None
    mine = rows.detach().sum(0).double()
    whole = summed(torch.cat([mine, mine.new_tensor([len(rows)])]))
    return (whole[:-1] / whole[-1]).to(rows.dtype) if bool(whole[-1] > 0) else None


def gathered(x: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """The batch's rows of all processes, in their order; gradients go back to where each came from."""
    group = current()
    if group is None:
        return x
    start, end = group.bounds(group.rows)
    before, after = (x.new_zeros(n, *x.shape[1:]) for n in (start, group.rows - end))
    placed = torch.cat([before, x[: end - start], after])
    return _Sum.apply(placed, group) if placed.requires_grad else group.all(placed)  # type: ignore[return-value]


def rows_of_all(inputs: Inputs) -> Inputs:
    """The batch's inputs of all processes, without gradient; every row has one item."""
    group = current()
    if group is None:
        return inputs
    tensors: dict[str, Tensor] = {}
    for name, tensor in inputs.tensors.items():
        plain = tensor.detach()
        if plain.ndim > 1:  # as long as the longest of all
            most = int(group.all(torch.tensor(plain.shape[1]), dist.ReduceOp.MAX))
            longer = plain.new_zeros(len(plain), most, *plain.shape[2:])
            longer[:, : plain.shape[1]] = plain
            plain = longer
        found = gathered(plain.byte() if plain.dtype == torch.bool else plain)
        tensors[name] = found.to(tensor.dtype)
    return Inputs(tensors, gathered(inputs.count), inputs.cut)


def draws() -> torch.Generator | None:
    """Of random numbers that all processes draw alike, on the CPU; None: torch's own."""
    group = current()
    return None if group is None else group.draws


def drawn(
    rows: int, draw: Callable[[int, torch.Generator | None], Shaped[Tensor, "n ..."]]
) -> Shaped[Tensor, "b ..."]:
    """What is drawn for each of this process's rows: the same that a single process would draw for them."""
    group = current()
    if group is None:
        return draw(rows, None)
    start, end = group.bounds(group.rows)
    whole = draw(group.rows, group.draws)
    return whole[start:end] if end > start else whole[:1]


def seeded(seed: int) -> None:
    """Begin torch's random numbers anew. Dropout differs from process to process, `draws` do not."""
    group = current()
    if group is None:
        torch.manual_seed(seed)
        return
    group.draws.manual_seed(seed)
    apart = np.random.SeedSequence([seed, group.rank]).generate_state(1)
    torch.manual_seed(int(apart[0]))


def random_state() -> dict[str, Tensor]:
    """Where this process's random numbers are, for a run that is taken up again."""
    shared = draws()
    found = {"rng": torch.get_rng_state()}
    return found if shared is None else {**found, "draws": shared.get_state()}


def restore_random(state: Mapping[str, Tensor]) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(state["rng"])
    if (shared := draws()) is not None:
        shared.set_state(state["draws"])


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Every gradient becomes the sum over all processes; one that none of them has stays None."""
    group = current()
    if group is None:
        return
    has = torch.tensor([p.grad is not None for p in parameters]).to(parameters[0])
    mine = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
    sizes = [p.numel() for p in parameters]
    *whole, known = group.all(torch.cat([*mine, has])).split([*sizes, len(has)])
    for parameter, gradient, there in zip(parameters, whole, known.tolist(), strict=True):
        if there and parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)
        if parameter.grad is not None:
            parameter.grad.copy_(gradient.view_as(parameter))


class _Sum(torch.autograd.Function):
    """The sum over all processes. The loss of each may read all of it, and so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.all(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.group.all(grads[0]), None
