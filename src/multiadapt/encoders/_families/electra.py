"""ELECTRA.

Clark et al., "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
https://arxiv.org/abs/2003.10555
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

__all__ = ["Electra"]


class Electra(TextFamily):
    """Pooled vector: the mean over the tokens, unless the checkpoint says otherwise."""

    hosts: ClassVar = True
    classes: ClassVar = {"electra": "ElectraModel"}
    known: ClassVar = {
        "electra-small": {"model_type": "electra"},
        "electra-base": {
            "model_type": "electra",
            "embedding_size": 768,
            "hidden_size": 768,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
        },
    }

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        state = self.network.embeddings(input_ids=tensors["ids"])
        if self._projected():
            state = self.network.embeddings_project(state)
        return state, real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layer[index](state, sight.pairs(state))

    def sites(self) -> tuple[Site, ...]:
        config = self.network.config
        path = "embeddings_project" if self._projected() else "embeddings.LayerNorm"
        entry = (path, config.embedding_size)
        return text_sites(self.network, entry, BERT_LAYERS, config.intermediate_size)

    def _projected(self) -> bool:
        """Whether the embeddings are narrower than the blocks."""
        return self.network.config.embedding_size != self.width
