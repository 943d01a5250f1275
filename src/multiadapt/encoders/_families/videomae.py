"""VideoMAE.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", https://arxiv.org/abs/2203.12602
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight, transformer_sites
from multiadapt.types import Role, Site

__all__ = ["VideoMAE"]

_LAYERS: dict[Role, str] = {
    "query": "encoder.layer.{}.attention.attention.query",
    "key": "encoder.layer.{}.attention.attention.key",
    "value": "encoder.layer.{}.attention.attention.value",
    "out": "encoder.layer.{}.attention.output.dense",
    "ffn_in": "encoder.layer.{}.intermediate.dense",
    "ffn_out": "encoder.layer.{}.output.dense",
    "block": "encoder.layer.{}",
}


class VideoMAE(Family):
    """Tokens are tubelets: patches of two frames. Pooled vector: their mean, after the last norm where
    the network has one.

    A classifier's own norm of that mean belongs to its head and is left out. Its attention takes no
    mask, so guests look at the last tokens.
    """

    modality: ClassVar = "video"
    classes: ClassVar = {"videomae": "VideoMAEModel"}
    known: ClassVar = {
        "videomae-small": {
            "model_type": "videomae",
            "hidden_size": 384,
            "num_attention_heads": 6,
            "intermediate_size": 1536,
        },
        "videomae-base": {"model_type": "videomae"},
    }

    def __init__(self, network: Any) -> None:
        self.network = network
        self.width = network.config.hidden_size
        self.blocks = len(network.encoder.layer)
        patches = network.embeddings.patch_embeddings
        self.least = max(patches.patch_size)

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        return self.network.embeddings(tensors["pixels"], None), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layer[index](state)

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        norm = self.network.layernorm
        tokens = state if norm is None else norm(state)
        return tokens, tokens.mean(1)

    def sites(self) -> tuple[Site, ...]:
        return transformer_sites(self.network, ("embeddings", 3), _LAYERS, self.blocks, self.width)
