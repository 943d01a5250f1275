"""Low-rank adaptation of linear layers and convolutions, with PEFT's argument names.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685;
Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA",
https://arxiv.org/abs/2312.03732; Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation",
https://arxiv.org/abs/2402.09353
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.adapters._base import AdapterSpec, shared
from multiadapt.adapters._choice import check_blocks, check_roles, inside
from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.types import Convolution, Role, Site

__all__ = ["LoRA", "LowRank"]

_ROLES: tuple[Role, ...] = ("query", "key", "value", "out", "ffn_in", "ffn_out", "cross", "conv")
_Layer: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d


@dataclass(frozen=True)
class LoRA(AdapterSpec):
    """`W + lora_alpha / r * B A` in place of a frozen W; r (in + out) parameters a linear layer."""

    r: int = 8
    """Rank of the correction, at least 1."""
    lora_alpha: float = 8.0
    """Scale of the correction, which is divided by the rank."""
    lora_dropout: float = 0.0
    """Share of what the correction reads that is set to zero in training, in 0..1."""
    roles: tuple[Role, ...] = ("query", "value")
    """Which layers of a transformer to correct."""
    map_roles: tuple[Role, ...] = ("conv", "ffn_in", "ffn_out")
    """Which layers of a network of feature maps (CNN) to correct."""
    use_rslora: bool = False
    """Divide the scale by the root of the rank: large ranks then learn as quickly as small ones."""
    use_dora: bool = False
    """Learn the length of each output's weights apart from their direction."""
    init_lora_weights: Literal[True, "gaussian"] = True
    """A uniform as in torch's layers, or normal with deviation 1 / r. B is zero: step 0 is frozen."""
    blocks: str | None = None
    """Such as "last 4": only these blocks, so that those before are computed once. None: all."""
    share: bool = True
    """Streams that use one network share one adapter at each place of it."""

    def check(self) -> None:
        if self.r < 1:
            raise SpecError(f"r must be at least 1, got {self.r}")
        if self.lora_alpha <= 0:
            raise SpecError(f"lora_alpha must be above 0, got {self.lora_alpha}")
        if not 0 <= self.lora_dropout < 1:
            raise SpecError(f"lora_dropout must be in 0..1, below 1, got {self.lora_dropout}")
        check_roles((*self.roles, *self.map_roles), _ROLES, "LoRA")
        check_blocks(self.blocks)

    def build(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        chosen = inside(sites, self.roles, self.map_roles, self.blocks)
        built: dict[Site, Adapter] = {}
        for group in shared(chosen, share=self.share):
            built |= dict.fromkeys(group, LowRank(group[0], self))
        return built


class LowRank(Adapter):
    """The correction of one layer. A grouped convolution's is of its weight as a matrix."""

    def __init__(self, site: Site, spec: LoRA) -> None:
        super().__init__()
        self.spec = spec
        self.scaling = spec.lora_alpha / (spec.r**0.5 if spec.use_rslora else spec.r)
        self.part = site.part
        self.shape = site.convolution
        self.dropout = nn.Dropout(spec.lora_dropout)
        self.down, self.up = _layers(site, spec.r)
        if spec.init_lora_weights == "gaussian":
            nn.init.normal_(self.down.weight, std=1 / spec.r)
        nn.init.zeros_(self.up.weight)
        # Filled by `bind`, as the frozen weight is not known here.
        self.magnitude = nn.Parameter(torch.ones(site.out_width)) if spec.use_dora else None
        self._frozen: tuple[nn.Module, ...] = ()  # in a tuple: no submodule of this one

    @torch.no_grad()
    def bind(self, module: nn.Module) -> None:
        self._frozen = (module,)
        if self.magnitude is not None and not self.up.weight.any():
            self.magnitude.copy_(_lengths(self._weight() + self.delta()))

    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        (x,) = xs
        dropped = self.dropout(x)
        if self.magnitude is None:
            return torch.add(y, self._low(dropped), alpha=self.scaling)
        weight = self._weight()
        with torch.no_grad():  # the paper's section 4.3: the length is a constant to the gradient
            lengths = _lengths(weight + self.delta())
        ratio = self._by_channel(self.magnitude / lengths)
        base = self._base(dropped, weight, y)
        return y + ((ratio - 1) * base + ratio * self.scaling * self._low(dropped)).to(y.dtype)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        merged = weight + self.delta()
        if self.magnitude is not None:
            ratio = self.magnitude / _lengths(merged)
            merged = merged * ratio.view(-1, *[1] * (merged.ndim - 1))
        return merged, bias

    def company(self) -> Hashable:
        """Of one rank and scale, at layers of one shape."""
        if self.magnitude is not None or (self.shape is not None and self.shape.groups > 1):
            return None
        return "low rank", self.scaling, self.shape, self.down.weight.shape, self.up.weight.shape

    def in_company(
        self,
        adapters: Sequence[Adapter],
        sizes: Sequence[int],
        xs: tuple[Tensor, ...],
        y: Tensor,
    ) -> Tensor:
        """Products of stacked matrices; only wider kernels move over each adapter's items alone."""
        (x,), own = xs, cast(Sequence[LowRank], adapters)
        downs, ups = [a.down.weight for a in own], [a.up.weight for a in own]
        if self.shape is None:
            low = _stacked(_stacked(x, downs, sizes), ups, sizes)
            return torch.add(y, low, alpha=self.scaling)
        parts = zip(x.split([*sizes]), downs, strict=True)
        hidden = torch.cat([_convolve(part, down, self.shape) for part, down in parts])
        low = _stacked(hidden.movedim(1, -1), [up.flatten(1) for up in ups], sizes)
        return torch.add(y, low.movedim(-1, 1), alpha=self.scaling)

    def delta(self) -> Tensor:
        """What is added to the frozen weight, in its shape."""
        matrix = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        return self.scaling * matrix.unflatten(1, self.down.weight.shape[1:])

    def _low(self, x: Tensor) -> Tensor:
        if self.shape is None or self.shape.groups == 1:
            return self.up(self.down(x))
        return _convolve(x, self.delta() / self.scaling, self.shape)

    def _base(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        """The frozen layer's output without its bias; of the same dropped input as the correction."""
        if self.training and self.dropout.p > 0:
            return F.linear(x, weight) if self.shape is None else _convolve(x, weight, self.shape)
        bias = cast(Tensor | None, self._frozen[0].bias)
        return y if bias is None else y - self._by_channel(self._rows(bias))

    def _weight(self) -> Tensor:
        return self._rows(cast(Tensor, self._frozen[0].weight))

    def _rows(self, x: Tensor) -> Tensor:
        return x if self.part is None else x[self.part[0] : self.part[1]]

    def _by_channel(self, x: Float[Tensor, " d"]) -> Tensor:
        return x if self.shape is None else x.view(-1, *[1] * len(self.shape.kernel))


def _layers(site: Site, r: int) -> tuple[_Layer, _Layer]:
    """A and B, where both have weights but no bias."""
    shape = site.convolution
    if shape is None:
        return nn.Linear(site.in_width, r, bias=False), nn.Linear(r, site.out_width, bias=False)
    layer = nn.Conv1d if len(shape.kernel) == 1 else nn.Conv2d
    down = layer(
        site.in_width // shape.groups,
        r,
        shape.kernel,  # type: ignore[arg-type]
        shape.stride,  # type: ignore[arg-type]
        shape.padding,  # type: ignore[arg-type]
        shape.dilation,  # type: ignore[arg-type]
        bias=False,
    )
    return down, layer(r, site.out_width, 1, bias=False)


def _stacked(
    x: Float[Tensor, "f *n i"], weights: Sequence[Float[Tensor, "o i"]], sizes: Sequence[int]
) -> Float[Tensor, "f *n o"]:
    """The next so many items times each weight: one matrix a weight, or one an item where shares differ."""
    weight = torch.stack([*weights])
    if len(set(sizes)) > 1:
        whose = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        weight = weight[whose.to(weight.device)]
    found = torch.bmm(x.reshape(len(weight), -1, x.shape[-1]), weight.mT)
    return found.reshape(*x.shape[:-1], -1)


def _convolve(x: Tensor, weight: Tensor, shape: Convolution) -> Tensor:
    convolve = F.conv1d if len(shape.kernel) == 1 else F.conv2d
    return convolve(x, weight, None, shape.stride, shape.padding, shape.dilation, shape.groups)


def _lengths(weight: Tensor) -> Float[Tensor, " o"]:
    """Length of each output's weights; never zero, as a dead output's would be."""
    return weight.flatten(1).norm(dim=1).clamp_min(torch.finfo(weight.dtype).tiny)
