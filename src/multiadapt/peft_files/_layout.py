"""Names in PEFT's folders, and where the networks are in our encoders."""

__all__ = ["CONFIG", "HOME", "PARTS", "ROOT", "TENSORS", "whole"]

HOME = "backbone.network."
"""Where an encoder holds its pretrained network."""
ROOT = "base_model.model."
"""Before every layer's path in PEFT's files."""
CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
PARTS = "multiadapt.json"
"""Beside PEFT's own files: the parts of fused layers."""


def whole(value: float) -> int | float:
    """A number as whole one where it is one but for rounding."""
    return round(value) if abs(value - round(value)) < 1e-9 * abs(value) else value
