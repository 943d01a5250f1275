"""Parameter-free frame-aware attention: each frame of a clip counts by how near it is to what asks.

Lu et al., "UniAdapter: Unified Parameter-Efficient Transfer Learning for Cross-modal Modeling",
https://arxiv.org/abs/2302.06605, section 3.3
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from multiadapt.encoders._base import Encoder
from multiadapt.encoders._pretrained import PretrainedEncoder

__all__ = ["clips_of", "frame_weights", "middle", "similarity"]

_SOFTNESS = 4
"""What similarities of frames are divided by before their softmax."""


def clips_of(encoders: Mapping[str, Encoder]) -> str | None:
    """The one stream of clips that a network of pictures reads frame by frame, and pools by their mean;
    None where there is none, or where both sides are clips, so that nobody is left to ask."""
    clips = [e for e in encoders.values() if e.stream.modality == "video"]
    if len(clips) != 1 or not isinstance(own := clips[0], PretrainedEncoder):
        return None
    return own.stream.name if own.backbone.frames > 1 and own.pool is None else None


@torch.no_grad()
def frame_weights(
    text: Float[Tensor, "b e"],
    frames: Float[Tensor, "b t e"],
    tokens: int,
    real: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b n"]:
    """What the keys of each frame's tokens are multiplied with, T softmax_k(<t, f_k> / 4); frames' class
    tokens keep their keys.

    Texts and frames are vectors of length 1, as they are compared in retrieval; a frame has so many
    tokens, its class token first. Frames that are not `real` are padding and do not count.
    """
    near = torch.einsum("be,bte->bt", text, frames) / _SOFTNESS
    if real is None:
        real = torch.ones_like(near, dtype=torch.bool)
    share = near.masked_fill(~real, -torch.inf).softmax(1)
    each = (share * real.sum(1, keepdim=True))[..., None].repeat(1, 1, tokens)
    each[..., 0] = 1
    return each.flatten(1)


def similarity(one: Float[Tensor, "a n e"], other: Float[Tensor, "b m e"]) -> Float[Tensor, "a b"]:
    """Cosine similarity of all pairs.

    A row is one vector of length 1; or, on one side at most, the vectors of a clip's frames, of which the
    other side makes one: their mean with weights softmax_k(<t, f_k> / 4), through which no gradient flows.
    """
    if other.shape[1] > 1:
        return _asked(one[:, 0], other)
    if one.shape[1] > 1:
        return _asked(other[:, 0], one).T
    return one[:, 0] @ other[:, 0].T


def middle(points: Float[Tensor, "b n e"]) -> Float[Tensor, "b e"]:
    """One vector of length 1 a row, whoever asks: that of a clip is its frames' mean."""
    return points[:, 0] if points.shape[1] == 1 else F.normalize(points.mean(1), dim=-1)


def _asked(asking: Float[Tensor, "a e"], frames: Float[Tensor, "b t e"]) -> Float[Tensor, "a b"]:
    near = torch.einsum("ae,bte->abt", asking, frames)
    with torch.no_grad():
        lengths = frames.norm(dim=-1).clamp_min(1e-12)
        share = (near / lengths / _SOFTNESS).softmax(-1)
    by_clip = share.transpose(0, 1)
    squared = ((by_clip @ (frames @ frames.mT)) * by_clip).sum(-1)
    return (share * near).sum(-1) / squared.clamp_min(1e-12).sqrt().T
