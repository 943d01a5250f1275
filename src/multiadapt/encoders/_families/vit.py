"""Vision Transformer.

Dosovitskiy et al., "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight, transformer_sites
from multiadapt.types import Role, Site

__all__ = ["ViT"]

_LAYERS: dict[Role, str] = {
    "query": "layers.{}.attention.q_proj",
    "key": "layers.{}.attention.k_proj",
    "value": "layers.{}.attention.v_proj",
    "out": "layers.{}.attention.o_proj",
    "ffn_in": "layers.{}.mlp.fc1",
    "ffn_out": "layers.{}.mlp.fc2",
    "ffn": "layers.{}.mlp",
    "residual": "layers.{}.layernorm_after",
    "block": "layers.{}",
}


class ViT(Family):
    """Pooled vector: the class token after the last norm. The library's own pooler is left out."""

    hosts: ClassVar = True
    classes: ClassVar = {"vit": "ViTModel"}
    options: ClassVar = {"add_pooling_layer": False}
    known: ClassVar = {
        "vit-tiny": {
            "model_type": "vit",
            "hidden_size": 192,
            "num_attention_heads": 3,
            "intermediate_size": 768,
        },
        "vit-small": {
            "model_type": "vit",
            "hidden_size": 384,
            "num_attention_heads": 6,
            "intermediate_size": 1536,
        },
        "vit-base": {"model_type": "vit"},
    }

    def __init__(self, network: Any) -> None:
        self.network = network
        self.width = network.config.hidden_size
        self.blocks = len(network.layers)
        self.least = max(network.embeddings.patch_embeddings.patch_size)

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        pixels, native = tensors["pixels"], self.network.embeddings.image_size
        other = tuple(pixels.shape[2:]) != tuple(native)
        return self.network.embeddings(pixels, interpolate_pos_encoding=other), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.layers[index](state, sight.pairs(state))

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        tokens = self.network.layernorm(state)
        return tokens, tokens[:, 0]

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.layernorm(guests)

    def sites(self) -> tuple[Site, ...]:
        return transformer_sites(self.network, ("embeddings", 3), _LAYERS, self.blocks, self.width)
