"""Clips to frames.

A clip is a film, a folder of pictures in the order of their names (2 before 10), a list of pictures, or
an array (t, h, w, 3). Of each only the frames that its stream samples are read, and all clips give as
many: a shorter one shows some of its frames repeatedly.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from multiadapt.data.films import Film, opened
from multiadapt.data.guess import PICTURES
from multiadapt.data.images import opens, read_image
from multiadapt.data.reading import Reading, content, files, locate
from multiadapt.errors import CellError
from multiadapt.types import Clip, Sampling

__all__ = ["clips", "read_clip"]


@dataclass(frozen=True)
class Pictures:
    """Pictures that are one clip together, in order."""

    parts: tuple[object, ...]


def clips(
    cells: pd.Series,
    sampling: Sampling,
    reading: Reading,
    positions: Sequence[int] | np.ndarray | None = None,
) -> list[list[Clip]]:
    """The clips of each cell, in order; [] where it is missing or bad. Pictures alone are one clip."""
    held = cells.astype(object).map(_together)
    return reading.items(held, partial(read_clip, sampling=sampling), positions)


def read_clip(part: object, root: Path, sampling: Sampling) -> Clip:
    """A clip from a film's path or bytes, a folder, pictures, or an array. CellError where it is bad."""
    if isinstance(part, (str, Path)) and (path := locate(part, root, folder=True)).is_dir():
        return _of_pictures(_inside(path, root), root, sampling, _key(part))
    if isinstance(part, (str, Path, bytes)) and (_moves(part) or not _is_picture(part)):
        film = content(part, root) if isinstance(part, bytes) else locate(part, root)
        return _of_film(film, sampling, _key(part))
    if isinstance(part, Pictures):
        return _of_pictures(part.parts, root, sampling, len(part.parts))
    if isinstance(part, np.ndarray) and part.ndim == 4:
        return _of_pictures(part, root, sampling, len(part))
    return _of_pictures([part], root, sampling, 0)


def _together(value: object) -> object:
    """The cell, its pictures made one clip if it holds nothing else."""
    parts = files(value)
    film = len(parts) == 1 and _moves(parts[0])
    return [Pictures((*parts,))] if parts and not film and all(map(_is_picture, parts)) else value


def _is_picture(part: object) -> bool:
    if isinstance(part, np.ndarray):
        return part.ndim != 4
    if isinstance(part, bytes):
        return opens(part, Path()) is None
    return isinstance(part, Image.Image) or _suffix(part) in PICTURES


def _moves(part: object) -> bool:
    """A GIF is a film where it stands alone; in a list of pictures its first one is read."""
    return part[:3] == b"GIF" if isinstance(part, bytes) else _suffix(part) == ".gif"


def _suffix(part: object) -> str:
    return Path(part).suffix.lower() if isinstance(part, (str, Path)) else ""


def _inside(folder: Path, root: Path) -> list[str]:
    found = [path.name for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    home = folder.relative_to(root.resolve())
    return [str(home / name) for name in sorted(found, key=_natural) if not name.startswith(".")]


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Numbers by their value, so that frame 2 comes before frame 10; equal ones by their spelling."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name


def _key(part: str | Path | bytes) -> int:
    """What tells clips apart when frames are drawn: the same clip gets the same ones every time."""
    return zlib.crc32(part if isinstance(part, bytes) else str(part).encode(errors="surrogatepass"))


def _of_pictures(
    parts: Sequence[object] | np.ndarray, root: Path, sampling: Sampling, key: int
) -> Clip:
    if len(parts) == 0:
        raise CellError("it has no frames: empty the cell if there is no clip")
    if sampling.how == "stride":
        chosen = [i * sampling.stride for i in range(sampling.frames)]
    else:
        chosen = [int(share * len(parts)) for share in _shares(sampling, key)]
    chosen = [min(number, len(parts) - 1) for number in chosen]
    read: dict[int, np.ndarray] = {}
    for number in dict.fromkeys(chosen):
        try:
            read[number] = read_image(parts[number], root)
        except CellError as error:
            part = parts[number]
            name = f" ({str(part)!r})" if isinstance(part, (str, Path)) else ""
            raise CellError(f"picture {number + 1} of {len(parts)}{name}: {error}") from error
    return Clip(tuple(read[number] for number in chosen))


def _of_film(film: Path | bytes, sampling: Sampling, key: int) -> Clip:
    with opened(film) as frames:
        found = _sampled(frames, sampling, key)
    return Clip((*found, *[found[-1]] * (sampling.frames - len(found))))


def _sampled(film: Film, sampling: Sampling, key: int) -> list[np.ndarray]:
    if sampling.how == "stride":
        return film.every(sampling.stride, sampling.frames)
    start, end = film.span()
    return film.at([start + share * (end - start) for share in _shares(sampling, key)])


def _shares(sampling: Sampling, key: int) -> list[Fraction]:
    """Moments of a clip as shares of its length, one in each of as many equal segments as frames."""
    n = sampling.frames
    if sampling.how == "uniform":
        return [Fraction(2 * i + 1, 2 * n) for i in range(n)]
    drawn = np.random.default_rng([sampling.seed, key]).random(n).tolist()
    return [(i + Fraction(inner)) / n for i, inner in enumerate(drawn)]
