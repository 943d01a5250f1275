"""DINOv2, with and without registers.

Oquab et al., "DINOv2", https://arxiv.org/abs/2304.07193;
Darcet et al., "Vision Transformers Need Registers", https://arxiv.org/abs/2309.16588
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight, transformer_sites
from multiadapt.types import Role, Site

__all__ = ["Dinov2"]

_LAYERS: dict[Role, str] = {
    "query": "encoder.layer.{}.attention.q_proj",
    "key": "encoder.layer.{}.attention.k_proj",
    "value": "encoder.layer.{}.attention.v_proj",
    "out": "encoder.layer.{}.attention.o_proj",
    "ffn_in": "encoder.layer.{}.mlp.fc1",
    "ffn_out": "encoder.layer.{}.mlp.fc2",
    "ffn": "encoder.layer.{}.mlp",
    "residual": "encoder.layer.{}.norm2",
    "block": "encoder.layer.{}",
}
_GATED: dict[Role, str] = {
    "ffn_in": "encoder.layer.{}.mlp.up_proj",
    "ffn_out": "encoder.layer.{}.mlp.down_proj",
}


class Dinov2(Family):
    """Pooled vector: the class token after the last norm.

    In the gated MLP of the giant model `ffn_in` is the linear half, not the gate.
    """

    hosts: ClassVar = True
    classes: ClassVar = {
        "dinov2": "Dinov2Model",
        "dinov2_with_registers": "Dinov2WithRegistersModel",
    }
    known: ClassVar = {
        name: {
            "model_type": kind,
            "hidden_size": width,
            "num_attention_heads": width // 64,
            "image_size": 518,
            "patch_size": 14,
        }
        for name, kind, width in (
            ("dinov2-small", "dinov2", 384),
            ("dinov2-base", "dinov2", 768),
            ("dinov2-with-registers-small", "dinov2_with_registers", 384),
        )
    }

    def __init__(self, network: Any) -> None:
        self.network = network
        self.width = network.config.hidden_size
        self.blocks = len(network.encoder.layer)
        self.least = max(network.embeddings.patch_embeddings.patch_size)

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        return self.network.embeddings(tensors["pixels"]), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layer[index](state, sight.pairs(state))

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        tokens = self.network.layernorm(state)
        return tokens, tokens[:, 0]

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.layernorm(guests)

    def sites(self) -> tuple[Site, ...]:
        layers = _LAYERS | (_GATED if self.network.config.use_swiglu_ffn else {})
        return transformer_sites(self.network, ("embeddings", 3), layers, self.blocks, self.width)
