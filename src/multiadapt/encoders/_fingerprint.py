"""The hash by which an artifact knows the frozen weights that it does not hold."""

import hashlib

import torch
from torch import nn

__all__ = ["fingerprint"]


def fingerprint(network: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
