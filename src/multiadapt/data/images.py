"""Image cells to RGB arrays, and a report of all the cells that cannot be read.

Whatever the file holds (gray, palette, CMYK, 16 bit, transparent on white, turned by EXIF) becomes
(h, w, 3) uint8. Of an animation or a stack of pages the first picture is read.
"""

import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from multiadapt.data.bad_cells import BadCell, listing
from multiadapt.errors import CellError

__all__ = ["Reading", "files", "locate", "opens"]

LOG = logging.getLogger("multiadapt")
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


class Reading:
    """Reads image cells in any number of threads and remembers the bad ones.

    Relative paths start from `root`, and no path may leave it; None is the current folder. A cell
    with one bad file, or with more than `max_files`, is missing as a whole; `finish` then raises one
    error about all of them or, with on_error="missing", logs them.
    """

    def __init__(
        self,
        root: Path | None,
        max_files: int = 8,
        on_error: Literal["raise", "missing"] = "raise",
    ) -> None:
        self.root = root
        self.max_files = max_files
        self.on_error = on_error
        self._bad: dict[tuple[int, str, str], BadCell] = {}

    @property
    def bad(self) -> list[BadCell]:
        """The bad cells since the last `finish`, each once however often it was read."""
        return list(self._bad.values())

    def images(
        self, cells: pd.Series, positions: Sequence[int] | np.ndarray | None = None
    ) -> list[list[UInt8[np.ndarray, "h w 3"]]]:
        """One list of images per cell, in order; [] where the cell is missing or bad.

        `positions` tells where each cell stands in the caller's table, for the report.
        """
        column, root = str(cells.name), Path.cwd() if self.root is None else self.root
        places = range(len(cells)) if positions is None else positions
        rows = zip(cells.index, cells, places, strict=True)
        return [self._cell(value, (label, int(at), column), root) for label, value, at in rows]

    def _cell(
        self, value: object, place: tuple[Hashable, int, str], root: Path
    ) -> list[UInt8[np.ndarray, "h w 3"]]:
        parts = files(value)
        if len(parts) > self.max_files:
            reason = (
                f"a cell may hold at most {self.max_files} files, got {len(parts)}: shorten it or "
                "raise max_files"
            )
            self._note(BadCell(*place, _shown(value), reason))
            return []
        read: list[np.ndarray] = []
        for part in parts:
            try:
                read.append(_image(part, root))
            except CellError as error:
                self._note(BadCell(*place, _shown(part), str(error)))
                return []
        return read

    def _note(self, cell: BadCell) -> None:
        self._bad[cell.position, cell.column, cell.value] = cell  # atomic, so safe in threads

    def finish(self) -> None:
        """Report the bad cells, if any, and forget them. CellError where `on_error` is "raise"."""
        bad, self._bad = self.bad, {}
        if not bad:
            return
        lines = listing(
            bad, lambda b: f"{b.where}, column {b.column!r}, file {b.value}: {b.reason}"
        )
        if self.on_error == "missing":
            LOG.warning("%d unreadable cells are taken as missing:\n%s", len(bad), lines)
            return
        raise CellError(
            f"every image cell must be readable or missing; {len(bad)} are neither:\n{lines}\n"
            'Repair or empty these cells, or pass on_error="missing"'
        )


def files(value: object) -> list[object]:
    """The files of a cell: the items of a list, or of text between semicolons; [] where missing."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(";") if part.strip()]
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return [part for part in value if not _missing(part)]
    return [] if _missing(value) else [value]


def _missing(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _shown(part: object) -> str:
    return repr(str(part)[:200]) if isinstance(part, (str, Path)) else f"<{type(part).__name__}>"


def locate(part: str | Path, root: Path) -> Path:
    """The file that a cell names. CellError: it leaves the root, or there is none."""
    home = root.resolve()
    try:
        path = (home / part).resolve()
        if not path.is_relative_to(home):
            raise CellError(f"the path leads out of {home}: pass root= with a folder that holds it")
        if path.is_file():
            return path
        what = "a folder" if path.is_dir() else "no such file"
    except CellError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a loop of links
        what = f"no file name: {error}"
    raise CellError(
        f"{what} in {home}: correct the path, or pass root= with the folder it is relative to"
    )


def opens(part: object, root: Path) -> str | None:
    """None if an item of a cell has the header of an image, else the reason why not."""
    try:
        _opened(part, root)
    except CellError as error:
        return str(error)
    return None


def _image(part: object, root: Path) -> UInt8[np.ndarray, "h w 3"]:
    image = _opened(part, root)
    try:
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
    image = part if isinstance(part, Image.Image) else _from_bytes(_content(part, root))
    if image.width * image.height > PIXELS:
        raise CellError(
            f"{image.width} x {image.height} pixels are more than {PIXELS}: make it smaller"
        )
    if image.width * image.height == 0:
        raise CellError(f"{image.width} x {image.height} pixels are no image")
    return image


def _content(part: object, root: Path) -> bytes:
    if isinstance(part, (str, Path)):
        try:
            content = locate(part, root).read_bytes()
        except OSError as error:
            raise CellError(f"the file cannot be read: {error}") from error
    elif isinstance(part, bytes):
        content = part
    else:
        raise CellError(f"expected a path, image, uint8 array or bytes, got {type(part).__name__}")
    if not content:
        raise CellError("the file is empty (0 bytes)")
    return content


def _from_bytes(content: bytes) -> Image.Image:
    try:
        with _quiet():
            return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise CellError(
            f"not an image in {', '.join(FORMATS)}: it starts with {content[:12]!r}"
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
