"""An outline on a canvas, and the curves that drawers make outlines of."""

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["SILHOUETTE", "Points", "Sketch", "box", "ellipse", "jitter", "mirrored", "smooth"]

SILHOUETTE = 72  # pixels of a silhouette in the bank, drawn twice as large
Points = np.ndarray  # (n, 2), x to the right and y down, the canvas is [-1, 1]


class Sketch:
    """Two grey canvases: where the object is, and lines drawn on it."""

    def __init__(self, rng: np.random.Generator) -> None:
        size = 2 * SILHOUETTE
        self.images = [Image.new("L", (size, size), 0), Image.new("L", (size, size), 0)]
        self.alpha, self.detail = (ImageDraw.Draw(image) for image in self.images)
        self.bend = rng.normal(size=(3, 2)) * np.array([[0.05], [0.03], [0.015]])
        self.phase = rng.uniform(0, 2 * np.pi, (3, 2))
        self.stretch = np.exp(rng.normal(size=2) * 0.08)

    def fill(self, points: Points, value: int = 255) -> None:
        """Add the inside of an outline; value 0 cuts a hole."""
        self.alpha.polygon(self._place(points), fill=value)
        self.detail.line(self._place(np.vstack([points, points[:1]])), fill=110, width=1)

    def stroke(self, points: Points, width: float) -> None:
        """Add a thick line."""
        pixels = max(2, round(width * SILHOUETTE))
        self.alpha.line(self._place(points), fill=255, width=pixels, joint="curve")

    def mark(self, points: Points, width: float = 0.02, value: int = 255) -> None:
        """Draw a line on the object."""
        pixels = max(1, round(width * SILHOUETTE))
        self.detail.line(self._place(points), fill=value, width=pixels)

    def paint(self, points: Points, value: int) -> None:
        """Shade an area of the object."""
        self.detail.polygon(self._place(points), fill=value)

    def pixels(self) -> np.ndarray:
        return np.stack([np.asarray(image.reduce(2)) for image in self.images])

    def _place(self, points: Points) -> list[tuple[float, float]]:
        """Bend smoothly, so that no two drawings of one class are equal."""
        moved = np.asarray(points, dtype=float) * self.stretch
        for wave, (bend, phase) in enumerate(zip(self.bend, self.phase, strict=True), start=1):
            moved = moved + bend * np.sin(1.7 * wave * moved[:, ::-1] + phase)
        return [tuple(point) for point in (moved * 0.9 + 1) * SILHOUETTE]


def mirrored(right: Points) -> Points:
    """Close a right half, listed from top to bottom, with its mirror image."""
    right = np.asarray(right, dtype=float)
    return np.vstack([right, right[::-1] * [-1, 1]])


def smooth(points: Points, count: int = 60, *, closed: bool = False) -> Points:
    """A Catmull-Rom spline through the points."""
    points = np.asarray(points, dtype=float)
    around = [points[-1:], points, points[:2]] if closed else [points[:1], points, points[-1:]]
    padded = np.vstack(around)
    spans = len(padded) - 3
    where = np.linspace(0, spans - 1e-6, count)
    i, t = where.astype(int), (where % 1)[:, None]
    p0, p1, p2, p3 = (padded[i + offset] for offset in range(4))
    curve = 2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
    return (curve + (3 * p1 - p0 - 3 * p2 + p3) * t**3) / 2


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 1) -> Points:
    angle = np.linspace(start, end, 40) * 2 * np.pi
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def jitter(rng: np.random.Generator, value: float, share: float = 0.12) -> float:
    return value * (1 + share * rng.normal())
