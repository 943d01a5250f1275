"""Frozen convolutions and norms of pictures that keep no activation for the backward pass.

torch keeps what such a layer reads, for the gradient of a weight that needs none: in a ResNet that is
most of what a training step holds.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["lean"]


def lean(network: nn.Module) -> nn.Module:
    """The network, whose convolutions and norms keep nothing while their weights are frozen.

    Classes, names, weights and outputs stay, to the bit; a layer whose weights are trained runs as ever. What
    they read is a batch, and no transform of `torch.func` passes them.
    """
    for layer in network.modules():
        # Not the layers derived from these, which alter weights or do more than their names say. A partial
        # function, unlike a method, can be pickled.
        if type(layer) is nn.Conv2d and _plain(layer):
            layer.forward = partial(_convolved, layer)  # type: ignore[method-assign]
        elif type(layer) is nn.BatchNorm2d and layer.track_running_stats and layer.affine:
            layer.forward = partial(_normed, layer)  # type: ignore[method-assign]
    return network


def _plain(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _convolved(layer: nn.Conv2d, x: Float[Tensor, "f d h w"]) -> Float[Tensor, "f e i j"]:
    if _only_through(layer, x):
        return _Convolved.apply(x, layer)  # type: ignore[return-value]
    return nn.Conv2d.forward(layer, x)


def _normed(layer: nn.BatchNorm2d, x: Float[Tensor, "f d h w"]) -> Float[Tensor, "f d h w"]:
    if _only_through(layer, x) and not layer.training:
        return _Normed.apply(x, layer)  # type: ignore[return-value]
    return nn.BatchNorm2d.forward(layer, x)


def _only_through(layer: nn.Module, x: Tensor) -> bool:
    """Whether a gradient is asked for, of what the layer reads and of none of its weights."""
    asked = torch.is_grad_enabled() and x.requires_grad
    return asked and not any(p.requires_grad for p in layer.parameters())


class _Convolved(torch.autograd.Function):
    """Would give a wrong gradient if the weight changed between the two passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Conv2d) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        ctx.shape, ctx.dtype = x.shape, x.dtype
        # Autocast would cast the weight here and, as it has ended by then, not in the other pass.
        kind, weight, bias = x.device.type, layer.weight, layer.bias
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        ctx.weight = weight
        padding: Any = layer.padding
        ctx.how, ctx.groups = (layer.stride, padding, layer.dilation), layer.groups
        return F.conv2d(x, weight, bias, *ctx.how, layer.groups)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        # Its shape and layout are read, never its values: memory that no one touches.
        unread = torch.empty(
            ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.layout
        )
        rest = (*ctx.how, False, (0, 0), ctx.groups, (True, False, False))
        found = torch.ops.aten.convolution_backward(grad, unread, ctx.weight, None, *rest)
        return found[0].to(ctx.dtype), None


class _Normed(torch.autograd.Function):
    """With fixed statistics a norm is a scale and a shift per channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
        ctx.layer = layer
        return nn.BatchNorm2d.forward(layer, x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        layer, (grad,) = ctx.layer, grads
        zero = torch.zeros_like(layer.running_mean)
        return F.batch_norm(grad, zero, layer.running_var, layer.weight, eps=layer.eps), None
