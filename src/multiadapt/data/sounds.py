"""Sounds to mono samples.

Whatever the file holds (8 to 32 bits or floats, any rate, several channels) becomes float32 in full
scale -1 to 1 at the rate it was recorded at; channels are mixed by their mean. Silence and clipping
are sounds like any other.
"""

import importlib
import io
import struct
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from multiadapt.data.reading import content
from multiadapt.errors import CellError, ExtraError
from multiadapt.types import Sound

__all__ = ["opens", "read_sound"]

FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
"""libsndfile knows more, which are rare or cannot be told from damaged ones."""
SAMPLES = 100_000_000
"""Most samples of all channels together, by the header: 37 minutes of mono at 44.1 kHz, 400 MB."""
RATES = (1_000, 384_000)
"""Least and most samples per second."""
CHANNELS = 64
"""Most columns of an array: one with more is likely to be lying on its side."""
STREAMED = 0x7FFF_0000
"""From here on a WAV header tells no size: who wrote it could not go back to fill it in."""


def opens(part: object, root: Path) -> str | None:
    """None if an item of a cell has the header of a sound, else the reason why not."""
    try:
        if isinstance(part, (str, Path, bytes)):
            _opened(content(part, root)).close()
        else:
            _held(part)
    except CellError as error:
        return str(error)
    return None


def read_sound(part: object, root: Path) -> Sound:
    """A sound from a path, its bytes, a `Sound`, or a pair of samples and their rate.

    The samples of a pair are (t,) or (t, channels): floats in full scale -1 to 1, or integers in the
    full scale of their type. CellError where it is bad.
    """
    if isinstance(part, (str, Path, bytes)):
        samples, rate = _decoded(content(part, root))
    else:
        samples, rate = _held(part)
    with np.errstate(over="ignore"):  # becomes infinite, which is told below
        mono = np.ascontiguousarray(samples.mean(1), dtype=np.float32)
    if not np.isfinite(mono).all():
        bad = np.count_nonzero(~np.isfinite(mono))
        raise CellError(f"{bad} of {len(mono)} samples are NaN or infinite: save the sound again")
    return Sound(mono, rate)


def _soundfile() -> ModuleType:
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError) as error:  # OSError: the package without its library
        raise ExtraError("sounds are read by soundfile: pip install multiadapt[audio]") from error


def _opened(held: bytes) -> Any:
    """A sound whose header has been read. CellError: none, too long, or of a kind nobody reads."""
    soundfile = _soundfile()
    try:
        file = soundfile.SoundFile(io.BytesIO(held))
    except soundfile.SoundFileError as error:
        why = getattr(error, "error_string", str(error))
        raise CellError(
            f"not a sound in WAV, FLAC, OGG or MP3, or a damaged one: it starts with {held[:12]!r} ({why})"
        ) from error
    if file.format not in FORMATS:
        raise CellError(f"{file.format} is not read: save it as WAV, FLAC, OGG or MP3")
    _check(file.frames, file.channels, file.samplerate)
    if file.format in ("WAV", "WAVEX"):
        _check_whole(held)
    return file


def _check(frames: int, channels: int, rate: int) -> None:
    if frames == 0:
        raise CellError("it has no samples: empty the cell if there is no sound")
    if frames * channels > SAMPLES:
        raise CellError(
            f"{frames} samples of {channels} channels are more than {SAMPLES} in all: cut it shorter"
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise CellError(f"{rate} samples per second are not within {RATES[0]}..{RATES[1]}")


def _check_whole(held: bytes) -> None:
    """libsndfile reads of a truncated WAV what there is, without a word."""
    at = 12
    while at + 8 <= len(held):
        name, size = struct.unpack_from("<4sI", held, at)
        at += 8
        if name == b"data":
            there = len(held) - at
            if there < size < STREAMED:
                raise CellError(
                    f"it is truncated: {there} of {size} bytes of sound are there; fetch it again"
                )
            return
        at += size + size % 2


def _decoded(held: bytes) -> tuple[np.ndarray, int]:
    """Samples (t, channels) and their rate."""
    error = _soundfile().SoundFileError
    with _opened(held) as file:
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except error as broken:
            why = getattr(broken, "error_string", str(broken))
            raise CellError(f"the sound is damaged: {why}") from broken
        if len(samples) != file.frames:
            raise CellError(
                f"it is truncated: {len(samples)} of {file.frames} samples are there; fetch it again"
            )
        return samples, file.samplerate


def _held(part: object) -> tuple[np.ndarray, int]:
    """Samples (t, channels) and their rate, of a sound that the table holds."""
    if isinstance(part, np.ndarray):
        raise CellError("samples alone tell no pitch: give a tuple (samples, samples per second)")
    if isinstance(part, Sound):
        part = (part.samples, part.rate)
    if not (isinstance(part, tuple) and len(part) == 2):
        raise CellError(
            "expected a path, bytes, a Sound or a tuple (samples, samples per second), "
            f"got {type(part).__name__}"
        )
    samples, rate = np.asarray(part[0]), part[1]
    if not isinstance(rate, Integral):
        raise CellError(f"samples per second must be a whole number, got {rate!r}")
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu" or samples.dtype == np.uint64:
        raise CellError(
            f"samples must be numbers of shape (t,) or (t, channels), got {samples.shape} of "
            f"{samples.dtype}"
        )
    columns = samples[:, None] if samples.ndim == 1 else samples
    if not 1 <= columns.shape[1] <= CHANNELS:
        raise CellError(
            f"samples must be (t, channels) with 1..{CHANNELS} channels, got {samples.shape}"
        )
    _check(len(columns), columns.shape[1], int(rate))
    return _full_scale(columns), int(rate)


def _full_scale(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        return samples
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = half if samples.dtype.kind == "u" else 0.0
    return (samples.astype(np.float64) - middle) / half
