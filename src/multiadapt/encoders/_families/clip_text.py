"""The text tower of CLIP.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
https://arxiv.org/abs/2103.00020
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import TOWER_LAYERS, Sight
from multiadapt.encoders._families._text_family import TextFamily, real, text_sites
from multiadapt.types import Role, Site

__all__ = ["ClipText"]

_LAYERS: Mapping[Role, str] = {
    **TOWER_LAYERS,
    "ffn_mid": "encoder.layers.{}.mlp.activation_fn",
}


class ClipText(TextFamily):
    """Pooled vector: the closing token after the last norm, before the projection to pictures.

    A token looks at those before it only; guests look at all.
    """

    hosts: ClassVar = True
    rule: ClassVar = "last"
    classes: ClassVar = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel"}
    known: ClassVar = {"clip-text-base": {"model_type": "clip_text_model"}}

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        return self.network.embeddings(input_ids=tensors["ids"]), real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layers[index](state, _backward(state, sight))

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.final_layer_norm(guests)

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.intermediate_size
        return text_sites(
            self.network, ("embeddings", 1), _LAYERS, inner
        )  # it reads one id a token


def _backward(state: Float[Tensor, "f n d"], sight: Sight) -> Bool[Tensor, "#f 1 n n"]:
    """The pairs of which the second is not after the first; guests come last and have no place."""
    at = torch.arange(state.shape[1], device=state.device)
    order = (at <= at[:, None]) | (at >= len(at) - sight.guests)
    pairs = sight.pairs(state)
    return order[None, None] if pairs is None else order & pairs
