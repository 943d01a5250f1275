"""The vision tower of CLIP.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
https://arxiv.org/abs/2103.00020
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import TOWER_LAYERS, Family, Sight, transformer_sites
from multiadapt.types import Site

__all__ = ["Clip"]


class Clip(Family):
    """Pooled vector: the class token after the last norm, before the projection to texts."""

    hosts: ClassVar = True
    classes: ClassVar = {"clip": "CLIPVisionModel", "clip_vision_model": "CLIPVisionModel"}
    known: ClassVar = {
        "clip-vit-base": {"model_type": "clip_vision_model", "patch_size": 32},
        "clip-vit-base-patch16": {"model_type": "clip_vision_model", "patch_size": 16},
    }

    def __init__(self, network: Any) -> None:
        self.network = network
        self.width = network.config.hidden_size
        self.blocks = len(network.encoder.layers)
        self.least = network.config.patch_size

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        pixels, native = tensors["pixels"], self.network.config.image_size
        other = tuple(pixels.shape[2:]) != (native, native)
        state = self.network.embeddings(pixels, interpolate_pos_encoding=other)
        return self.network.pre_layrnorm(state), None  # the library's own spelling

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layers[index](state, sight.pairs(state))

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        return state, self.network.post_layernorm(state[:, 0])

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.post_layernorm(guests)

    def sites(self) -> tuple[Site, ...]:
        return transformer_sites(
            self.network, ("pre_layrnorm", self.width), TOWER_LAYERS, self.blocks, self.width
        )
