"""Films to frames: only those that are asked for are kept, and little more is decoded.

What a header says of rate, length or number of frames is not believed: a frame is found by its own
presentation time, and the film ends where the times of its packets end.
"""

import importlib
import io
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from heapq import nlargest
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from multiadapt.data.images import PIXELS
from multiadapt.errors import CellError, ExtraError

__all__ = ["Film", "Span", "opened"]

FORMATS = ("MP4", "MOV", "WebM", "MKV", "AVI", "MPEG", "FLV", "GIF", "OGG", "WMV")
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,gif,ogg,asf,nut"
"""FFmpeg knows more, some of which open other files or addresses (playlists) or guess (raw streams)."""
FAR = 2
"""Seconds to the next wanted frame from which on it is worth a jump."""
LATE = 2**40
"""A time beyond every film's end, in a stream's own units: 140 days of the finest in use."""


class Span(NamedTuple):
    """When the first frame is shown, and when the last one ends, in the stream's own units."""

    start: Fraction
    end: Fraction


@contextmanager
def opened(film: Path | bytes) -> Iterator["Film"]:
    """A film whose header has been read. CellError: none, cut short, without pictures, or damaged."""
    av = _av()
    try:
        with film.open("rb") if isinstance(film, Path) else io.BytesIO(film) as file:
            if not (start := file.read(12)):
                raise CellError("the file is empty (0 bytes)")
            _check_whole(file)
        with ExitStack() as stack:

            def open_anew() -> Any:
                stack.close()
                source = f"file:{film}" if isinstance(film, Path) else io.BytesIO(film)
                return stack.enter_context(_container(av, source, start))

            yield Film(open_anew, av.error.FFmpegError)
    except av.error.FFmpegError as error:
        raise CellError(f"the film is damaged: {error.strerror}") from error
    except OSError as error:
        raise CellError(f"the file cannot be read: {error}") from error


def _av() -> ModuleType:
    try:
        return importlib.import_module("av")
    except (ImportError, OSError) as error:  # OSError: the package without its libraries
        raise ExtraError("films are read by PyAV: pip install multiadapt[video]") from error


