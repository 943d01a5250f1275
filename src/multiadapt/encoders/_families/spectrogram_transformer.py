"""Audio Spectrogram Transformer.

Gong et al., "AST: Audio Spectrogram Transformer", https://arxiv.org/abs/2104.01778
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight
from multiadapt.encoders._families._sound_family import sound_sites
from multiadapt.types import Role, Site

__all__ = ["SpectrogramTransformer"]

_LAYERS: dict[Role, str] = {
    "query": "layers.{}.attention.q_proj",
    "key": "layers.{}.attention.k_proj",
    "value": "layers.{}.attention.v_proj",
    "out": "layers.{}.attention.o_proj",
    "ffn_in": "layers.{}.mlp.fc1",
    "ffn_mid": "layers.{}.mlp.activation_fn",
    "ffn_out": "layers.{}.mlp.fc2",
    "ffn": "layers.{}.mlp",
    "residual": "layers.{}.layernorm_after",
    "block": "layers.{}",
}


class SpectrogramTransformer(Family):
    """Pooled vector: the mean of the class and the distillation token after the last norm.

    The network reads a fixed number of frames and looks at the empty ones behind a sound's end too.
    """

    modality: ClassVar = "audio"
    hosts: ClassVar = True
    classes: ClassVar = {"audio-spectrogram-transformer": "ASTModel"}
    known: ClassVar = {"ast-base": {"model_type": "audio-spectrogram-transformer"}}

    def __init__(self, network: Any) -> None:
        self.network = network
        self.width = network.config.hidden_size
        self.blocks = len(network.layers)
        self.least = 0

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        return self.network.embeddings(tensors["features"]), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.layers[index](state, sight.pairs(state))

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        tokens = self.network.layernorm(state)
        return tokens, (tokens[:, 0] + tokens[:, 1]) / 2

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.layernorm(guests)

    def sites(self) -> tuple[Site, ...]:
        bins = self.network.config.num_mel_bins
        return sound_sites(self.network, ("embeddings", bins), _LAYERS, self.blocks, self.width)
