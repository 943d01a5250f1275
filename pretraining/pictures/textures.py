"""Texture fields. Each family turns a generator into one (FIELD, FIELD) array; the scale does not matter."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

__all__ = ["FAMILIES", "FIELD", "draw_fields"]

FIELD = 96  # pixels of a texture field
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
