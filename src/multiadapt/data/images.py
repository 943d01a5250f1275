"""Pictures to RGB arrays.

Whatever the file holds (gray, palette, CMYK, 16 bit, transparent on white, turned by EXIF) becomes
(h, w, 3) uint8. Of an animation or a stack of pages the first picture is read.
"""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from multiadapt.data.reading import content
from multiadapt.errors import CellError

__all__ = ["opens", "read_image"]

PIXELS = 178_956_970
"""Largest image in pixels, by its header: beyond it Pillow too calls a file a decompression bomb."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow knows more, some of which run other programs (EPS) or guess (TGA, ICO)."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
ORIENTATION = 0x0112
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's plugins raise on damaged files."""
FILTERS = threading.Lock()


def opens(part: object, root: Path) -> str | None:
    """None if an item of a cell has the header of an image, else the reason why not."""
    try:
        _opened(part, root)
    except CellError as error:
        return str(error)
    return None


def read_image(part: object, root: Path, least: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """A picture from a path, its bytes, an array or an image of Pillow. CellError where it is bad.

    Of a JPEG a half, a quarter or an eighth of the sides is decoded, which is several times as fast, as long
    as both are at least `least` pixels; None: all of it.
    """
    image = _opened(part, root)
    try:
        if least is not None and image.format == "JPEG" and min(image.size) >= 2 * least:
            image.draft(None, (least, least))
        image.load()
        with _quiet():
            turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
        pixels = _rgb(image)
    except BROKEN as error:
        raise CellError(f"the image is damaged: {error}") from error
    return np.array(
        pixels if turn is None else pixels.transpose(turn)
    )  # a copy: asarray is read-only


def _opened(part: object, root: Path) -> Image.Image:
    """An image whose header has been read. CellError: none, too large, or of a kind nobody reads."""
    if isinstance(part, np.ndarray):
        return _from_array(part)
    if isinstance(part, (str, Path, bytes)):
        image = _from_bytes(content(part, root))
    elif isinstance(part, Image.Image):
        image = part
    else:
        raise CellError(f"expected a path, image, uint8 array or bytes, got {type(part).__name__}")
    if image.width * image.height > PIXELS:
        raise CellError(
            f"{image.width} x {image.height} pixels are more than {PIXELS}: make it smaller"
        )
    if image.width * image.height == 0:
        raise CellError(f"{image.width} x {image.height} pixels are no image")
    return image


def _from_bytes(held: bytes) -> Image.Image:
    try:
        with _quiet():
            return Image.open(io.BytesIO(held), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise CellError(
            f"not an image in {', '.join(FORMATS)}: it starts with {held[:12]!r}"
        ) from error
    except BROKEN as error:
        raise CellError(f"the header is damaged or asks too much: {error}") from error


def _from_array(part: np.ndarray) -> Image.Image:
    channels = part.shape[2] if part.ndim == 3 else 1
    if (
        part.dtype != np.uint8
        or part.ndim not in (2, 3)
        or channels not in (1, 3, 4)
        or part.size == 0
    ):
        raise CellError(
            "expected an (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) array of uint8, "
            f"got {part.shape} of {part.dtype}"
        )
    return Image.fromarray(np.ascontiguousarray(part[:, :, 0] if part.shape[2:] == (1,) else part))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise CellError(
            f"pixels of mode {image.mode} have no fixed range: save it with 8 or 16 bits"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's remarks on odd headers are no business of the user's. Filters belong to the process:
    without the lock two threads would restore each other's, so only headers are read inside."""
    with FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
