"""Pretrain the starter image encoder on pictures that this script draws.

    python pretraining/image.py --minutes 50 --out DIR --log FILE

1. Banks: silhouettes (garments, shoes, bags, tools, vases, furniture, houses, glyphs, fractals,
   random outlines) are drawn with Pillow, texture fields are computed with numpy.
2. Every step composes new pictures from the banks in torch: a background (plain, gradient, texture
   or a room in perspective), a textured, shaded, shadowed object, often a second one in front.
3. The network learns what was drawn (shape class, texture families, colours, pose, layout), a tiny
   thumbnail of the picture, and which two pictures show the same object (NT-Xent, SimCLR).

No outside data. DIR receives checkpoints (running the command again resumes) and, at the end,
`encoder/`, a folder for `transformers.AutoModel.from_pretrained`.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel

SILHOUETTE = 72  # pixels of a silhouette in the bank, drawn twice as large
FIELD = 96  # pixels of a texture field
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
Points = np.ndarray  # (n, 2), x to the right and y down, the canvas is [-1, 1]


# --- silhouettes ---------------------------------------------------------------------------------


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


# Each drawer gets the sketch, `style` (fixed per class) and `rng` (new for every drawing).
Drawer = Callable[[Sketch, np.random.Generator, np.random.Generator], None]


def draw_top(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    shoulder, hem = jitter(rng, style.uniform(0.35, 0.5)), jitter(rng, style.uniform(0.3, 0.55))
    length = jitter(rng, style.choice([0.5, 0.8, 1.0]), 0.05)
    sleeve = jitter(rng, style.choice([0.0, 0.25, 0.6, 1.0]))
    cuff, neck = jitter(rng, style.uniform(0.12, 0.3)), jitter(rng, style.choice([0.08, 0.2, 0.4]))
    drop = jitter(rng, style.uniform(0.3, 1.1))
    waist = jitter(rng, style.uniform(0.28, 0.42))
    tip = np.array([shoulder + sleeve * np.cos(drop), -0.75 + sleeve * 1.1 * np.sin(drop)])
    inner = tip + cuff * np.array([-np.sin(drop), np.cos(drop)])
    body = [[0, -0.85 + neck], [0.14, -0.9], [shoulder, -0.78], tip, inner, [waist + 0.03, -0.45]]
    sketch.fill(mirrored([*body, [waist, 0.0], [hem, length - 0.05], [0, length]]))
    if style.random() < 0.4:
        sketch.mark([[0, -0.85 + neck], [0, length]])
    if style.random() < 0.4:
        sketch.paint(
            mirrored([[0, -0.9 + neck], [0.14, -0.92], [0.2, -0.75], [0, -0.6 + neck]]), 150
        )
    if style.random() < 0.3:
        draw_print(sketch, rng)


def draw_print(sketch: Sketch, rng: np.random.Generator) -> None:
    """A blot on the chest."""
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    radius = rng.uniform(0.08, 0.28, 12)[:, None]
    points = radius * np.stack([np.cos(angle), np.sin(angle)], 1) + [0, rng.uniform(-0.3, 0.2)]
    sketch.paint(smooth(points, closed=True), int(rng.integers(120, 255)))


def draw_dress(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    top, waist = jitter(rng, style.choice([0.1, 0.3])), jitter(rng, style.uniform(0.15, 0.28))
    hem = jitter(rng, style.uniform(0.25, 0.85))
    start = style.choice([-0.95, -0.95, -0.2])
    sketch.fill(mirrored([[0, start + 0.1], [top, start], [waist, -0.15], [hem, 0.9], [0, 0.95]]))
    for fold in rng.uniform(-0.8, 0.8, style.integers(0, 7)):
        sketch.mark([[fold * waist, -0.1], [fold * hem, 0.9]], 0.015, 140)
    if style.random() < 0.5:
        sketch.mark([[-waist, -0.15], [waist, -0.15]], 0.05)


def draw_trousers(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    waist, ankle = jitter(rng, style.uniform(0.25, 0.4)), jitter(rng, style.uniform(0.12, 0.3))
    length = jitter(rng, style.choice([-0.1, 0.3, 0.95]), 0.05)
    spread, hip = jitter(rng, style.uniform(0.05, 0.3)), waist * 1.15
    leg = [[hip + spread, length], [hip + spread - 2 * ankle, length], [0, -0.35]]
    sketch.fill(mirrored([[0, -0.9], [waist, -0.9], [hip, -0.5], *leg]))
    sketch.mark([[0, -0.9], [0, -0.35]])
    sketch.mark([[-waist, -0.8], [waist, -0.8]])
    for side in (-1, 1):
        sketch.mark([[side * waist, -0.7], [side * waist * 0.5, -0.55]])


def draw_shoe(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    heel = max(0.0, jitter(rng, style.choice([0.0, 0.05, 0.2, 0.5])))
    shaft = jitter(rng, style.choice([0.25, 0.4, 0.9]))
    toe, opening = jitter(rng, style.uniform(0.12, 0.3)), jitter(rng, style.uniform(0.2, 0.4))
    floor, back = 0.55, 0.5 - heel
    upper = [[-0.85, back], [-0.85, back - shaft], [-0.85 + opening * 1.5, back - shaft]]
    upper += [[-0.1, back - shaft * 0.5], [0.4, 0.45 - toe * 1.4], [0.85, 0.5 - toe], [0.92, 0.5]]
    arch = [[0.4, 0.52], [-0.2, 0.5 - heel * 0.6]]
    sketch.fill(np.vstack([upper[:3], smooth(upper[2:], 30), arch]))
    sole = [
        [0.93, 0.5],
        [0.93, floor],
        [0.3, floor],
        [-0.3, floor - heel * 0.7],
        [-0.85, back + 0.05],
    ]
    sketch.fill(np.array([*sole, [-0.85, back]]))
    width = style.choice([0.06, 0.25])
    sketch.fill(box(-0.85, back, -0.85 + width, floor))
    sketch.paint(np.array([[0.93, 0.48], [0.93, floor], [-0.85, floor], [-0.85, back]]), 200)
    if style.random() < 0.3:  # straps: open sides
        for y in (0.1, 0.28):
            sketch.fill(ellipse(-0.1 + y, y + 0.05 - heel * 0.4, 0.25, 0.07), 0)
    for lace in range(style.integers(0, 5)):
        x = -0.15 + lace * 0.12
        sketch.mark([[x, -0.05 + lace * 0.07], [x + 0.12, 0.05 + lace * 0.07]], 0.03)


def draw_bag(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    top, bottom = jitter(rng, style.uniform(0.35, 0.8)), jitter(rng, style.uniform(0.4, 0.85))
    rim, base = jitter(rng, style.uniform(-0.5, 0.1)), 0.85
    handle = jitter(rng, style.uniform(0.3, 1.2) * (rim + 1))
    arc = ellipse(0, rim, top * style.uniform(0.4, 0.9), handle, 0.5, 1)
    sketch.stroke(arc, jitter(rng, style.uniform(0.04, 0.12)))
    body = [[0, rim], [top, rim], [bottom, base - 0.1], [bottom * 0.9, base], [0, base]]
    sketch.fill(mirrored(body))
    flap = style.uniform(0, 0.7)
    sketch.mark(mirrored([[0, rim + flap], [top * 0.95, rim]]), 0.03)
    if style.random() < 0.5:
        sketch.paint(box(-0.08, rim + flap - 0.05, 0.08, rim + flap + 0.1), 255)
    if style.random() < 0.4:
        sketch.mark(box(-bottom * 0.6, 0.25, bottom * 0.6, 0.75), 0.03, 160)


def draw_strap(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """A dial on a band: watches, belts, pendants."""
    dial, band = jitter(rng, style.uniform(0.2, 0.55)), jitter(rng, style.uniform(0.1, 0.35))
    sketch.fill(mirrored([[0, -1], [band * 0.7, -1], [band, -dial], [band, dial], [band * 0.7, 1]]))
    square = style.random() < 0.4
    outer = box(-dial, -dial, dial, dial) if square else ellipse(0, 0, dial, dial)
    sketch.fill(outer)
    sketch.paint(outer * 0.8, int(style.integers(60, 255)))
    for angle in rng.uniform(0, 2 * np.pi, 2):
        sketch.mark([[0, 0], [dial * 0.6 * np.cos(angle), dial * 0.6 * np.sin(angle)]], 0.03, 0)
    for y in np.arange(dial + 0.08, 1, style.choice([0.08, 0.15, 2])):
        sketch.mark([[-band, y], [band, y]], 0.02)
        sketch.mark([[-band, -y], [band, -y]], 0.02)


def draw_rings(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Loops: spectacles, bracelets, chains."""
    count = int(style.integers(1, 5))
    rx, ry = jitter(rng, 0.85 / count), jitter(rng, style.uniform(0.2, 0.8) / count**0.5)
    inner = style.uniform(0.5, 0.92)
    solid = style.random() < 0.3
    for k in range(count):
        x = (2 * k + 1 - count) * 0.9 / count
        sketch.fill(ellipse(x, 0, rx, ry))
        if solid:
            sketch.paint(ellipse(x, 0, rx * inner, ry * inner), 220)
        else:
            sketch.fill(ellipse(x, 0, rx * inner, ry * inner), 0)
    if style.random() < 0.5:
        sketch.stroke(np.array([[-0.9, -ry * 0.5], [0.9, -ry * 0.5]]), 0.06)


