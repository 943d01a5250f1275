"""What CLIP and SigLIP compare pictures and texts by, beside their towers.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
https://arxiv.org/abs/2103.00020; Zhai et al., "Sigmoid Loss for Language Image Pre-Training",
https://arxiv.org/abs/2303.15343
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from multiadapt.encoders._families._open import model_type, open_whole

__all__ = ["Own", "own_projections"]

_CLASSES: Mapping[str, str] = {"clip": "CLIPModel", "siglip": "SiglipModel"}


@dataclass(frozen=True)
class Own:
    """A checkpoint's own way from pooled vectors to where they are compared."""

    vision: nn.Module
    text: nn.Module
    temperature: float
    """What similarities are divided by. SigLIP adds a bias to them after that, which moves all alike:
    neither ranks nor contrast change, and it is left out."""


def own_projections(source: str, revision: str | None) -> Own | None:
    """Those of the CLIP or SigLIP that `source` names; None where it is a network of another type."""
    if source == "starter" or source.startswith(("random:", "timm:")):
        return None
    kind = model_type(source, "image", revision)
    if kind not in _CLASSES:
        return None
    network: Any = open_whole(source, _CLASSES, {}, revision).network
    temperature = math.exp(-float(network.logit_scale))
    if kind == "clip":
        return Own(network.visual_projection, network.text_projection, temperature)
    # A picture's vector is what SigLIP's attention head gives, which the vision tower ends with.
    return Own(nn.Identity(), network.text_model.head, temperature)
