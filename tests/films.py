"""Films made by the tests: frame k is of one colour that says k, in a coding that loses nothing."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from jaxtyping import UInt8

__all__ = ["film", "number", "picture", "sound_only"]

CODINGS = {
    "mp4": ("libx264rgb", "rgb24", {"qp": "0"}),
    "mpegts": ("libx264rgb", "rgb24", {"qp": "0"}),
    "matroska": ("ffv1", "bgr0", {}),
    "avi": ("ffv1", "bgr0", {}),
    "nut": ("rawvideo", "rgb24", {}),
    "mov": ("png", "rgb24", {}),
}
"""By format: how its pictures are coded, their layout, and options."""


def picture(k: int, height: int = 24, width: int = 32) -> UInt8[np.ndarray, "h w 3"]:
    """A frame that says k, 0..65535; its upper left corner is white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = k % 256, k // 256
    pixels[:4, :4] = 255
    return pixels


def number(pixels: UInt8[np.ndarray, "h w 3"]) -> int:
    """Which frame it is."""
    middle = pixels[len(pixels) // 2, pixels.shape[1] // 2]
    return int(middle[0]) + 256 * int(middle[1])


def film(
    frames: int | Sequence[np.ndarray],
    form: str = "mp4",
    *,
    rate: int | Fraction = 25,
    times: Sequence[int] | None = None,
    rotation: int | None = None,
    every: int | None = None,
) -> bytes:
    """A film's bytes, of numbered frames or of these.

    `times` are milliseconds; without them the rate is constant. `rotation` is in degrees, counted
    against the clock. `every` so many frames there is one to which a reader can jump.
    """
    coding, layout, options = CODINGS[form]
    shown = [picture(k) for k in range(frames)] if isinstance(frames, int) else frames
    held = io.BytesIO()
    with av.open(held, "w", format=form) as container:
        options = options | ({"g": str(every), "preset": "ultrafast"} if every else {})
        stream = container.add_stream(coding, rate=rate, options=options)
        stream.pix_fmt = layout
        if len(shown):
            stream.height, stream.width = shown[0].shape[:2]
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for k, pixels in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode() if len(shown) else [])
        if not len(shown):
            container.start_encoding()
    return held.getvalue()


def sound_only(form: str = "matroska") -> bytes:
    """A file that might hold a film and holds half a second of silence."""
    held = io.BytesIO()
    with av.open(held, "w", format=form) as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return held.getvalue()