def draw_profile(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """A turned object: bottles, vases, lamps, cups."""
    count = int(style.integers(4, 9))
    radius = style.uniform(0.06, 1, count) ** 1.3 * style.uniform(0.35, 0.9)
    radius = radius * np.exp(rng.normal(size=count) * 0.08)
    y = np.linspace(-0.95, 0.95, count)
    right = np.stack([radius, y], 1)
    if style.random() < 0.6:
        right = smooth(right)
    sketch.fill(mirrored(np.clip(right, [0.02, -1], [1, 1])))
    for k in style.choice(count, style.integers(0, 3)):
        sketch.mark([[-radius[k], y[k]], [radius[k], y[k]]], 0.04)
    if style.random() < 0.3:
        sketch.paint(box(-0.9, -0.2, 0.9, 0.4) * [radius.min() * 1.2, 1], 140)


def draw_tool(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Random blocks along one or two axes."""
    for _ in range(style.integers(2, 6)):
        centre, half = style.uniform(-0.6, 0.6, 2), style.uniform(0.05, 0.5, 2)
        half = half * np.exp(rng.normal(size=2) * 0.1)
        centre = centre * style.choice([0, 1], 2) + rng.normal(size=2) * 0.02
        kind, turn = style.integers(4), style.choice([0, 0, 0.5, np.pi / 4])
        block = ellipse(0, 0, *half) if kind == 0 else box(-half[0], -half[1], *half)
        if kind == 1:
            block = block * np.array([[0.4, 1], [0.4, 1], [1, 1], [1, 1]])
        c, s = np.cos(turn), np.sin(turn)
        sketch.fill(block @ np.array([[c, s], [-s, c]]) + centre)
    sketch.fill(box(-0.08, -0.2, 0.08, 0.9))


def draw_blob(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """A closed curve given by a few harmonics."""
    angle = np.linspace(0, 2 * np.pi, 90)
    radius = np.full(90, 0.55)
    for harmonic in range(1, 7):
        amplitude = style.normal() * 0.35 / harmonic**0.7 * jitter(rng, 1.0)
        phase = style.uniform(0, 2 * np.pi) + rng.normal() * 0.15
        radius += amplitude * np.cos(harmonic * angle + phase)
    radius = np.abs(radius)
    radius /= radius.max()
    sketch.fill(radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))
    if style.random() < 0.3:
        sketch.fill(ellipse(0, 0, 0.2, 0.2) * jitter(rng, 1.0), 0)


def draw_star(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Regular polygons, stars and gears."""
    count, inner = int(style.integers(3, 11)), style.choice([1.0, 1.0, 0.75, 0.4])
    teeth = style.random() < 0.3
    angle = np.linspace(0, 2 * np.pi, (4 if teeth else 2) * count, endpoint=False)
    steps = np.tile([1, 1, inner, inner] if teeth else [1, inner], count)
    if inner == 1:
        angle, steps = angle[:: len(angle) // count], np.ones(count)
    radius = (0.95 * steps * jitter(rng, 1.0, 0.03))[:, None]
    sketch.fill(radius * np.stack([np.sin(angle), -np.cos(angle)], 1))
    if style.random() < 0.4:
        hole = style.uniform(0.1, 0.35)
        sketch.fill(ellipse(0, 0, hole, hole), 0)


def draw_glyph(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Strokes between the points of a small grid: an invented letter."""
    width = jitter(rng, style.choice([0.12, 0.25]), 0.2)
    for _ in range(style.integers(2, 5)):
        points = np.stack([style.integers(-1, 2, 4) * 0.65, style.integers(-1, 2, 4) * 0.8], 1)
        points = (points + rng.normal(size=(4, 2)) * 0.03)[: style.integers(2, 5)]
        curved = style.random() < 0.5 and len(points) > 2
        sketch.stroke(smooth(points, 30) if curved else points, width)


def draw_letter(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Two characters of Pillow's own font."""
    letter = "".join(style.choice(list("ABCDEFGHJKLMNPQRSTUVWXYZ23456789&@#?"), 2))
    font = ImageFont.load_default(size=int(rng.integers(70, 95)))
    at = (SILHOUETTE + rng.integers(-9, 9), SILHOUETTE + rng.integers(-9, 9))
    weight = int(rng.integers(0, 5))
    sketch.alpha.text(at, letter, fill=255, font=font, anchor="mm", stroke_width=weight)


def draw_fractal(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """The attractor of an iterated function system of two to four affine maps."""
    count = int(style.integers(2, 5))
    maps = style.uniform(-1, 1, (count, 2, 3))
    for one in maps:  # contract, or the points run away
        one[:, :2] *= style.uniform(0.7, 0.95) / np.linalg.norm(one[:, :2], 2)
    maps[:, :, :2] *= 1 + rng.normal(size=(count, 2, 2)) * 0.06
    chosen = rng.integers(count, size=(22, 300))
    point = np.zeros((300, 2))
    seen = []
    for step in chosen:
        point = np.einsum("nij,nj->ni", maps[step][..., :2], point) + maps[step][..., 2]
        seen.append(point)
    cloud = np.vstack(seen[6:])
    low, high = np.percentile(cloud, [1, 99], axis=0)
    cloud = (cloud - (low + high) / 2) / max((high - low).max(), 1e-3) * 1.9
    for x, y in sketch._place(cloud):
        sketch.alpha.rectangle((x - 1, y - 1, x + 1, y + 1), fill=255)


def draw_tree(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Branches that divide: trees, corals, plants."""
    spread, shrink = style.uniform(0.25, 0.9), style.uniform(0.6, 0.78)
    branches, leafy = int(style.integers(2, 4)), style.random() < 0.5
    front = [(0.0, 0.95, -np.pi / 2, style.uniform(0.4, 0.65))]
    for depth in range(5 if branches == 3 else 6):
        grown = []
        for x, y, angle, length in front:
            tip = (x + length * np.cos(angle), y + length * np.sin(angle))
            sketch.stroke(np.array([(x, y), tip]), 0.14 * shrink ** (2 * depth) + 0.02)
            turns = np.linspace(-spread, spread, branches) + rng.normal(size=branches) * 0.15
            grown += [(*tip, angle + turn, length * jitter(rng, shrink)) for turn in turns]
        front = grown
    for x, y, *_ in front if leafy else ():
        sketch.fill(ellipse(x, y, 0.07, 0.07))


def draw_house(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Wings, roofs, rows of windows, a door."""
    for wing in range(style.integers(1, 4)):
        centre, half = style.uniform(-0.4, 0.4) * (wing > 0), jitter(rng, style.uniform(0.3, 0.85))
        eaves, ridge = jitter(rng, style.uniform(-0.3, 0.3)), jitter(rng, style.uniform(0.1, 0.6))
        slope = style.choice([0.0, 0.4, 0.9])
        sketch.fill(box(centre - half, eaves, centre + half, 0.85))
        roof = mirrored([[half * slope, eaves - ridge], [half * 1.1, eaves]]) + np.array(
            [centre, 0]
        )
        sketch.fill(roof)
        sketch.paint(roof, int(style.integers(60, 220)))
        columns, rows = style.integers(1, 5), style.integers(1, 4)
        draw_windows(sketch, (centre - half, eaves, centre + half, 0.85), columns, rows)
    door = style.uniform(-0.3, 0.3)
    sketch.paint(box(door - 0.08, 0.5, door + 0.08, 0.85), 255)


def draw_windows(
    sketch: Sketch, wall: tuple[float, float, float, float], columns: int, rows: int
) -> None:
    x0, y0, x1, y1 = wall
    width, height = (x1 - x0) / columns, (y1 - y0) / rows
    for column in range(columns):
        for row in range(rows):
            x, y = x0 + (column + 0.3) * width, y0 + (row + 0.25) * height
            sketch.paint(box(x, y, x + width * 0.4, y + height * 0.5), 230)


def draw_furniture(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Tables, chairs, beds, cupboards, sofas."""
    seat, half = jitter(rng, style.uniform(-0.4, 0.4), 0.05), jitter(rng, style.uniform(0.4, 0.9))
    thick, leg = jitter(rng, style.choice([0.12, 0.3, 0.6])), jitter(rng, style.uniform(0.05, 0.15))
    bottom = 0.95 if style.random() < 0.7 else min(0.95, seat + thick + 0.1)
    sketch.fill(box(-half, seat, half, seat + thick))
    for side in (-half, half - leg):
        sketch.fill(box(side, seat, side + leg, bottom))
    if style.random() < 0.6:  # a back, or two arms
        tall = jitter(rng, style.uniform(0.2, 0.6))
        wide = style.choice([1.0, 0.25])
        sketch.fill(box(-half, seat - tall, -half + 2 * half * wide, seat))
    for x in np.linspace(-half, half, style.integers(2, 6))[1:-1]:
        sketch.mark([[x, seat], [x, seat + thick]], 0.03)
    if style.random() < 0.5:
        sketch.mark([[-half, seat + thick / 2], [half, seat + thick / 2]], 0.03)


def draw_hat(sketch: Sketch, style: np.random.Generator, rng: np.random.Generator) -> None:
    """Domes with a brim: caps, hats, lampshades, mushrooms."""
    wide, tall = jitter(rng, style.uniform(0.35, 0.7)), jitter(rng, style.uniform(0.4, 1.0))
    brim, shift = jitter(rng, style.uniform(0.0, 0.4)), style.choice([0.0, 0.0, 0.5])
    crown = ellipse(0, 0.3, wide, tall, 0.5, 1)
    sketch.fill(crown if style.random() < 0.6 else np.clip(crown, [-1, -0.3], [1, 1]))
    sketch.fill(ellipse(shift, 0.33, wide + brim - shift * 0.3, jitter(rng, 0.12)))
    sketch.mark([[-wide, 0.2], [wide, 0.2]], style.choice([0.03, 0.15]))
    for x in np.linspace(-0.6, 0.6, style.integers(1, 4)):
        sketch.mark([[0, 0.3 - tall], [x * wide, 0.3]], 0.02, 160)


DRAWERS: tuple[tuple[Drawer, int], ...] = (
    (draw_top, 24),
    (draw_dress, 14),
    (draw_trousers, 12),
    (draw_shoe, 24),
    (draw_bag, 14),
    (draw_strap, 12),
    (draw_rings, 12),
    (draw_profile, 24),
    (draw_tool, 24),
    (draw_blob, 36),
    (draw_star, 14),
    (draw_glyph, 24),
    (draw_letter, 14),
    (draw_fractal, 24),
    (draw_tree, 8),
    (draw_house, 12),
    (draw_furniture, 14),
    (draw_hat, 12),
)
SHAPES = sum(count for _, count in DRAWERS)
DRAWER_OF_SHAPE = [drawer for drawer, (_, count) in enumerate(DRAWERS) for _ in range(count)]


def draw_silhouettes(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2, size, size) pictures and (n,) classes, in no particular order."""
    classes = [(drawer, k) for drawer, count in DRAWERS for k in range(count)]
    order = np.random.default_rng(seed).permutation(len(classes) * per_class)
    pictures = np.empty((len(order), 2, SILHOUETTE, SILHOUETTE), np.uint8)
    labels = np.empty(len(order), np.int64)
    for row, number in enumerate(order):
        label = number % len(classes)
        drawer, k = classes[label]
        rng = np.random.default_rng([seed, 1, number])
        sketch = Sketch(rng)
        drawer(sketch, np.random.default_rng([seed, 2, label, k]), rng)
        pictures[row], labels[row] = sketch.pixels(), label
    return pictures, labels


# --- texture fields ------------------------------------------------------------------------------
# Each family turns a generator into one (FIELD, FIELD) array; the scale does not matter.

Y, X = np.mgrid[0:FIELD, 0:FIELD] / FIELD


def noise(rng: np.random.Generator, slope: float, squeeze: float = 1.0) -> np.ndarray:
    """Gaussian noise with a power-law spectrum; `squeeze` below 1 draws it out into fibres."""
    frequency = np.fft.fftfreq(FIELD)
    angle = rng.uniform(0, np.pi)
    across = frequency[None] * np.cos(angle) + frequency[:, None] * np.sin(angle)
    along = frequency[:, None] * np.cos(angle) - frequency[None] * np.sin(angle)
    radius = np.sqrt((across * squeeze) ** 2 + along**2) + 1 / FIELD
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(FIELD, FIELD))) / radius**slope).real
    return field / field.std()


def turned(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    return X * np.cos(angle) + Y * np.sin(angle), Y * np.cos(angle) - X * np.sin(angle)


def cells(rng: np.random.Generator, count: int) -> np.ndarray:
    """Distances to the nearest random points, nearest first."""
    at = rng.uniform(0, 1, (count, 2))
    apart = np.abs(np.stack([X, Y], -1)[:, :, None] - at)
    return np.sort(np.linalg.norm(np.minimum(apart, 1 - apart), axis=-1), -1)[..., :2]


def stripes(rng: np.random.Generator) -> np.ndarray:
    u, _ = turned(rng)
    return np.tanh(
        rng.uniform(0.5, 6) * (np.sin(u * rng.uniform(10, 120)) + rng.uniform(-0.8, 0.8))
    )


def plaid(rng: np.random.Generator) -> np.ndarray:
    bands = rng.choice([-1, 0, 1], (2, int(rng.integers(3, 24))))
    u, v = turned(rng)
    pick = [(np.abs(w) * rng.uniform(1, 2) * 12).astype(int) % bands.shape[1] for w in (u, v)]
    return bands[0][pick[0]] + bands[1][pick[1]] + 0.0


def dots(rng: np.random.Generator) -> np.ndarray:
    u, v = turned(rng)
    count = rng.uniform(3, 16)
    shift = np.floor(v * count) % 2 * rng.choice([0, 0.5])
    radius = np.hypot((u * count + shift) % 1 - 0.5, (v * count) % 1 - 0.5)
    return np.tanh((rng.uniform(0.15, 0.42) - radius) * 20)


def bricks(rng: np.random.Generator) -> np.ndarray:
    rows, ratio, edge = rng.uniform(4, 16), rng.uniform(1, 3.5), rng.uniform(0.05, 0.2)
    row = np.floor(Y * rows)
    x, y = (X * rows / ratio + row % 2 * 0.5) % 1, (Y * rows) % 1
    tone = rng.normal(size=(32, 32))[row.astype(int), (X * rows / ratio + row % 2 / 2).astype(int)]
    return np.where((x < edge / ratio) | (y < edge), -2.5, 0.6 * tone)


def windows(rng: np.random.Generator) -> np.ndarray:
    columns, rows = rng.uniform(3, 10, 2)
    wide, tall = rng.uniform(0.3, 0.85, 2)
    inside = ((X * columns) % 1 < wide) & ((Y * rows) % 1 < tall)
    lit = rng.normal(size=(12, 12))[(Y * rows).astype(int), (X * columns).astype(int)]
    return np.where(inside, 1 + 0.7 * lit, -1)


def marble(rng: np.random.Generator) -> np.ndarray:
    u, _ = turned(rng)
    return np.sin(u * rng.uniform(5, 50) + rng.uniform(1, 5) * noise(rng, 2.0))


def wood(rng: np.random.Generator) -> np.ndarray:
    u, v = turned(rng)
    rings = np.hypot(u - rng.uniform(-1, 2), (v - rng.uniform(0, 1)) * rng.uniform(0.05, 0.5))
    return np.sin(rings * rng.uniform(30, 120) + noise(rng, 1.8)) + 0.4 * noise(rng, 1.0, 0.1)


def cobbles(rng: np.random.Generator) -> np.ndarray:
    near = cells(rng, int(rng.integers(8, 70)))
    return near[..., 1] - near[..., 0] if rng.random() < 0.6 else near[..., 0]


def leaves(rng: np.random.Generator) -> np.ndarray:
    """Dead leaves: opaque discs and boxes of power-law sizes, one over the other."""
    field = np.zeros((FIELD, FIELD))
    square = rng.random() < 0.4
    for _ in range(70):
        x, y, size = rng.uniform(0, 1), rng.uniform(0, 1), 0.03 / rng.uniform(0.06, 1)
        apart = np.abs(X - x), np.abs(Y - y) * rng.uniform(0.6, 1.6)
        field[(np.maximum(*apart) if square else np.hypot(*apart)) < size] = rng.normal()
    return field


def shader(rng: np.random.Generator) -> np.ndarray:
    """A small random network of sines over the coordinates."""
    state = np.stack([X, Y, X * Y, np.hypot(X - 0.5, Y - 0.5)], -1) * 2 - 1
    for gain in (rng.uniform(1, 3), 0.6, 0.5):
        state = np.sin(
            state @ rng.normal(size=(state.shape[-1], 8)) * gain + rng.normal(size=8) * 2
        )
    return state @ rng.normal(size=8)


def contours(rng: np.random.Generator) -> np.ndarray:
    return np.tanh(6 * np.sin(noise(rng, rng.uniform(2, 3)) * rng.uniform(2, 9)))


def patches(rng: np.random.Generator) -> np.ndarray:
    """Camouflage."""
    return np.round(noise(rng, rng.uniform(1.4, 2.2)) * rng.uniform(0.7, 1.5))


def weave(rng: np.random.Generator) -> np.ndarray:
    u, v = turned(rng)
    frequency = rng.uniform(40, 150)
    thread = np.sin(u * frequency) * np.sin(v * frequency * rng.choice([1, 0.5]))
    return thread + 0.3 * noise(rng, 0.6) + np.sin(u * frequency * 0.5) * rng.choice([0, 0.7])


def folds(rng: np.random.Generator) -> np.ndarray:
    """Creases of cloth: ridges of smooth noise."""
    return -np.abs(noise(rng, rng.uniform(1.8, 2.6), rng.uniform(0.25, 1)))


def rings(rng: np.random.Generator) -> np.ndarray:
    radius = np.hypot(X - rng.uniform(0, 1), Y - rng.uniform(0, 1))
    angle = np.arctan2(Y - 0.5, X - 0.5)
    return np.sin(radius * rng.uniform(15, 80) + rng.integers(0, 7) * angle)


FAMILIES: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
    *(stripes, plaid, dots, bricks, windows, marble, wood, cobbles, leaves, shader, contours),
    *(patches, weave, folds, rings),
    lambda rng: noise(rng, rng.uniform(0.2, 1.0)),  # grain
    lambda rng: noise(rng, rng.uniform(1.2, 1.8)),  # clouds
    lambda rng: noise(rng, rng.uniform(0.8, 1.6), rng.uniform(0.03, 0.2)),  # fibres
    lambda rng: noise(rng, 3.0),  # smooth
)


def draw_fields(per_family: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2, FIELD, FIELD): a texture and a slow second tone; (n,) families."""
    order = np.random.default_rng(seed).permutation(len(FAMILIES) * per_family)
    pictures = np.empty((len(order), 2, FIELD, FIELD), np.uint8)
    for row, number in enumerate(order):
        rng = np.random.default_rng([seed, 3, number])
        main = FAMILIES[number % len(FAMILIES)](rng)
        main = ndimage.gaussian_filter(main, rng.choice([0, 0.5, 0.8]), mode="wrap")
        for channel, field in enumerate((main, noise(rng, rng.uniform(1.5, 2.5)))):
            low, high = np.percentile(field[::3, ::3], [2, 98])
            scaled = (field - low) / max(high - low, 1e-6)
            pictures[row, channel] = np.clip(scaled * 255, 0, 255)
    return pictures, order % len(FAMILIES)


@dataclass(frozen=True)
class Banks:
    """What pictures are composed of."""

    shapes: Tensor
    shape_class: Tensor
    fields: Tensor
    field_family: Tensor

    @classmethod
    def draw(cls, out: Path, seed: int, per_class: int, per_family: int) -> "Banks":
        """Drawn once, then read from `out/banks.safetensors`."""
        path = out / "banks.safetensors"
        if not path.exists():
            drawn = draw_silhouettes(per_class, seed) + draw_fields(per_family, seed)
            names = (field.name for field in fields(cls))
            arrays = (torch.from_numpy(np.ascontiguousarray(array)) for array in drawn)
            save_file(dict(zip(names, arrays, strict=True)), path)
        return cls(**load_file(path))

    def to(self, device: torch.device) -> "Banks":
        return Banks(**{f.name: getattr(self, f.name).to(device) for f in fields(Banks)})


# --- composed pictures ---------------------------------------------------------------------------

KINDS = ("plain", "gradient", "texture", "room")
SHARES = (0.45, 0.15, 0.2, 0.2)


class Dice:
    """Random tensors of one step, from one seed."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        return self.uniform(0, 1, *shape) < share

    def order(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.generator, device=self.device)

    def colours(self, *shape: int) -> Tensor:
        """(..., 3): greys, pastels and full colours alike."""
        hue, value = self.uniform(0, 1, *shape, 1), self.uniform(0, 1, *shape, 1) ** 0.7
        saturation = self.uniform(0, 1, *shape, 1) ** 1.5 * (~self.chance(0.25, *shape, 1))
        turn = torch.tensor([0.0, 2 / 3, 1 / 3], device=self.device)
        wheel = (((hue + turn) % 1) * 6 - 3).abs().sub(1).clamp(0, 1)
        return value * (1 - saturation * (1 - wheel))


@dataclass(frozen=True)
class Things:
    """What stays the same when an object is shown twice; one row per object."""

    shape: Tensor
    field: Tensor
    palette: Tensor
    strength: Tensor
    zoom: Tensor

    @classmethod
    def draw(cls, banks: Banks, dice: Dice, count: int) -> "Things":
        return cls(
            dice.integers(len(banks.shapes), count),
            dice.integers(len(banks.fields), count),
            dice.colours(count, 3),
            dice.uniform(0, 1, count) ** 0.7 * (~dice.chance(0.3, count)),
            torch.exp(dice.uniform(-1.2, 0.3, count)),
        )

    def __getitem__(self, rows: Tensor | slice) -> "Things":
        return Things(**{f.name: getattr(self, f.name)[rows] for f in fields(Things)})

    def colour(self) -> Tensor:
        """(b, 3): about the mean colour."""
        first, second, _ = self.palette.unbind(1)
        return first + 0.5 * self.strength[:, None] * (second - first)


@dataclass(frozen=True)
class Pose:
    """Where an object stands in the picture."""

    scale: Tensor
    aspect: Tensor
    angle: Tensor
    flip: Tensor
    shift: Tensor

    @classmethod
    def draw(cls, dice: Dice, count: int, low: float, high: float) -> "Pose":
        scale = dice.uniform(low, high, count)
        tilted = dice.chance(0.1, count) * dice.uniform(-math.pi, math.pi, count)
        return cls(
            scale,
            torch.exp(0.12 * dice.normal(count)),
            0.12 * dice.normal(count) + tilted,
            1.0 - 2.0 * dice.chance(0.5, count),
            dice.uniform(-1, 1, count, 2) * (1.15 - scale).clamp(min=0.1)[:, None],
        )

    def grid(self, size: int) -> Tensor:
        """(b, size, size, 2): the object's own coordinates at every pixel."""
        c, s = torch.cos(self.angle), torch.sin(self.angle)
        across, down = self.flip / (self.scale * self.aspect), self.aspect / self.scale
        turn = torch.stack([c * across, s * across, -s * down, c * down], 1).view(-1, 2, 2)
        move = -turn @ self.shift[:, :, None]
        shape = [len(c), 1, size, size]
        return functional.affine_grid(torch.cat([turn, move], 2), shape, align_corners=False)

    def numbers(self) -> Tensor:
        turned = [torch.cos(self.angle) * self.flip, torch.sin(self.angle) * self.flip]
        return torch.stack([self.scale, self.aspect.log(), *turned, *self.shift.unbind(1)], 1)


def blurred(alpha: Tensor) -> Tensor:
    """Soft edges, about an eighth of the picture wide."""
    size = alpha.shape[-1]
    small = functional.avg_pool2d(alpha, size // 16)
    small = functional.avg_pool2d(small, 3, 1, 1, count_include_pad=False)
    return functional.interpolate(small, (size, size), mode="bilinear")


def textured(things: Things, grid: Tensor, banks: Banks) -> Tensor:
    """(b, 3, size, size): the object's own colours, without light."""
    inside = grid * things.zoom[:, None, None, None]
    field = banks.fields[things.field].float() / 255
    tones = functional.grid_sample(
        field, inside, padding_mode="reflection", align_corners=False, mode="bilinear"
    )
    first, second, third = things.palette[..., None, None].unbind(1)
    amount = things.strength[:, None, None, None]
    colour = first + amount * tones[:, :1] * (second - first)
    return colour + 0.4 * amount * tones[:, 1:] * (third - first)


def lit(soft: Tensor, light: Tensor) -> Tensor:
    """How much lighter or darker the soft outline makes every pixel, lit from one side."""
    here = soft[..., 1:, 1:]
    across, down = here - soft[..., 1:, :-1], here - soft[..., :-1, 1:]
    relief = torch.zeros_like(soft)
    relief[..., 1:, 1:] = soft.shape[-1] / 16 * (light[:, :1] * across + light[:, 1:] * down)
    return 1 + relief.clamp(-0.7, 0.7)


def paste(canvas: Tensor, things: Things, pose: Pose, banks: Banks, dice: Dice) -> Tensor:
    """Draw one object per row, with its texture, relief and shadow; returns its light (b, 2)."""
    count, size = len(canvas), canvas.shape[-1]
    grid = pose.grid(size)
    outline = banks.shapes[things.shape].float() / 255
    sketch = functional.grid_sample(outline, grid, align_corners=False, mode="bilinear")
    alpha, detail = sketch[:, :1], sketch[:, 1:]
    ink = dice.uniform(-0.8, 0.5, count, 1, 1, 1)
    soft = blurred(alpha)
    light = dice.normal(count, 2, 1, 1) * 1.2
    colour = textured(things, grid, banks) * lit(soft, light) + ink * detail
    offset = dice.integers(size // 8, 2).tolist()
    shadow = torch.roll(soft, offset, (2, 3)) * dice.uniform(0, 0.6, count, 1, 1, 1)
    shadow = shadow * dice.chance(0.6, count, 1, 1, 1)
    canvas.mul_(1 - shadow * (1 - alpha)).lerp_(colour.clamp(0, 1), alpha)
    return light.flatten(1)


@dataclass(frozen=True)
class Background:
    """A picture without its object, and what it is."""

    canvas: Tensor
    kind: Tensor
    family: Tensor
    colour: Tensor
    room: Tensor

    def __getitem__(self, rows: Tensor) -> "Background":
        return Background(**{f.name: getattr(self, f.name)[rows] for f in fields(Background)})


def kinds(count: int, device: torch.device) -> Tensor:
    """(count,): in sorted order, each kind with its share."""
    limits = torch.tensor(SHARES, device=device).cumsum(0)[:-1] * count
    return torch.bucketize(torch.arange(count, device=device).float(), limits, right=True)


@dataclass(frozen=True)
class Surfaces:
    """What every pixel of a background shows."""

    plane: Tensor  # 0 wall, 1 floor, 2 ceiling
    where: Tensor  # (b, 2, size, size): coordinates on the plane
    shade: Tensor
    room: Tensor  # (b, 5): centre and half size of the far wall, whether outdoors


def draw_surfaces(kind: Tensor, dice: Dice, size: int) -> Surfaces:
    """A room is a box seen from inside; with its side walls far off it is a horizon."""
    count = len(kind)
    is_room = (kind == 3)[:, None, None]
    line = (torch.arange(size, device=kind.device) + 0.5) / size * 2 - 1
    centre, half = dice.uniform(-0.5, 0.5, count, 2), dice.uniform(0.2, 0.75, count, 2)
    outdoors = dice.chance(0.35, count)
    half = torch.where(outdoors[:, None], torch.stack([half[:, 0] * 50, half[:, 1] / 4], 1), half)
    across = ((line - centre[:, :1]) / half[:, :1])[:, None, :].expand(-1, size, -1)
    down = ((line - centre[:, 1:]) / half[:, 1:])[:, :, None].expand(-1, -1, size)
    far = torch.maximum(across.abs(), down.abs()).clamp(min=1)
    level = (down.abs() >= across.abs()) & (far > 1) & is_room
    side = (far > 1) & ~level & is_room
    depth = dice.uniform(1, 4, count, 1, 1) / far
    flat = dice.uniform(0.2, 0.6, count, 1, 1)
    u = torch.where(is_room, torch.where(side, depth, across / far), line[None, None, :] * flat)
    v = torch.where(is_room, torch.where(level, depth, down / far), line[None, :, None] * flat)
    shade = torch.where(is_room, (0.55 + 0.45 / far) * (1 - 0.15 * side.float()), 1.0)
    room = torch.cat([centre, half.clamp(max=1), outdoors[:, None].float()], 1)
    return Surfaces(level * torch.where(down > 0, 1, 2), torch.stack([u, v], 1), shade, room)


def draw_tones(fields: Tensor, seen: Surfaces, kind: Tensor, dice: Dice) -> Tensor:
    """(b, size, size) in about [0, 1]: a field on every plane, or a slope for a gradient."""
    count = len(kind)
    at = (seen.where * 0.5 + dice.uniform(0, 1, count, 2, 1, 1)).mul(FIELD).long().remainder(FIELD)
    rows = torch.arange(count, device=kind.device)[:, None, None]
    tone = fields[rows, seen.plane, at[:, 1], at[:, 0]].float() / 255
    slope = (seen.where * dice.uniform(-1, 1, count, 2, 1, 1)).sum(1)
    return torch.where((kind == 1)[:, None, None], slope + 0.5, tone)


def draw_background(banks: Banks, dice: Dice, count: int, size: int) -> Background:
    kind = kinds(count, dice.device)
    seen = draw_surfaces(kind, dice, size)
    chosen = dice.integers(len(banks.fields), count, 3)
    tone = draw_tones(banks.fields[chosen, 0], seen, kind, dice)
    strength = dice.uniform(0.1, 1, count, 3) * (kind > 0)[:, None]
    first, second = dice.colours(count, 3), dice.colours(count, 3)
    white = (kind == 0) & dice.chance(0.7, count)
    first = torch.where(white[:, None, None], 1 - 0.1 * dice.uniform(0, 1, count, 3, 1), first)
    rows = torch.arange(count, device=kind.device)[:, None, None]
    base = first[rows, seen.plane]
    amount = (strength[rows, seen.plane] * tone)[..., None]
    canvas = (base + amount * (second[rows, seen.plane] - base)) * seen.shade[..., None]
    canvas = canvas.permute(0, 3, 1, 2).clamp(0, 1).contiguous()
    family = torch.where(kind > 1, banks.field_family[chosen[:, 0]], -1)
    return Background(canvas, kind, family, canvas.mean((2, 3)), seen.room)


def finish(canvas: Tensor, dice: Dice) -> Tensor:
    """Light that falls off, a colour cast, contrast, blur and grain."""
    count, size = len(canvas), canvas.shape[-1]
    line = torch.linspace(-1, 1, size, device=canvas.device)
    fall = dice.normal(count, 2) * 0.15
    ramp = 1 + fall[:, :1, None] * line[None, None] + fall[:, 1:, None] * line[None, :, None]
    cast = torch.exp(0.08 * dice.normal(count, 3, 1, 1) + 0.12 * dice.normal(count, 1, 1, 1))
    canvas = canvas * (ramp[:, None] * cast)
    soft = dice.chance(0.15, count)
    canvas[soft] = functional.avg_pool2d(canvas[soft], 3, 1, 1, count_include_pad=False)
    grey = dice.chance(0.05, count)
    canvas[grey] = canvas[grey].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    grain = dice.uniform(0, 0.06, count, 1, 1, 1) * dice.chance(0.5, count, 1, 1, 1)
    return (canvas + grain * dice.normal(*canvas.shape)).clamp(0, 1)


# What the heads answer: the width of each, classes first, then numbers.
CLASSES = {"shape": SHAPES, "family": len(FAMILIES), "behind": len(FAMILIES), "kind": len(KINDS)}
CLASSES |= {"front": SHAPES + 1, "drawer": len(DRAWERS)}
NUMBERS = {"pose": 6, "colour": 3, "around": 3, "strength": 1, "light": 2, "room": 5}
NUMBERS |= {"thumbnail": 48}


def furnish(behind: Background, banks: Banks, dice: Dice) -> None:
    """Two small objects in every room, as far as a random object is furniture."""
    rooms = behind.canvas[int(len(behind.canvas) * (1 - SHARES[3])) :]
    for _ in range(2):
        pose = Pose.draw(dice, len(rooms), 0.15, 0.5)
        paste(rooms, Things.draw(banks, dice, len(rooms)), pose, banks, dice)


def cover(canvas: Tensor, banks: Banks, dice: Dice) -> Tensor:
    """Put a small object before every fifth picture; returns its class, SHAPES where none is."""
    count = len(canvas)
    front = Things.draw(banks, dice, count // 5)
    chosen = dice.order(count)[: count // 5]
    part = canvas[chosen]
    paste(part, front, Pose.draw(dice, len(part), 0.2, 0.5), banks, dice)
    canvas[chosen] = part
    classes = torch.full((count,), SHAPES, device=dice.device)
    classes[chosen] = banks.shape_class[front.shape]
    return classes


def describe(things: Things, behind: Background, banks: Banks) -> dict[str, Tensor]:
    """What is known before the object is placed; -1 and NaN where there is nothing to ask."""
    shape = banks.shape_class[things.shape]
    return {
        "shape": shape,
        "drawer": torch.tensor(DRAWER_OF_SHAPE, device=shape.device)[shape],
        "family": torch.where(things.strength > 0.1, banks.field_family[things.field], -1),
        "colour": things.colour(),
        "strength": things.strength[:, None],
        "behind": behind.family,
        "kind": behind.kind,
        "around": behind.colour,
        "room": behind.room.masked_fill((behind.kind != 3)[:, None], math.nan),
    }


def compose(
    things: Things, behind: Background, banks: Banks, dice: Dice
) -> tuple[Tensor, dict[str, Tensor]]:
    """Show every thing before some background: pictures in [0, 1] and what is on them."""
    count = len(things.shape)
    mine = behind[dice.order(count) % len(behind.canvas)]
    canvas = mine.canvas
    pose = Pose.draw(dice, count, 0.55, 1.1)
    truth = describe(things, mine, banks) | {"pose": pose.numbers()}
    truth["light"] = paste(canvas, things, pose, banks, dice)
    truth["front"] = cover(canvas, banks, dice)
    canvas = finish(canvas, dice)
    truth["thumbnail"] = functional.adaptive_avg_pool2d(canvas, 4).flatten(1)
    return canvas, truth


# --- learning ------------------------------------------------------------------------------------


class Student(nn.Module):
    """The encoder with the heads that only pretraining needs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNetModel(
            ResNetConfig(
                layer_type="bottleneck",
                embedding_size=32,
                hidden_sizes=[64, 128, 256, 512],
                depths=[2, 2, 3, 2],
            )
        )
        width = self.encoder.config.hidden_sizes[-1]
        self.widths = CLASSES | NUMBERS
        self.answers = nn.Linear(width, sum(self.widths.values()))
        self.project = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 128))

    def forward(self, pictures: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        pooled = self.encoder(pictures).pooler_output.flatten(1)
        parts = self.answers(pooled).float().split(tuple(self.widths.values()), 1)
        return dict(zip(self.widths, parts, strict=True)), self.project(pooled).float()


def same_object(projected: Tensor, temperature: float = 0.2) -> Tensor:
    """NT-Xent (SimCLR, equation 1): row i and row i + n show one object."""
    count = len(projected) // 2
    unit = functional.normalize(projected, dim=1)
    alike = unit @ unit.T / temperature
    alike.fill_diagonal_(-math.inf)
    partner = torch.arange(2 * count, device=unit.device).roll(count)
    return functional.cross_entropy(alike, partner)


def answer_loss(answers: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropies (-1: not asked) and squared errors (NaN: not asked)."""
    losses = {
        name: functional.cross_entropy(answers[name], truth[name], ignore_index=-1)
        for name in CLASSES
    }
    for name in NUMBERS:
        known = ~truth[name].isnan()
        losses[name] = functional.mse_loss(answers[name][known], truth[name][known])
    return losses


WEIGHTS = {"shape": 1.0, "family": 0.5, "behind": 0.3, "kind": 0.2, "front": 0.3, "pose": 1.0}
WEIGHTS |= {"colour": 4.0, "around": 2.0, "strength": 0.5, "light": 0.1, "room": 1.0}
WEIGHTS |= {"thumbnail": 8.0, "same": 0.5, "drawer": 0.5}


@dataclass
class Run:
    """A pretraining run: what a checkpoint holds and what a step needs."""

    student: Student
    optimizer: torch.optim.Optimizer
    banks: Banks
    options: argparse.Namespace
    step: int = 0
    seconds: float = 0.0

    def progress(self) -> float:
        """From 0 to 1; by steps where they are given, by the clock otherwise."""
        if self.options.steps:
            return self.step / self.options.steps
        return self.seconds / (60 * self.options.minutes)

    def size(self) -> int:
        """Larger pictures towards the end."""
        return 96 if self.options.large and self.progress() > 1 - self.options.large else 64

    def learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / 200)
        return self.options.learning_rate * warm * (1 + math.cos(math.pi * self.progress())) / 2

    def batch(self) -> tuple[Tensor, dict[str, Tensor]]:
        device = self.banks.shapes.device
        dice = Dice(self.options.seed * 10_000_000 + self.step, device)
        things = Things.draw(self.banks, dice, self.options.batch)
        behind = draw_background(self.banks, dice, self.options.batch // 2, self.size())
        furnish(behind, self.banks, dice)
        views = [compose(things, behind, self.banks, dice) for _ in range(2)]
        truth = {name: torch.cat([view[1][name] for view in views]) for name in views[0][1]}
        return torch.cat([view[0] for view in views]), truth

    def learn(self) -> dict[str, float]:
        """One step; returns the losses."""
        pictures, truth = self.batch()
        shift, scale = (torch.tensor(x, device=pictures.device)[:, None, None] for x in (MEAN, STD))
        inputs = ((pictures - shift) / scale).contiguous(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=not self.options.float32):
            answers, projected = self.student(inputs)
        losses = answer_loss(answers, truth) | {"same": same_object(projected)}
        loss = sum(WEIGHTS[name] * value for name, value in losses.items())
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        return {"loss": float(loss.detach())} | {k: float(v.detach()) for k, v in losses.items()}

    def save(self) -> None:
        """Written beside and moved into place: a kill leaves the last whole checkpoint."""
        state = {"student": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
        path = self.options.out / "checkpoint.pt"
        torch.save(state | {"step": self.step, "seconds": self.seconds}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self) -> None:
        path = self.options.out / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, map_location=self.banks.shapes.device, weights_only=True)
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]


def start(options: argparse.Namespace) -> Run:
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    banks = Banks.draw(options.out, options.seed, options.per_class, options.per_family).to(device)
    student = Student().to(device, memory_format=torch.channels_last).train()
    decayed = [p for p in student.parameters() if p.ndim > 1]
    plain = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    run = Run(student, torch.optim.AdamW(groups, lr=options.learning_rate), banks, options)
    run.resume()
    return run


def pretrain(run: Run) -> Iterator[str]:
    """Steps until the time is up; yields lines for the log."""
    since = time.monotonic() - run.seconds
    mean: dict[str, float] = {}
    while run.progress() < 1:
        losses = run.learn()
        mean = {name: 0.98 * mean.get(name, x) + 0.02 * x for name, x in losses.items()}
        run.seconds = time.monotonic() - since
        if run.step % 100 == 0:
            numbers = " ".join(f"{name} {value:.3f}" for name, value in mean.items())
            yield f"step {run.step} minutes {run.seconds / 60:.2f} {numbers}"
        if run.step % 300 == 0:
            run.save()
    run.save()
    yield f"done: {run.step} steps, {run.seconds / 60:.1f} minutes"


def export(encoder: ResNetModel, folder: Path, size: int) -> None:
    """A float16 folder for `AutoModel.from_pretrained`, with how to prepare a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = ResNetModel(encoder.config)
    kept.load_state_dict(encoder.state_dict())
    kept.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"  # stored halved, opened whole
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, banks, encoder/")
    parser.add_argument("--log", type=Path, help="file that lines are appended to")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--steps", type=int, help="stop after so many steps, whatever the time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64, help="objects; each is shown twice")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--large", type=float, default=0.1, help="last share of time at 96 px")
    parser.add_argument("--per-class", type=int, default=150, help="silhouettes of each class")
    parser.add_argument("--per-family", type=int, default=500, help="fields of each family")
    parser.add_argument("--input-size", type=int, default=96, help="pixels, for users")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--float32", action="store_true", help="no bfloat16 (older processors)")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    run = start(options)
    for line in pretrain(run):
        print(line, flush=True)
        if options.log:
            with options.log.open("a") as log:
                log.write(line + "\n")
    export(run.student.encoder, options.out / "encoder", options.input_size)


if __name__ == "__main__":
    main()