def _container(av: ModuleType, source: object, start: bytes) -> Any:
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        return av.open(source, container_options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise CellError(
            f"not a film in {', '.join(FORMATS)}, or a damaged one: it starts with {start!r} "
            f"({error.strerror})"
        ) from error


def _stream(container: Any) -> Any:
    """The first stream of pictures; the cover of a record is none."""
    found = [s for s in container.streams.video if not s.disposition.value & 0x400]
    if not found:
        if container.streams.audio:
            raise CellError("it holds sound but no pictures: declare the column audio")
        raise CellError("it has no frames: empty the cell if there is no film")
    context = found[0].codec_context
    if context is None:
        raise CellError("its pictures are in a coding that this build of FFmpeg does not know")
    if context.width * context.height > PIXELS:
        raise CellError(
            f"{context.width} x {context.height} pixels are more than {PIXELS}: make it smaller"
        )
    context.thread_count = 1  # several films are decoded at once
    return found[0]


class Film:
    """The frames of an opened film, which is read from front to back, with jumps."""

    def __init__(self, open_anew: Callable[[], Any], error: type[Exception]) -> None:
        """`error` is what a container raises that cannot seek."""
        self.decoded = 0
        """How many frames have been decoded so far."""
        self._open_anew, self._error = open_anew, error
        self._jumps = True
        self._last: tuple[Any, np.ndarray] | None = None
        self._next: Any = None
        self._restart()
        if self._shown is None:
            raise CellError("it has no frames: empty the cell if there is no film")
        self._start = _when(self._shown) or 0
        rate, unit = self.stream.average_rate, self.stream.time_base
        self._step = 1 / (rate * unit) if rate else Fraction(0)

    def span(self) -> Span:
        """From the first frame's time to the end of the last, which lasts as long as the one before.

        Jumps to the end and reads packets, without decoding; where a file cannot be jumped in, all of
        it is read so. Afterwards the film stands at its start again.
        """
        found = self._last_times(LATE)
        if len(found) == 1:  # every frame is a place to jump to
            found = self._last_times(found[0] - 1)
        if len(found) < 2:
            self._open()
            found = self._last_times(None)
        start = self._even(self._start)
        self._jump(start)
        end, before = map(self._even, (*found, self._start, self._start - 1)[:2])
        return Span(start, end + max(end - before, Fraction(1)))

    def _last_times(self, at: int | None) -> list[int]:
        """The two last times of the packets from a place on; of all that come if it is None."""
        if at is not None and not self._seek(at):
            return []
        found: list[int] = []
        for packet in self.container.demux(self.stream):
            when = _when(packet)
            if packet.size and not packet.is_discard and when is not None and when not in found:
                found = nlargest(2, [*found, when])
        return found

    def at(self, moments: Sequence[Fraction]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """The frames that are shown at these times, which ascend, in the stream's own units."""
        return [self._shown_at(moment) for moment in moments]

    def every(self, step: int, count: int) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """The first frame and every `step`-th after it, until there are `count` or no more."""
        found = [self._image(self._shown)]
        frame, number = self._next, 1
        while frame is not None and len(found) < count:
            if number % step == 0:
                found.append(self._image(frame))
            frame, number = next(self._walk, None), number + 1
        return found

    def _shown_at(self, moment: Fraction) -> np.ndarray:
        if self._next is not None:
            ahead = moment - self._time(self._next)
            if self._jumps and ahead * self.stream.time_base > FAR:
                here = self._time(self._shown)
                self._jump(moment)
                self._jumps = self._time(self._shown) > here  # else the frames lie too far apart
        while self._next is not None and self._time(self._next) <= moment:
            self._shown, self._next = self._next, next(self._walk, None)
        return self._image(self._shown)

    def _jump(self, moment: Fraction) -> None:
        """Stand at a frame at or before a moment, the nearer the better."""
        for back in (0, 2, 20):
            if self._seek(max(self._start, int(moment - back / self.stream.time_base))):
                self._stand(self._frames())
                if self._shown is not None and self._time(self._shown) <= moment:
                    return
        self._restart()

    def _restart(self) -> None:
        """Stand at the first frame."""
        self._open()
        self._stand(self._frames())

    def _open(self) -> None:
        self.container = self._open_anew()
        self.stream = _stream(self.container)

    def _stand(self, walk: Iterator[Any]) -> None:
        self._walk = walk
        self._shown, self._next = next(walk, None), next(walk, None)

    def _seek(self, at: int) -> bool:
        """Go to a place before `at` from which decoding can start; False where there is no way."""
        try:
            self.container.seek(at, stream=self.stream, backward=True)
        except self._error:  # some formats know no other place than where they are
            return False
        return True

    def _frames(self) -> Iterator[Any]:
        """Frames in the order of their times, from the next one that needs none before it."""
        started = False
        for packet in self.container.demux(self.stream):
            started = started or packet.is_keyframe
            if started or not packet.size:
                for frame in packet.decode():
                    self.decoded += 1
                    yield frame

    def _time(self, frame: Any) -> Fraction:
        when = _when(frame)
        if when is None:
            raise CellError("the film is damaged: a frame says no time at which it is shown")
        return self._even(when)

    def _even(self, when: int) -> Fraction:
        """A time before it was rounded to the stream's units, if the rate that the header names explains
        it; a header that errs changes nothing by more than a unit."""
        if self._step >= 4:  # below that nothing was rounded, or nothing can be told
            even = self._start + round((when - self._start) / self._step) * self._step
            if abs(when - even) <= 1:
                return even
        return Fraction(when)

    def _image(self, frame: Any) -> np.ndarray:
        if self._last is None or self._last[0] is not frame:
            if frame.is_corrupt:
                raise CellError(f"the film is damaged at {float(frame.time or 0):.2f} s")
            self._last = (frame, _turned(frame.to_ndarray(format="rgb24"), frame))
        return self._last[1]


def _when(part: Any) -> int | None:
    """The time of a frame or packet: when it is shown, else, in old formats, when it is decoded."""
    return part.dts if part.pts is None else part.pts


def _turned(pixels: UInt8[np.ndarray, "h w 3"], frame: Any) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture as it is to be seen: a phone writes how it was held into a matrix beside it."""
    held = frame.side_data.get("DISPLAYMATRIX")
    if held is None:
        return pixels
    a, b, _, c, d = struct.unpack_from("=5i", bytes(held))
    # Where the columns and rows of the picture go: x' = a x + c y, y' = b x + d y.
    if abs(a) < abs(b):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _check_whole(file: io.BufferedIOBase) -> None:
    """FFmpeg decodes of a truncated file what there is, often without a word."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[4:8] in (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip"):
        read = _box
    elif start[:4] == b"RIFF":
        read = _riff
    elif start[:4] == b"\x1a\x45\xdf\xa3":
        read = _element
    else:
        return
    if (end := _promised(file, size, read)) > size:
        raise CellError(f"it is truncated: {size} of {end} bytes are there; fetch it again")


def _promised(file: io.BufferedIOBase, size: int, read: Callable[[bytes], int | None]) -> int:
    """Where the last part of a file ends, by its own word; the file's size where it says nothing."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length = read(file.read(16))
        if length is None:
            return size
        at += length
    return at


def _box(head: bytes) -> int | None:
    length = int.from_bytes(head[:4], "big")
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return length if length >= 8 and head[4:8].isalnum() else None


def _riff(head: bytes) -> int | None:
    length = int.from_bytes(head[4:8], "little")
    return 8 + length + length % 2 if head[:4] == b"RIFF" and length else None


def _element(head: bytes) -> int | None:
    """Matroska's numbers tell their own length by their leading zeros; all ones: not known."""
    name = 9 - head[0].bit_length()
    wide = 9 - head[name].bit_length() if name < 9 else 9
    if name > 4 or wide > 8:
        return None
    length = int.from_bytes(head[name : name + wide], "big") - (1 << 7 * wide)
    return None if length == (1 << 7 * wide) - 1 else name + wide + length
