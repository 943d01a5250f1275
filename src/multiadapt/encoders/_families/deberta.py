"""DeBERTa, versions 2 and 3.

He et al., "DeBERTaV3: Improving DeBERTa using ELECTRA-Style Pre-Training with Gradient-Disentangled
Embedding Sharing", https://arxiv.org/abs/2111.09543
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from multiadapt.encoders._families._base import Sight
from multiadapt.encoders._families._text_family import (
    BERT_LAYERS,
    TextFamily,
    real,
    text_sites,
)
from multiadapt.types import Role, Site

__all__ = ["Deberta"]

_LAYERS: Mapping[Role, str] = {
    **BERT_LAYERS,
    "query": "encoder.layer.{}.attention.self.query_proj",
    "key": "encoder.layer.{}.attention.self.key_proj",
    "value": "encoder.layer.{}.attention.self.value_proj",
}
_V3: Mapping[str, Any] = {
    "model_type": "deberta-v2",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}


class Deberta(TextFamily):
    """Pooled vector: the mean over the tokens, unless the checkpoint says otherwise.

    Attention depends on how far two tokens are apart, and a guest is nowhere: it is no host. Where the
    projections of query and key also read the distances, as in version 3, an adapter corrects both.
    """

    classes: ClassVar = {"deberta-v2": "DebertaV2Model"}
    known: ClassVar = {
        "deberta-v3-xsmall": {
            **_V3,
            "hidden_size": 384,
            "num_attention_heads": 6,
            "intermediate_size": 1536,
        },
        "deberta-v3-small": {**_V3, "num_hidden_layers": 6},
        "deberta-v3-base": _V3,
    }

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        mask = real(tensors)
        return self.network.embeddings(input_ids=tensors["ids"], mask=mask), mask

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        encoder, there = self.network.encoder, _there(sight, state)
        after = encoder.layer[index](
            state,
            encoder.get_attention_mask(there),
            relative_pos=encoder.get_rel_pos(state),
            rel_embeddings=encoder.get_rel_embedding(),
        )[0]
        if index == 0 and encoder.conv is not None:  # of version 2, beside the first block
            after = encoder.conv(state, after, there)
        return after

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.intermediate_size
        return text_sites(self.network, ("embeddings.LayerNorm", self.width), _LAYERS, inner)


def _there(sight: Sight, state: Float[Tensor, "f n d"]) -> Int[Tensor, "f n"]:
    """1 where a token is real: its code wants numbers, and always."""
    if sight.mask is None:
        return state.new_ones(state.shape[:2], dtype=torch.long)
    return sight.mask.long()
