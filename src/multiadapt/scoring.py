"""What a trained model says of rows, and on which device."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from multiadapt import processes
from multiadapt.adapted import Adapted
from multiadapt.errors import SpecError
from multiadapt.methods._base import Training
from multiadapt.types import Inputs

__all__ = ["Fed", "computed", "device_of", "precision", "scored", "scores"]


@runtime_checkable
class Fed(Protocol):
    """Rows that can be asked for in any order."""

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def batches(self, order: Sequence[np.ndarray]) -> Generator[dict[str, Inputs]]:
        """Inputs for each array of row positions, on the device."""
        ...

    def in_order(self) -> list[np.ndarray]:
        """All rows in blocks, in order."""
        ...

    def flush(self) -> None:
        """Write what is to be kept for later runs and has only been computed so far."""
        ...


def scores(model: Adapted, feed: Fed, training: Training) -> Float[np.ndarray, "b c"]:
    """The head's scores of every row, in the feed's order; processes that are together divide the blocks."""
    order = feed.in_order()
    mine = feed.batches(processes.every(order))
    with processes.agreed():
        found = scored(model, mine, training, feed.device)
    return processes.laid(found, order)


def scored(
    model: Adapted,
    batches: Iterable[Mapping[str, Inputs]],
    training: Training,
    device: torch.device,
) -> Float[np.ndarray, "b c"]:
    """The head's scores of every row of these batches, in their order."""
    return computed(model, batches, training, device, lambda batch: model(batch).scores)


def computed(
    model: Adapted,
    batches: Iterable[Mapping[str, Inputs]],
    training: Training,
    device: torch.device,
    of: Callable[[Mapping[str, Inputs]], Tensor],
) -> Float[np.ndarray, "b c"]:
    """What `of` makes of every row of these batches, in their order, in the model's precision."""
    model.eval()
    found: list[Tensor] = []
    with torch.inference_mode():
        for batch in batches:
            with precision(training, device):
                found.append(of(batch).float().cpu())
    return torch.cat(found).numpy() if found else np.zeros((0, 0), np.float32)


def device_of(name: str | None) -> torch.device:
    """The device of this name; None: a GPU where there is one."""
    if name is not None and name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError(
            f"device {name!r} needs a GPU that torch sees, and there is none; use 'cpu'"
        )
    try:
        own = name or ("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(processes.local(own))
    except RuntimeError as error:
        raise SpecError(
            f"device must be one that torch knows, such as 'cpu' or 'cuda:0', got {name!r}"
        ) from error


@contextlib.contextmanager
def precision(training: Training, device: torch.device) -> Iterator[None]:
    """Inside, what is computed is in the precision that a recipe asks for."""
    with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        yield
