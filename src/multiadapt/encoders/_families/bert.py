"""BERT, and what has its shape: MiniLM, E5, BGE, GTE.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
https://arxiv.org/abs/1810.04805
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

__all__ = ["Bert"]


class Bert(TextFamily):
    """Pooled vector: the mean over the tokens, unless the checkpoint says otherwise."""

    hosts: ClassVar = True
    classes: ClassVar = {"bert": "BertModel"}
    options: ClassVar = {"add_pooling_layer": False}
    known: ClassVar = {
        "bert-tiny": {
            "model_type": "bert",
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 512,
        },
        "bert-base": {"model_type": "bert"},
        "bert-large": {
            "model_type": "bert",
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
        "minilm": {
            "model_type": "bert",
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "intermediate_size": 1536,
        },
        "e5-small": {"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536},
    }

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        return self.network.embeddings(input_ids=tensors["ids"]), real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layer[index](state, sight.pairs(state))

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.intermediate_size
        return text_sites(self.network, ("embeddings.LayerNorm", self.width), BERT_LAYERS, inner)
