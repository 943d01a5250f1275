"""Silhouettes of garments, shoes, bags, tools, vases, furniture, houses, glyphs and fractals."""

from collections.abc import Callable

import numpy as np
from PIL import ImageFont

from pictures.sketch import SILHOUETTE, Sketch, box, ellipse, jitter, mirrored, smooth

__all__ = ["DRAWERS", "DRAWER_OF_SHAPE", "SHAPES", "draw_silhouettes"]

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
