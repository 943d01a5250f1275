"""Pairs told apart one by one, after similarity has chosen which: two-stage evaluation and search."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiadapt.crossmodal._frames import similarity
from multiadapt.crossmodal._retrieval import RetrievalModel
from multiadapt.feed import Feed
from multiadapt.types import Tokens

__all__ = ["all_near", "logits", "near_of", "points_of", "two_stage"]

_PICTURES, _PAIRS = 32, 64
"""Pictures that are looked at while they are in memory, and pairs that are matched at once."""
_ROWS = 128
"""Rows whose similarities or scores to all others are computed at once."""

Rows: TypeAlias = Callable[[int, int], np.ndarray]
"""(b, t) scores of some rows, from a first and a last (not included)."""


def points_of(model: RetrievalModel, feed: Feed) -> Float[Tensor, "b n e"]:
    """What every row of one side is compared by."""
    (stream,) = feed.encoders
    model.eval()
    with torch.inference_mode():
        found = [
            model.vectors(model.tokens(batch))[stream].float().cpu()
            for batch in feed.batches(feed.in_order())
        ]
        return torch.cat(found or [_none(model, stream)])


def _none(model: RetrievalModel, stream: str) -> Float[Tensor, "0 1 e"]:
    """No rows, as wide as others are."""
    encoder = model.encoder(stream)
    pooled = model.heads.log_temperature.new_zeros(0, encoder.width)
    tokens = Tokens.single(pooled, pooled[:, 0].bool())
    return model.vectors({stream: tokens})[stream].float().cpu()


def all_near(
    one: Float[Tensor, "q n e"], other: Float[Tensor, "t m e"]
) -> Float[np.ndarray, "q t"]:
    """Similarity of all queries with all targets."""
    found = np.empty((len(one), len(other)), np.float32)
    for i in range(0, len(one), _ROWS):
        found[i : i + _ROWS] = similarity(one[i : i + _ROWS], other).numpy()
    return found


def near_of(
    one: Float[Tensor, "q n e"],
    asking: Int[np.ndarray, " p"],
    other: Float[Tensor, "t m e"],
    asked: Int[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """Similarity of pairs of rows of both sides; pairs of one who asks stand together."""
    ends = np.flatnonzero(np.diff(asking)) + 1
    found = [
        similarity(one[own[:1]], other[theirs])[0]
        for own, theirs in zip(np.split(asking, ends), np.split(asked, ends), strict=True)
    ]
    return torch.cat(found).numpy().astype(np.float64)


def logits(
    model: RetrievalModel,
    texts: Feed,
    pictures: Feed,
    text: Int[np.ndarray, " p"],
    picture: Int[np.ndarray, " p"],
    said: Float[Tensor, "b 1 e"] | None = None,
) -> Float[np.ndarray, " p"]:
    """The cross-modal pass's logit of a match, of each text with its picture or clip.

    Pictures are encoded once each, a few at a time, whoever asks for them. `said`: the vectors of all
    texts, which weigh frames; None: they are computed where there are frames.
    """
    found = np.zeros(len(text))
    blocks = pictures.in_order(_PICTURES)
    model.eval()
    with torch.inference_mode():
        for block, seen in zip(blocks, pictures.batches(blocks), strict=True):
            sight = model.sight(seen, model.tokens(seen))
            own = np.flatnonzero((picture >= block[0]) & (picture <= block[-1]))
            parts = [own[i : i + _PAIRS] for i in range(0, len(own), _PAIRS)]
            for part, read in zip(parts, texts.batches([text[p] for p in parts]), strict=True):
                there = torch.from_numpy(picture[part] - block[0]).to(sight.x.device)
                asking = None if said is None else said[text[part], 0].to(sight.x.device)
                pair = model.matched(read[model.texts], sight.rows(there), asking).float()
                found[part] = pair[:, 1].cpu().numpy()
    return found


def two_stage(
    near: Float[np.ndarray, "q t"],
    k: int,
    beta: float,
    tell: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[Rows, Rows]:
    """Scores both ways that rank each one's k nearest by what `tell` says of pairs (query, target) and
    `beta` times their similarity, and all others behind, as before.

    A pair that is among the nearest both ways is told once. Beside `near`, which may be large, no matrix
    is held: scores are made for some rows at a time.
    """
    chosen = [_nearest(way, k) for way in (near, near.T)]
    own = [np.broadcast_to(np.arange(len(c))[:, None], c.shape) for c in chosen]
    codes = [own[0] * near.shape[1] + chosen[0], chosen[1] * near.shape[1] + own[1]]
    pairs, places = np.unique(np.concatenate([c.ravel() for c in codes]), return_inverse=True)
    told = tell(pairs // near.shape[1], pairs % near.shape[1])[places]
    parts = np.split(told, [codes[0].size])
    forward, backward = (
        _scores(way, nearest, part.reshape(nearest.shape), beta)
        for way, nearest, part in zip((near, near.T), chosen, parts, strict=True)
    )
    return forward, backward


def _scores(
    near: Float[np.ndarray, "a b"],
    nearest: Int[np.ndarray, "a k"],
    told: Float[np.ndarray, "a k"],
    beta: float,
) -> Rows:
    def rows(start: int, stop: int) -> np.ndarray:
        part = near[start:stop].astype(np.float64, order="C")
        return _ranked(part, nearest[start:stop], told[start:stop], beta)

    return rows


def _nearest(near: Float[np.ndarray, "a b"], k: int) -> Int[np.ndarray, "a k"]:
    """Each row's k nearest, in no order."""
    found = np.empty((len(near), min(k, near.shape[1])), np.int64)
    for i in range(0, len(near), _ROWS):
        part = near[i : i + _ROWS].astype(np.float64, order="C")
        found[i : i + _ROWS] = np.argpartition(-part, found.shape[1] - 1, axis=1)[:, :k]
    return found


def _ranked(
    near: Float[np.ndarray, "a b"],
    nearest: Int[np.ndarray, "a k"],
    told: Float[np.ndarray, "a k"],
    beta: float,
) -> Float[np.ndarray, "a b"]:
    """Scores of these rows: the nearest by what was told, all others behind."""
    best = told + beta * np.take_along_axis(near, nearest, axis=1)
    behind = near + best.min(1, keepdims=True) - near.max(1, keepdims=True) - 1
    np.put_along_axis(behind, nearest, best, axis=1)
    return behind
