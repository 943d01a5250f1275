"""ResNet, with basic or bottleneck blocks and any number of stages.

He et al., "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight, map_sites
from multiadapt.types import Role, Site

__all__ = ["ResNet"]

_LAYERS: Mapping[Role, tuple[str, ...]] = {
    "conv": (*(f"layer.{i}.convolution" for i in range(3)), "shortcut.convolution")
}


class ResNet(Family):
    """Pooled vector: the mean of the last feature map."""

    classes: ClassVar = {"resnet": "ResNetModel"}
    known: ClassVar = {
        name: {"model_type": "resnet", "layer_type": kind, "depths": depths, "hidden_sizes": widths}
        for name, kind, depths, widths in (
            ("resnet-18", "basic", [2, 2, 2, 2], [64, 128, 256, 512]),
            ("resnet-34", "basic", [3, 4, 6, 3], [64, 128, 256, 512]),
            ("resnet-50", "bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
            ("resnet-101", "bottleneck", [3, 4, 23, 3], [256, 512, 1024, 2048]),
        )
    }

    def __init__(self, network: Any) -> None:
        self.network = network
        self.layers = [layer for stage in network.encoder.stages for layer in stage.layers]
        self.width = network.config.hidden_sizes[-1]
        self.blocks = len(self.layers)
        self.least = 1

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        return self.network.embedder(tensors["pixels"]), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        return self.layers[index](state)

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        return state.flatten(2).transpose(1, 2), self.network.pooler(state).flatten(1)

    def sites(self) -> tuple[Site, ...]:
        config = self.network.config
        paths = [f"encoder.stages.{i}.layers" for i in range(len(config.depths))]
        stages = list(zip(paths, config.depths, config.hidden_sizes, strict=True))
        return map_sites(self.network, ("embedder", 3), config.embedding_size, stages, _LAYERS)
