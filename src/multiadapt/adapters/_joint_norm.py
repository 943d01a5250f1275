"""BatchNorm whose statistics are those of the rows of all processes. torch's SyncBatchNorm refuses the CPU."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.processes import Group

__all__ = ["joint_norm"]


def joint_norm(
    norm: nn.BatchNorm2d, x: Float[Tensor, "b d h w"], group: Group
) -> Float[Tensor, "b d h w"]:
    """What `norm` makes of the batch in training, and what it keeps of it, the same in all processes.

    One value per channel, over all of them, has no spread and is normed by the running statistics.
    """
    found = _statistics(x.detach(), group)
    if found.values > 1:
        _keep(norm, found)
        return _Norm.apply(x, norm.weight, norm.bias, found, norm.eps, group)  # type: ignore[return-value]
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )


class _Found(NamedTuple):
    values: int
    """How many a channel has."""
    mean: Float[Tensor, " d"]
    var: Float[Tensor, " d"]


def _statistics(x: Float[Tensor, "b d h w"], group: Group) -> _Found:
    """Joined from mean and variance of each process: a difference of sums of squares would lose digits."""
    own = x.new_zeros(1 + 2 * x.shape[1], dtype=torch.float32)
    if group.heard and x.numel():
        mean = x.float().mean((0, 2, 3))  # torch's own variance takes ten times as long
        var = (x - _per_channel(mean)).square_().mean((0, 2, 3))
        own = torch.cat([own.new_tensor([x.numel() // x.shape[1]]), mean, var])
    boards = group.boards(own).double()
    counts, means, variances = boards.split([1, x.shape[1], x.shape[1]], dim=1)
    count = counts.sum().clamp_min(1)
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean).square())).sum(0) / count
    return _Found(int(counts.sum()), mean.float(), var.float())


@torch.no_grad()
def _keep(norm: nn.BatchNorm2d, found: _Found) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    share = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(found.mean, share)
    norm.running_var.lerp_(found.var * found.values / (found.values - 1), share)


class _Norm(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias, where mean and deviation are of all processes' rows."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, found: _Found, eps: float, group: Group
    ) -> Tensor:
        ctx.save_for_backward(x, weight, found.mean, found.var)
        ctx.values, ctx.group, ctx.heard, ctx.eps = found.values, group, group.heard, eps
        return F.batch_norm(x, found.mean, found.var, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """As with fixed statistics, in one pass, and then what goes through mean and deviation."""
        x, weight, mean, var = ctx.saved_tensors
        scale = (var + ctx.eps).rsqrt()
        dx, slope, bias = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, weight, mean, var, mean, scale, False, ctx.eps, [True, True, True]
        )
        own = torch.cat([bias, slope])
        own = own if ctx.heard else torch.zeros_like(own)
        along, across = (ctx.group.all(own) / ctx.values).chunk(2)
        by_x = -weight * scale.square() * across
        rest = -weight * scale * along - by_x * mean
        dx = dx.float().addcmul_(x.float(), _per_channel(by_x)).add_(_per_channel(rest))
        dx = dx if ctx.heard else torch.zeros_like(dx)
        bias, slope = own.chunk(2)
        return dx.to(x.dtype), slope, bias, None, None, None


def _per_channel(t: Float[Tensor, " d"]) -> Float[Tensor, "d 1 1"]:
    return t[:, None, None]
