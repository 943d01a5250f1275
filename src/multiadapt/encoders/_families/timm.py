"""timm's ResNet (with its many variants) and VisionTransformer."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight, fused, map_sites, transformer_sites
from multiadapt.types import Role, Site

__all__ = ["TimmResNet", "TimmViT"]

_LAYERS: dict[Role, str] = {
    "query": "blocks.{}.attn.qkv",  # query, key and value come out of one layer
    "out": "blocks.{}.attn.proj",
    "ffn_in": "blocks.{}.mlp.fc1",
    "ffn_out": "blocks.{}.mlp.fc2",
    "ffn": "blocks.{}.mlp",
    "block": "blocks.{}",
}
_CONVOLUTIONS: Mapping[Role, tuple[str, ...]] = {
    # The shortcut's stands first, or behind a pooling. Those of attention over channels stay out.
    "conv": ("conv1", "conv2", "conv3", "downsample.0", "downsample.1")
}


class TimmResNet(Family):
    """Pooled vector: what timm pools by the checkpoint's own rule, the mean by default."""

    classes: ClassVar = {"timm:ResNet": "ResNet"}

    def __init__(self, network: Any) -> None:
        self.network = network
        self.stages = [network.layer1, network.layer2, network.layer3, network.layer4]
        self.layers = [layer for stage in self.stages for layer in stage]
        self.width = network.num_features
        self.blocks = len(self.layers)
        self.least = 1

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        network = self.network
        state = network.bn1(network.conv1(tensors["pixels"]))
        return network.maxpool(network.act1(state)), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.layers[index](state)

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        return state.flatten(2).transpose(1, 2), self.network.forward_head(state, pre_logits=True)

    def sites(self) -> tuple[Site, ...]:
        stem, *widths = (info["num_chs"] for info in self.network.feature_info)
        stages = [
            (f"layer{i + 1}", len(stage), width)
            for i, (stage, width) in enumerate(zip(self.stages, widths, strict=True))
        ]
        return map_sites(self.network, ("maxpool", stem), stem, stages, _CONVOLUTIONS)


class TimmViT(Family):
    """Pooled vector: what timm pools by the checkpoint's own rule, after its norms."""

    hosts: ClassVar = True
    classes: ClassVar = {"timm:VisionTransformer": "VisionTransformer"}

    def __init__(self, network: Any) -> None:
        self.network = network
        self.width = network.num_features
        self.blocks = len(network.blocks)
        self.least = max(network.patch_embed.patch_size)

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        network = self.network
        state = network._pos_embed(network.patch_embed(tensors["pixels"]))
        return network.norm_pre(network.patch_drop(state)), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.network.blocks[index](state, attn_mask=sight.pairs(state))

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        tokens = self.network.norm(state)
        return tokens, self.network.forward_head(tokens, pre_logits=True)

    def leave(self, guests: Float[Tensor, "f g d"]) -> Float[Tensor, "f g d"]:
        return self.network.norm(guests)

    def sites(self) -> tuple[Site, ...]:
        paths = {name for name, _ in self.network.named_modules()}
        layers: dict[Role, str] = {
            role: path for role, path in _LAYERS.items() if path.format(0) in paths
        }
        found = transformer_sites(
            self.network, ("norm_pre", self.width), layers, self.blocks, self.width
        )
        return fused(found, "query", ("query", "key", "value"))
