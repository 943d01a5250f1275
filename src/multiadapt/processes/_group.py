"""Which processes train together, and how bytes get from one to another."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from multiadapt import errors
from multiadapt.errors import MultiadaptError, SpecError, TrainingError

__all__ = ["Group", "alone", "current", "local", "main", "together"]

_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where launchers say how many processes they have started."""
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Where they say which of them this one is."""
_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


@dataclass(eq=False)
class Group:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device
    """Where what is exchanged must lie."""
    draws: torch.Generator = field(default_factory=torch.Generator)
    """Random numbers that are the same in all processes."""
    rows: int = 0
    """Of the batch that all work on."""
    heard: bool = True
    """False: what this process computes counts for nothing; it only keeps step with the others."""
    interrupted: bool = False

    def bounds(self, rows: int) -> tuple[int, int]:
        """Which of so many rows are this process's."""
        least, more = divmod(rows, self.size)
        start = self.rank * least + min(self.rank, more)
        return start, start + least + (self.rank < more)

    def all(self, x: Tensor, how: Any = dist.ReduceOp.SUM) -> Tensor:
        """The sum (or what `how` says) over all processes, without gradient."""
        whole = x.detach().to(self.device, copy=True).contiguous()
        dist.all_reduce(whole, how)
        return whole.to(x.device)

    def boards(self, x: Shaped[Tensor, " n"]) -> Shaped[Tensor, "p n"]:
        """What each process has, in their order."""
        board = x.new_zeros(self.size, *x.shape)
        board[self.rank] = x.detach()
        return self.all(board)

    def hand(self, owner: int, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """The tensors of one process, on the CPU of all."""
        flat = {k: t.detach().cpu().contiguous() for k, t in (tensors or {}).items()}
        told = [[k, list(t.shape), str(t.dtype).partition(".")[2]] for k, t in flat.items()]
        told = json.loads(self.hand_bytes(owner, json.dumps(told).encode()))
        raw = [t.reshape(-1).view(torch.uint8) for t in flat.values() if t.numel()]
        whole = torch.cat(raw) if raw else torch.zeros(0, dtype=torch.uint8)
        return _parted(self._broadcast(owner, whole), told)

    def hand_bytes(self, owner: int, value: bytes) -> bytes:
        """What one process says."""
        raw = torch.from_numpy(np.frombuffer(value, np.uint8).copy())
        return self._broadcast(owner, raw).numpy().tobytes()

    def _broadcast(self, owner: int, raw: Shaped[Tensor, " n"]) -> Shaped[Tensor, " m"]:
        """Bytes of one process; how many they are, it alone knows."""
        size = torch.tensor([len(raw)], device=self.device)
        dist.broadcast(size, owner)
        whole = raw.to(self.device)
        if self.rank != owner:
            whole = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        if len(whole):
            dist.broadcast(whole, owner)
        return whole.cpu()

    def settle(self, error: Exception | None) -> None:
        """All raise the error of the first process that has one; all are interrupted where one is."""
        asked = torch.tensor([self.size if error is None else self.rank, not self.interrupted])
        failed, going = self.all(asked, dist.ReduceOp.MIN).tolist()
        if failed < self.size:
            words = [] if error is None else [type(error).__name__, str(error)]
            name, text = json.loads(self.hand_bytes(failed, json.dumps(words).encode()))
            if failed == self.rank and error is not None:
                raise error
            raise _error(name, text, failed) from error
        if not going:
            self.interrupted = False
            raise KeyboardInterrupt


_GROUP: ContextVar[Group | None] = ContextVar("multiadapt_processes", default=None)


def current() -> Group | None:
    """The processes that train together now; None: this one is alone."""
    return _GROUP.get()


@contextmanager
def together(device: torch.device | None = None) -> Iterator[None]:
    """Inside, the processes that a launcher has started are one: given the same, each ends with the same.

    `device`: what is computed on; None: they have met before.

    Raises:
        SpecError: they are to share in a way that is not supported, or Accelerate does not know of them.
    """
    token = _GROUP.set(_opened(device) if _launched() > 1 else None)
    try:
        yield
    finally:
        _GROUP.reset(token)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process works for itself and nothing is asked of others."""
    token = _GROUP.set(None)
    try:
        yield
    finally:
        _GROUP.reset(token)


def main() -> bool:
    """Whether this process is the one that speaks and writes files, of those that were started."""
    group = _GROUP.get()
    if group is not None:
        return group.rank == 0
    return _launched() == 1 or not any(int(os.environ.get(name) or 0) for name in _RANKS)


def local(name: str) -> str:
    """The device of this name; of a machine's GPUs this process's own."""
    own = os.environ.get("LOCAL_RANK") if _launched() > 1 else None
    return f"cuda:{own}" if own is not None and name == "cuda" else name


def _launched() -> int:
    """How many processes a launcher has started."""
    return max(int(os.environ.get(name) or 1) for name in _SIZES)


def _opened(device: torch.device | None) -> Group:
    from accelerate.state import PartialState

    _check_launch()
    state = PartialState(cpu=device is not None and device.type == "cpu")
    if state.num_processes != _launched() or not dist.is_initialized():
        raise SpecError(
            f"all processes that were started must train together, and of {_launched()} Accelerate's state knows "
            f"{state.num_processes}: start them with torchrun or accelerate launch; a script that makes that "
            'state itself says cpu=True there for device="cpu"'
        )
    return Group(state.process_index, state.num_processes, state.device or torch.device("cpu"))


def _check_launch() -> None:
    """SpecError: the launcher was told something that training does not do."""
    for name, what in _SHARDING.items():
        if os.environ.get(name, "false").lower() in ("true", "1"):
            raise SpecError(
                f"training on several processes keeps the whole network in each, and {what} would split it: "
                "leave it out of accelerate's configuration"
            )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    if precision != "no":
        raise SpecError(
            f"accelerate's mixed precision must be 'no', got {precision!r}: training.precision says what is "
            "computed in"
        )


def _parted(raw: Shaped[Tensor, " n"], told: list[Any]) -> dict[str, Tensor]:
    """Bytes back to tensors of these names, shapes and types."""
    found: dict[str, Tensor] = {}
    start = 0
    for name, shape, kind in told:
        empty = torch.empty(shape, dtype=getattr(torch, kind))
        end = start + empty.numel() * empty.element_size()
        if end > start:  # copied: in the middle of other bytes a number may not begin
            empty.view(-1).view(torch.uint8).copy_(raw[start:end])
        found[name], start = empty, end
    return found


def _error(name: str, text: str, rank: int) -> MultiadaptError:
    """Another process's error as one of ours."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, MultiadaptError):
        return kind(text)
    return TrainingError(f"process {rank} has failed, and so all end: {name}: {text}")
