"""The vision tower of BLIP.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import (
    TOWER_LAYERS,
    Family,
    Sight,
    fused,
    transformer_sites,
)
from multiadapt.types import Role, Site

__all__ = ["Blip"]

_LAYERS: Mapping[Role, str] = {
    **{role: path for role, path in TOWER_LAYERS.items() if role not in ("query", "key", "value")},
    "query": "encoder.layers.{}.self_attn.qkv",
    "out": "encoder.layers.{}.self_attn.projection",
}


class Blip(Family):
    """Pooled vector: the class token after the last norm, which is what BLIP compares with texts.

    Its attention takes no mask, so that it is no host of guests.
    """

    classes: ClassVar = {"blip": "BlipVisionModel", "blip_vision_model": "BlipVisionModel"}
    known: ClassVar = {
        "blip-vision-base": {"model_type": "blip_vision_model", "image_size": 224},
    }

    def __init__(self, network: Any) -> None:
        self.network = network
        self.width = network.config.hidden_size
        self.blocks = len(network.encoder.layers)
        self.least = network.config.patch_size

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        pixels, native = tensors["pixels"], self.network.config.image_size
        other = tuple(pixels.shape[2:]) != (native, native)
        return self.network.embeddings(pixels, interpolate_pos_encoding=other), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layers[index](state)

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        tokens = self.network.post_layernorm(state)
        return tokens, tokens[:, 0]

    def sites(self) -> tuple[Site, ...]:
        found = transformer_sites(self.network, ("embeddings", 3), _LAYERS, self.blocks, self.width)
        return fused(found, "query", ("query", "key", "value"))
