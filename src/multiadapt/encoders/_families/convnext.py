"""ConvNeXt and ConvNeXt V2.

Liu et al., "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545;
Woo et al., "ConvNeXt V2", https://arxiv.org/abs/2301.00808
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from multiadapt.encoders._families._base import Family, Sight, layer_sites, map_sites
from multiadapt.types import Role, Site

__all__ = ["ConvNext"]

_LAYERS: Mapping[Role, tuple[str, ...]] = {
    "conv": ("dwconv",),
    "ffn_in": ("pwconv1",),  # convolutions of one pixel, as linear layers over the channels
    "ffn_out": ("pwconv2",),
}


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
        depths, widths = config.depths, config.hidden_sizes
        paths = [f"encoder.stages.{i}.layers" for i in range(len(depths))]
        stages = list(zip(paths, depths, widths, strict=True))
        found = map_sites(self.network, ("embeddings", 3), widths[0], stages, _LAYERS)
        # The downsampling before a stage is no part of its first block's module.
        found = tuple(replace(s, in_width=s.out_width) if s.role == "block" else s for s in found)
        return found + tuple(
            site
            for stage in range(1, len(depths))
            for site in layer_sites(
                self.network,
                next(s for s in found if s.stage == stage and s.role == "conv"),
                [f"encoder.stages.{stage}.downsampling_layer.1"],
                first=1,
            )
        )
