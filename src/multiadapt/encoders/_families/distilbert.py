"""DistilBERT.

Sanh et al., "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
https://arxiv.org/abs/1910.01108
"""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from multiadapt.encoders._families._base import Sight
from multiadapt.encoders._families._text_family import (
    TextFamily,
    real,
    text_sites,
)
from multiadapt.types import Role, Site

__all__ = ["DistilBert"]

_LAYERS: Mapping[Role, str] = {
    "query": "transformer.layer.{}.attention.q_lin",
    "key": "transformer.layer.{}.attention.k_lin",
    "value": "transformer.layer.{}.attention.v_lin",
    "out": "transformer.layer.{}.attention.out_lin",
    "ffn_in": "transformer.layer.{}.ffn.lin1",
    "ffn_mid": "transformer.layer.{}.ffn.activation",
    "ffn_out": "transformer.layer.{}.ffn.lin2",
    "ffn": "transformer.layer.{}.ffn",
    "residual": "transformer.layer.{}.ffn",
    "block": "transformer.layer.{}",
}


class DistilBert(TextFamily):
    """Pooled vector: the mean over the tokens, unless the checkpoint says otherwise."""

    hosts: ClassVar = True
    classes: ClassVar = {"distilbert": "DistilBertModel"}
    known: ClassVar = {"distilbert-base": {"model_type": "distilbert"}}

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        return self.network.embeddings(input_ids=tensors["ids"]), real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.transformer.layer[index](state, sight.pairs(state))

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.hidden_dim
        return text_sites(self.network, ("embeddings.LayerNorm", self.width), _LAYERS, inner)
