"""RoBERTa, XLM-RoBERTa (the multilingual E5 and BGE-M3), CamemBERT.

Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", https://arxiv.org/abs/1907.11692
"""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from multiadapt.encoders._families._base import Sight
from multiadapt.encoders._families._text_family import (
    BERT_LAYERS,
    TextFamily,
    real,
    text_sites,
)
from multiadapt.types import Site

__all__ = ["Roberta"]


class Roberta(TextFamily):
    """Pooled vector: the mean over the tokens, unless the checkpoint says otherwise."""

    hosts: ClassVar = True
    unread: ClassVar = 2  # positions are counted from the padding's number, which is 1
    classes: ClassVar = {
        "roberta": "RobertaModel",
        "xlm-roberta": "XLMRobertaModel",
        "camembert": "CamembertModel",
    }
    options: ClassVar = {"add_pooling_layer": False}
    known: ClassVar = {
        "roberta-base": {
            "model_type": "roberta",
            "vocab_size": 50265,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
        },
        "xlm-roberta-base": {
            "model_type": "xlm-roberta",
            "vocab_size": 250002,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
        },
    }

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        return self.network.embeddings(input_ids=tensors["ids"]), real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layer[index](state, sight.pairs(state))

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.intermediate_size
        return text_sites(self.network, ("embeddings.LayerNorm", self.width), BERT_LAYERS, inner)
