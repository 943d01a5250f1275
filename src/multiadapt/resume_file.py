"""The file that a broken-off run goes on from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from multiadapt.errors import ArtifactError

__all__ = ["ResumeFile", "put_back", "taken_out", "unprefixed"]


class ResumeFile:
    """Trained tensors, optimizer state and counters in one safetensors file, replaced atomically."""

    every = 30.0
    """Seconds between writes inside an epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, values: dict[str, Any], tensors: dict[str, Tensor], identity: object) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        metadata = {
            "progress": json.dumps(values),
            "identity": json.dumps(identity, sort_keys=True),
        }
        flat = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
        save_file(flat, part, metadata)
        part.replace(self.path)

    def read(self, identity: object) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - no mapping
        except SafetensorError as error:
            raise ArtifactError(
                f"{self.path} is no resume file that can be read: {error}; delete it, or name another"
            ) from error
        if metadata.get("identity") != json.dumps(identity, sort_keys=True):
            raise ArtifactError(
                f"{self.path} belongs to another run: the rows, options, seed or number of processes differ; "
                "delete it, or name another file with resume="
            )
        return json.loads(metadata["progress"]), tensors


def taken_out(
    trainable: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """What the optimizer keeps of each parameter, and gradients that were not used yet."""
    tensors: dict[str, Tensor] = {}
    for i, parameter in enumerate(trainable):
        state = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer:{i}:{k}": t for k, t in state.items()}
        if parameter.grad is not None:
            tensors[f"gradient:{i}"] = parameter.grad
    return tensors


def put_back(
    tensors: dict[str, Tensor],
    trainable: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """The inverse of `taken_out`."""
    for i, parameter in enumerate(trainable):
        state = unprefixed(tensors, f"optimizer:{i}:")
        if state:
            optimizer.state[parameter] = {k: _laid(t, parameter) for k, t in state.items()}
        if f"gradient:{i}" in tensors:
            parameter.grad = _laid(tensors[f"gradient:{i}"], parameter)


def unprefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _laid(tensor: Tensor, parameter: Tensor) -> Tensor:
    """On the parameter's device and, of its shape, in its order in memory: the fused update takes all
    that belongs together as one line of numbers."""
    if tensor.shape != parameter.shape:
        return tensor.to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
