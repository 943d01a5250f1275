"""The vision tower of SigLIP.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", https://arxiv.org/abs/2303.15343
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import TOWER_LAYERS, Family, Sight, transformer_sites
from multiadapt.types import Site

__all__ = ["Siglip"]


class Siglip(Family):
    """Pooled vector: the pretrained attention head's; the tokens' mean where there is no head."""

    hosts: ClassVar = True
    classes: ClassVar = {"siglip": "SiglipVisionModel", "siglip_vision_model": "SiglipVisionModel"}
    known: ClassVar = {"siglip-base": {"model_type": "siglip_vision_model"}}

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
        return self.network.encoder.layers[index](state, sight.pairs(state))

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        tokens = self.network.post_layernorm(state)
        pooled = self.network.head(tokens) if self.network.use_head else tokens.mean(1)
        return tokens, pooled

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.post_layernorm(guests)

    def sites(self) -> tuple[Site, ...]:
        return transformer_sites(
            self.network, ("embeddings", 3), TOWER_LAYERS, self.blocks, self.width
        )
