"""wav2vec 2.0 and HuBERT.

Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations",
https://arxiv.org/abs/2006.11477; Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning
by Masked Prediction of Hidden Units", https://arxiv.org/abs/2106.07447
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight
from multiadapt.encoders._families._sound_family import real_mean, sound_sites
from multiadapt.errors import EncoderError
from multiadapt.types import Role, Site

__all__ = ["Wav2Vec2"]

_LAYERS: dict[Role, str] = {
    "query": "encoder.layers.{}.attention.q_proj",
    "key": "encoder.layers.{}.attention.k_proj",
    "value": "encoder.layers.{}.attention.v_proj",
    "out": "encoder.layers.{}.attention.out_proj",
    "ffn_in": "encoder.layers.{}.feed_forward.intermediate_dense",
    "ffn_mid": "encoder.layers.{}.feed_forward.intermediate_act_fn",
    "ffn_out": "encoder.layers.{}.feed_forward.output_dense",
    "ffn": "encoder.layers.{}.feed_forward",
    "block": "encoder.layers.{}",
}


class Wav2Vec2(Family):
    """Pooled vector: the mean of the real frames after the last norm.

    Every sound gets what the network says of it alone, whatever it is batched with. transformers'
    own batches do not where the first norm is over time (`feat_extract_norm="group"`: the base
    models), which then sees the padding.
    """

    modality: ClassVar = "audio"
    hosts: ClassVar = True
    classes: ClassVar = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel"}
    # Without masking there is no vector for masked frames, which many checkpoints lack.
    settings: ClassVar = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    known: ClassVar = {
        "wav2vec2-base": {"model_type": "wav2vec2"},
        "hubert-base": {"model_type": "hubert"},
    }

    def __init__(self, network: Any) -> None:
        if getattr(network, "adapter", None) is not None:
            raise EncoderError(
                "a network of type 'wav2vec2' must end with its transformer, this one has add_adapter="
                "True: convolutions behind it; choose a checkpoint without"
            )
        self.network = network
        self.width = network.config.hidden_size
        self.blocks = len(network.encoder.layers)
        self.least = 0
        self.norm_first = network.config.do_stable_layer_norm

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"] | None]:
        waves, lengths = tensors["waves"], tensors["mask"].sum(1)
        rows = {int(t): (lengths == t).nonzero()[:, 0] for t in lengths.unique()}
        parts = {t: self._frames(waves[chosen, :t]) for t, chosen in rows.items()}
        longest = max(part.shape[1] for part in parts.values())
        count = torch.zeros_like(lengths)
        state = next(iter(parts.values())).new_zeros(len(waves), longest, self.width)
        for t, part in parts.items():
            state[rows[t], : part.shape[1]] = part
            count[rows[t]] = part.shape[1]
        real = torch.arange(longest, device=waves.device) < count[:, None]
        state = self.network.encoder.dropout(state)
        return state, None if bool(real.all()) else real

    def _frames(self, waves: Float[Tensor, "f t"]) -> Float[Tensor, "f n d"]:
        """What enters block 0, of waves of one length."""
        encoder = self.network.encoder
        found = self.network.feature_extractor(waves).transpose(1, 2)
        found = self.network.feature_projection(found)
        found = found[0] if isinstance(found, tuple) else found  # HuBERT's gives one thing
        found = found + encoder.pos_conv_embed(found)
        return found if self.norm_first else encoder.layer_norm(found)

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.encoder.layers[index](state, sight.pairs(state))

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        tokens = self.leave(state)
        return tokens, real_mean(tokens, mask)

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.encoder.layer_norm(guests) if self.norm_first else guests

    def sites(self) -> tuple[Site, ...]:
        entry = ("encoder.dropout", self.width)
        return sound_sites(self.network, entry, _LAYERS, self.blocks, self.width)
