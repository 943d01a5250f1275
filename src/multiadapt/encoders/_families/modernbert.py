"""ModernBERT.

Warner et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder",
https://arxiv.org/abs/2412.13663
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Sight, fused
from multiadapt.encoders._families._text_family import TextFamily, real, text_sites
from multiadapt.types import Role, Site

__all__ = ["ModernBert"]

_LAYERS: Mapping[Role, str] = {
    "query": "layers.{}.attn.Wqkv",  # key and value too
    "out": "layers.{}.attn.Wo",
    "ffn_in": "layers.{}.mlp.Wi",  # twice as wide: what is activated, then its gates
    "ffn_mid": "layers.{}.mlp.drop",  # what is activated times its gates
    "ffn_out": "layers.{}.mlp.Wo",
    "ffn": "layers.{}.mlp",
    "residual": "layers.{}.mlp_norm",
    "block": "layers.{}",
}


class ModernBert(TextFamily):
    """Pooled vector: the mean over the normed tokens, unless the checkpoint says otherwise.

    Attention depends on how far two tokens are apart (rotary positions, and windows in two of three
    blocks), and a guest is nowhere: it is no host.
    """

    classes: ClassVar = {"modernbert": "ModernBertModel"}
    known: ClassVar = {
        "modernbert-base": {"model_type": "modernbert"},
        "modernbert-large": {
            "model_type": "modernbert",
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "intermediate_size": 2624,
        },
    }

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        return self.network.embeddings(input_ids=tensors["ids"]), real(tensors)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        layer = self.network.layers[index]
        at = torch.arange(state.shape[1], device=state.device)
        turned = self.network.rotary_emb(state, at[None], layer.attention_type)
        pairs = sight.pairs(state)
        if layer.attention_type == "sliding_attention":
            near = (at[:, None] - at).abs() <= self.network.config.sliding_window
            pairs = near[None, None] if pairs is None else near & pairs
        return layer(state, attention_mask=pairs, position_embeddings=turned)

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.final_norm(guests)

    def sites(self) -> tuple[Site, ...]:
        inner = self.network.config.intermediate_size
        found = text_sites(self.network, ("embeddings.norm", self.width), _LAYERS, inner)
        return fused(found, "query", ("query", "key", "value"))
