"""ConvNeXt and ConvNeXt V2.

Liu et al., "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545;
Woo et al., "ConvNeXt V2", https://arxiv.org/abs/2301.00808
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight, map_sites
from multiadapt.types import Site

__all__ = ["ConvNext"]


class ConvNext(Family):
    """Pooled vector: the mean of the last feature map, after the last norm."""

    classes: ClassVar = {"convnext": "ConvNextModel", "convnextv2": "ConvNextV2Model"}
    known: ClassVar = {
        name: {"model_type": kind, "depths": depths, "hidden_sizes": widths}
        for name, kind, depths, widths in (
            ("convnext-tiny", "convnext", [3, 3, 9, 3], [96, 192, 384, 768]),
            ("convnext-base", "convnext", [3, 3, 27, 3], [128, 256, 512, 1024]),
            ("convnextv2-tiny", "convnextv2", [3, 3, 9, 3], [96, 192, 384, 768]),
        )
    }

    def __init__(self, network: Any) -> None:
        self.network = network
        self.width = network.config.hidden_sizes[-1]
        self.steps: list[tuple[Any, ...]] = []
        for stage in network.encoder.stages:
            first, *rest = stage.layers  # a stage's downsampling belongs to its first block
            self.steps += [(*stage.downsampling_layer, first), *((layer,) for layer in rest)]
        self.blocks = len(self.steps)
        self.least = network.config.patch_size * 2 ** (len(network.config.depths) - 1)

    def start(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        return self.network.embeddings(tensors["pixels"]), None

    def block(self, index: int, state: Tensor, sight: Sight) -> Tensor:
        for module in self.steps[index]:
            state = module(state)
        return state

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        return state.flatten(2).transpose(1, 2), self.network.layernorm(state.mean([-2, -1]))

    def sites(self) -> tuple[Site, ...]:
        config = self.network.config
        paths = [f"encoder.stages.{i}.layers" for i in range(len(config.depths))]
        widths = config.hidden_sizes
        found = map_sites(("embeddings", 3), widths[0], paths, config.depths, widths)
        # The downsampling before a stage is no part of its first block's module.
        return tuple(replace(s, in_width=s.out_width) if s.role == "block" else s for s in found)
