"""Opening an image network of timm, which is an extra."""

import importlib
from typing import Any

import torch

from multiadapt.encoders._base import Origin
from multiadapt.encoders._families._base import family_of
from multiadapt.encoders._families._open import Opened, explained, quiet, sealed
from multiadapt.encoders._families._pixels import PixelPreparation
from multiadapt.errors import ExtraError

__all__ = ["open_timm"]


def open_timm(source: str, size: int | None) -> Opened:
    """The network named "timm:NAME", or "random:timm:NAME" for one with random weights."""
    if not source.startswith("random:"):
        return sealed(_opened(source, source, size, pretrained=True))
    with torch.random.fork_rng(devices=[]):  # the caller's generator stays where it is
        torch.manual_seed(0)
        return sealed(_opened(source, source.removeprefix("random:"), size, pretrained=False))


def _opened(source: str, name: str, size: int | None, *, pretrained: bool) -> Opened:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ExtraError(f"{name} needs timm: pip install multiadapt[timm]") from error
    with quiet(), explained(source):
        network = timm.create_model(
            name.removeprefix("timm:"), pretrained=pretrained, num_classes=0
        )
    family = family_of(f"timm:{type(network).__name__}", "image", source)
    if size is not None and hasattr(network, "set_input_size"):
        network.set_input_size(img_size=(size, size))
    config: Any = network.pretrained_cfg
    licence = (config.get("license") or "unknown") if pretrained else "none: random weights"
    preparation = PixelPreparation.of_timm(config, size)
    return Opened(family(network), preparation, Origin(source, licence=licence))
