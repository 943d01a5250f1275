"""MPNet.

Song et al., "MPNet: Masked and Permuted Pre-training for Language Understanding",
https://arxiv.org/abs/2004.09297
"""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from multiadapt.encoders._families._base import Sight
from multiadapt.encoders._families._text_family import (
    TextFamily,
    added,
    real,
    text_sites,
)
from multiadapt.types import Role, Site

__all__ = ["MPNet"]

_LAYERS: Mapping[Role, str] = {
    "query": "encoder.layer.{}.attention.attn.q",
    "key": "encoder.layer.{}.attention.attn.k",
    "value": "encoder.layer.{}.attention.attn.v",
    "out": "encoder.layer.{}.attention.attn.o",
    "ffn_in": "encoder.layer.{}.intermediate.dense",
    "ffn_mid": "encoder.layer.{}.intermediate",
    "ffn_out": "encoder.layer.{}.output.dense",
    "ffn": "encoder.layer.{}.output.dense",
    "residual": "encoder.layer.{}.intermediate",
    "block": "encoder.layer.{}",
}


class MPNet(TextFamily):
    """Pooled vector: the mean over the tokens, unless the checkpoint says otherwise.

    Attention depends on how far two tokens are apart, and a guest is nowhere: it is no host.
    """

    unread: ClassVar = 2  # positions are counted from the padding's number, which is 1
    classes: ClassVar = {"mpnet": "MPNetModel"}
    options: ClassVar = {"add_pooling_layer": False}
    known: ClassVar = {"mpnet-base": {"model_type": "mpnet", "max_position_embeddings": 514}}

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        return self.network.embeddings(input_ids=tensors["ids"]), real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        encoder = self.network.encoder
        return encoder.layer[index](
            state, added(sight.pairs(state), state), encoder.compute_position_bias(state)
        )[0]

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.intermediate_size
        return text_sites(self.network, ("embeddings.LayerNorm", self.width), _LAYERS, inner)
