"""Rows of inputs without their padding: what they are known by, and what is kept of them."""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from multiadapt.types import Inputs

__all__ = ["TOKENS", "checksum", "halved", "keys_of", "lengths_of", "packed", "unpacked"]


TOKENS = "tokens:"
"""Before the name of a tensor that has a row for each real token of all items."""


def keys_of(inputs: Inputs) -> list[bytes | None]:
    """SHA-256 of each row's items; None where it has none, or where its padding is not at the end."""
    length = lengths_of(inputs)
    if "mask" in inputs.tensors and length is None:
        return [None] * len(inputs)
    found: list[bytes | None] = []
    start = 0
    for count in inputs.count.tolist():
        items = range(start, start + count)
        found.append(_key(inputs, items, length) if count else None)
        start += count
    return found


def _key(inputs: Inputs, items: range, length: Int[Tensor, " f"] | None) -> bytes:
    told = hashlib.sha256(str(len(items)).encode())
    for item in items:
        for name, tensor in sorted(inputs.tensors.items()):
            own = tensor[item]
            if length is not None and _is_sequence(tensor, inputs.tensors["mask"]):
                own = own[: int(length[item])]
            told.update(f"{name} {own.dtype} {tuple(own.shape)}\n".encode())
            told.update(_bytes(own))
    return told.digest()


def lengths_of(inputs: Inputs) -> Int[Tensor, " f"] | None:
    """How many tokens of each item are real; None where none is told, or not all padding is at the end."""
    mask = inputs.tensors.get("mask")
    if mask is None:
        return None
    length = mask.bool().sum(1)
    ends = torch.arange(mask.shape[1], device=mask.device) < length[:, None]
    return length if torch.equal(mask.bool(), ends) else None


def packed(inputs: Inputs) -> dict[str, Tensor]:
    """The tensors with padding left out, all items' tokens one after another; masks are not needed."""
    mask = inputs.tensors.get("mask")
    found: dict[str, Tensor] = {}
    for name, tensor in inputs.tensors.items():
        if mask is None or not _is_sequence(tensor, mask):
            found[name] = tensor
        elif name != "mask":
            found[TOKENS + name] = tensor[mask.bool()]
    return found


def unpacked(
    tensors: Mapping[str, Tensor], length: Int[Tensor, " f"] | None, items: int, cut: int
) -> Inputs:
    """One row of so many items, from what `packed` made of it."""
    if length is None:
        return Inputs(tensors, torch.tensor([items]), cut)
    mask = torch.arange(int(length.max())) < length[:, None]
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(TOKENS):
            found[name] = tensor
            continue
        padded = tensor.new_zeros(*mask.shape, *tensor.shape[1:])
        padded[mask] = tensor
        found[name.removeprefix(TOKENS)] = padded
    return Inputs({**found, "mask": mask}, torch.tensor([items]), cut)


def halved(inputs: Inputs) -> Inputs | None:
    """Numbers of 32 bits in 16; None where one is too large for them (65,504)."""
    found = {
        name: tensor.half() if tensor.dtype == torch.float32 else tensor
        for name, tensor in inputs.tensors.items()
    }
    whole = all(torch.equal(found[k].isfinite(), t.isfinite()) for k, t in inputs.tensors.items())
    return replace(inputs, tensors=found) if whole else None


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of all bytes, in the order of the names."""
    found = 0
    for _, tensor in sorted(tensors.items()):
        found = zlib.crc32(_bytes(tensor), found)
    return found


def _is_sequence(tensor: Tensor, mask: Tensor) -> bool:
    return tensor.shape[:2] == mask.shape


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
