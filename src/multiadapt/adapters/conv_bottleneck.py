"""Convolutional bottleneck adapter after a block of a CNN.

"Parameter-Efficient Adapter Tuning for Tabular-Image Multimodal Learning" (BCAdapter),
https://arxiv.org/abs/2606.11682
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from multiadapt import processes
from multiadapt.adapters._base import Activation, AdapterSpec, activation, shared
from multiadapt.adapters._joint_norm import joint_norm
from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.types import Site

__all__ = ["ConvBottleneck"]


@dataclass(frozen=True)
class ConvBottleneck(AdapterSpec):
    """`F~ = F + alpha * norm(Conv1x1_up(act(Conv3x3_down(F))))` on every block's feature map."""

    r: int = 16
    """Channels of the bottleneck, at least 1."""
    alpha: float = 1.0
    """Scale of the correction."""
    activation: Activation = "relu"
    norm: Literal["batch"] | None = "batch"
    """BatchNorm after the up-convolution: what the published counts include. A training batch with one
    value per channel has no spread and is normed by the running statistics. Several processes norm by the
    statistics of all their rows."""
    init: Literal["zero", "normal"] = "zero"
    """zero: step 0 equals the frozen model. normal: usual initialisation everywhere."""
    share: bool = True
    """Streams that use one network share one adapter at each place of it."""

    def check(self) -> None:
        if self.r < 1:
            raise SpecError(f"r must be at least 1, got {self.r}")

    def build(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        chosen = [s for s in sites if s.role == "block" and s.layout == "map"]
        built: dict[Site, Adapter] = {}
        for group in shared(chosen, share=self.share):
            built |= dict.fromkeys(group, _ConvBottleneck(group[0].out_width, self))
        return built


class _ConvBottleneck(Adapter):
    output_only = True

    def __init__(self, channels: int, spec: ConvBottleneck) -> None:
        super().__init__()
        self.alpha = spec.alpha
        self.keeps_statistics = spec.norm is not None
        self.down = nn.Conv2d(channels, spec.r, kernel_size=3, padding=1)
        self.act = activation(spec.activation)
        self.up = nn.Conv2d(spec.r, channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(channels) if spec.norm else nn.Identity()
        if spec.init == "zero":
            # Under a norm a zero `up` jumps to 0.4 of the features' spread in AdamW's first step.
            gate = self.norm if spec.norm else self.up
            nn.init.zeros_(gate.weight)  # type: ignore[arg-type]
            nn.init.zeros_(gate.bias)  # type: ignore[arg-type]

    def forward(
        self, xs: tuple[Tensor, ...], y: Float[Tensor, "b d h w"]
    ) -> Float[Tensor, "b d h w"]:
        hidden = self.act(self.down(y))
        raised = self.up(hidden)
        spared = _Spared(self.up, hidden, raised)
        with saved_tensors_hooks(spared.pack, spared.unpack):
            correction = self._normed(raised)
        return torch.add(y, correction, alpha=self.alpha)

    def _normed(self, raised: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        norm, alone = self.norm, raised.numel() == raised.shape[1]
        if not (self.training and isinstance(norm, nn.BatchNorm2d)):
            return norm(raised)
        if (group := processes.current()) is not None:
            return joint_norm(norm, raised, group)
        if not alone:
            return norm(raised)
        mean, var = norm.running_mean, norm.running_var
        return F.batch_norm(raised, mean, var, norm.weight, norm.bias, eps=norm.eps)


class _Spared:
    """Keeps the up-convolution's output out of what autograd saves for the norm.

    It is as large as the block's own output, and the backward pass has it again, to the same bits, from
    the r channels that autograd keeps anyway. Would fail if the weights changed between the two passes.
    """

    def __init__(self, up: nn.Conv2d, hidden: Tensor, raised: Tensor) -> None:
        self.up, self.hidden = up, hidden.detach()
        self.place, self.shape, self.dtype = raised.data_ptr(), raised.shape, raised.dtype

    def pack(self, saved: Tensor) -> "Tensor | _Spared":
        same = saved.data_ptr() == self.place and saved.shape == self.shape
        return self if same else saved

    @torch.no_grad()
    def unpack(self, kept: "Tensor | _Spared") -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        weight, bias = self.up.weight.to(self.dtype), cast(Tensor, self.up.bias).to(self.dtype)
        return F.conv2d(
            self.hidden.to(self.dtype), weight, bias
        )  # as autocast did, which has ended
