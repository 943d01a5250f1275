"""The text tower of SigLIP.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", https://arxiv.org/abs/2303.15343
"""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import TOWER_LAYERS, Sight
from multiadapt.encoders._families._text_family import TextFamily, real, text_sites
from multiadapt.types import Role, Site

__all__ = ["SiglipText"]

_LAYERS: Mapping[Role, str] = {
    **TOWER_LAYERS,
    "ffn_mid": "encoder.layers.{}.mlp.activation_fn",
}


class SiglipText(TextFamily):
    """Pooled vector: the last token after the last norm, before the projection to pictures.

    It was trained on texts filled up to one length, with padding that it sees, and in which it sums
    the text up: so they are filled up here too.
    """

    hosts: ClassVar = True
    rule: ClassVar = "last"
    fills: ClassVar = True
    classes: ClassVar = {"siglip": "SiglipTextModel", "siglip_text_model": "SiglipTextModel"}
    known: ClassVar = {"siglip-text-base": {"model_type": "siglip_text_model"}}

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        return self.network.embeddings(input_ids=tensors["ids"]), real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layers[index](state, sight.pairs(state))

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.final_layer_norm(guests)

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.intermediate_size
        return text_sites(
            self.network, ("embeddings", 1), _LAYERS, inner
        )  # it reads one id a token
