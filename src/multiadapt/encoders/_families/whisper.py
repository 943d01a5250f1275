"""The encoder of Whisper.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision",
https://arxiv.org/abs/2212.04356
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt.encoders._families._base import Family, Sight
from multiadapt.encoders._families._sound_family import real_mean, sound_sites
from multiadapt.types import Role, Site

__all__ = ["Whisper"]

_LAYERS: dict[Role, str] = {
    "query": "layers.{}.self_attn.q_proj",
    "key": "layers.{}.self_attn.k_proj",
    "value": "layers.{}.self_attn.v_proj",
    "out": "layers.{}.self_attn.out_proj",
    "ffn_in": "layers.{}.fc1",
    "ffn_mid": "layers.{}.activation_fn",
    "ffn_out": "layers.{}.fc2",
    "ffn": "layers.{}.fc2",  # no module is the FFN alone
    "residual": "layers.{}.final_layer_norm",
    "block": "layers.{}",
}


class Whisper(Family):
    """Pooled vector: the mean, after the last norm, of the frames that the sound reaches into.

    The network always hears its whole window, 30 s in the published checkpoints, and the silence
    behind a short sound with it. There is no site of role "entry": what enters block 0 is a sum.
    """

    modality: ClassVar = "audio"
    hosts: ClassVar = True
    window: ClassVar = True
    classes: ClassVar = {"whisper": "WhisperModel"}
    known: ClassVar = {"whisper-tiny": {"model_type": "whisper"}}

    def __init__(self, network: Any) -> None:
        self.network = network.encoder  # the decoder is let go
        self.width = network.config.d_model
        self.blocks = len(self.network.layers)
        self.least = 0

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Bool[Tensor, "f n"]]:
        network = self.network
        state = nn.functional.gelu(network.conv1(tensors["features"]))
        state = nn.functional.gelu(network.conv2(state)).transpose(1, 2)
        return state + network.embed_positions.weight, tensors["mask"]

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        everything = replace(sight, mask=None)
        return self.network.layers[index](state, everything.pairs(state))

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        tokens = self.network.layer_norm(state)
        return tokens, real_mean(tokens, mask)

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.layer_norm(guests)

    def sites(self) -> tuple[Site, ...]:
        entry = ("conv2", self.width)
        return sound_sites(self.network, entry, _LAYERS, self.blocks, self.width)[1:]
