"""The text tower of BLIP, without the layers that look at a picture.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from multiadapt.encoders._families._base import Sight
from multiadapt.encoders._families._text_family import (
    BERT_LAYERS,
    TextFamily,
    added,
    real,
    text_sites,
)
from multiadapt.types import Site

__all__ = ["BlipText"]


class BlipText(TextFamily):
    """Pooled vector: the first token, which is what BLIP compares with pictures."""

    hosts: ClassVar = True
    rule: ClassVar = "cls"
    classes: ClassVar = {"blip": "BlipTextModel", "blip_text_model": "BlipTextModel"}
    options: ClassVar = {"add_pooling_layer": False}
    known: ClassVar = {
        "blip-text-base": {"model_type": "blip_text_model", "num_attention_heads": 12},
    }

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        return self.network.embeddings(input_ids=tensors["ids"]), real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layer[index](
            state, attention_mask=added(sight.pairs(state), state)
        )

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.intermediate_size
        return text_sites(self.network, ("embeddings.LayerNorm", self.width), BERT_LAYERS, inner)
