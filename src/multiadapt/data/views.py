"""Pictures seen otherwise: cut and turned, for training to see more than there is.

A view is a pure function of its number and the picture, so that what a frozen network makes of it can be computed
once and kept, as of the picture itself.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

__all__ = ["viewed"]

_AREA = (0.5, 1.0)
"""Least and most share of the picture that is cut out."""
_ASPECT = (3 / 4, 4 / 3)
"""Of what is cut out, as a share of the picture's own."""


def viewed(
    rows: Sequence[Sequence[UInt8[np.ndarray, "_ _ 3"]]], view: int
) -> list[list[UInt8[np.ndarray, "_ _ 3"]]]:
    """The pictures of each row as view number `view` has them; 0: as they are."""
    return [[_cut(picture, view) if view else picture for picture in row] for row in rows]


def _cut(picture: UInt8[np.ndarray, "_ _ 3"], view: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """A part of it, in every second case turned left to right (as by RandomResizedCrop, Szegedy et al.,
    https://arxiv.org/abs/1409.4842, with half the picture at least)."""
    draw = np.random.default_rng([view, zlib.crc32(picture.tobytes())])
    height, width = picture.shape[:2]
    area, aspect = draw.uniform(*_AREA), np.exp(draw.uniform(*np.log(_ASPECT)))
    tall = max(1, min(height, round(height * (area / aspect) ** 0.5)))
    wide = max(1, min(width, round(width * (area * aspect) ** 0.5)))
    top, left = draw.integers(height - tall + 1), draw.integers(width - wide + 1)
    found = picture[top : top + tall, left : left + wide]
    return found[:, ::-1] if draw.random() < 0.5 else found
