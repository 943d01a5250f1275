"""From a scene to pixels."""

import math
from functools import cache

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageChops, ImageDraw

from worlds.scenes import Scene, Thing
from worlds.things import Colour, World

__all__ = ["PATCHES", "SIDE", "drawn"]

SIDE = 48
"""Pixels of a picture."""
PATCHES = 6
"""Of a side."""
_FINE = 2 * SIDE


def drawn(
    scene: Scene, world: World, dice: np.random.Generator
) -> tuple[UInt8[np.ndarray, "48 48 3"], Int[np.ndarray, "6 6"]]:
    """The picture, and which thing covers each patch most, from 1; 0: less than a quarter of it is covered.

    Light, grain and where patterns begin are random.
    """
    image = _ground(world, scene.ground)
    whose = Image.new("L", (_FINE, _FINE))
    for thing in _from_behind(scene):
        mask = _draw(image, thing, world, dice)
        whose.paste(1 + scene.things.index(thing), mask=mask)
    fine = np.asarray(image.reduce(2), dtype=np.float32)
    grain = 12 if world.style == "chalk" else 4
    fine = fine * dice.uniform(0.88, 1.1) + dice.normal(0, grain, (SIDE, SIDE, 1))
    return fine.clip(0, 255).astype(np.uint8), _cover(np.asarray(whose), len(scene.things))


def _cover(whose: UInt8[np.ndarray, "s s"], things: int) -> Int[np.ndarray, "6 6"]:
    step = _FINE // PATCHES
    parts = whose.reshape(PATCHES, step, PATCHES, step)
    shares = [(parts == i).mean((1, 3)) for i in range(1, things + 1)]
    return np.argmax([np.full((PATCHES, PATCHES), 0.25), *shares], axis=0)


def _from_behind(scene: Scene) -> list[Thing]:
    return list(scene.things) if scene.relation == "behind" else list(scene.things)[::-1]


@cache
def _rising() -> Image.Image:
    rows = np.linspace(0, 255, _FINE).astype(np.uint8)[:, None]
    return Image.fromarray(np.repeat(rows, _FINE, axis=1))


def _ground(world: World, name: str) -> Image.Image:
    upper, lower = (Image.new("RGB", (_FINE, _FINE), end) for end in world.grounds[name])
    return Image.composite(lower, upper, _rising())


def _corners(thing: Thing, world: World) -> list[tuple[float, float]]:
    cos, sin = math.cos(thing.turn) * thing.radius, math.sin(thing.turn) * thing.radius
    return [
        (_FINE * (thing.x + x * cos - y * sin), _FINE * (thing.y + x * sin + y * cos))
        for x, y in world.shapes[thing.shape]
    ]


def _draw(image: Image.Image, thing: Thing, world: World, dice: np.random.Generator) -> Image.Image:
    """Onto the picture; the mask of what was covered."""
    corners, colour = _corners(thing, world), world.colours[thing.colour]
    mask = Image.new("L", (_FINE, _FINE))
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    chalk = world.style == "chalk"
    image.paste(colour, mask=mask.point(lambda v: int(0.7 * v)) if chalk else mask)
    if thing.pattern != "plain":
        image.paste(_other(colour), mask=ImageChops.multiply(mask, _pattern(thing.pattern, dice)))
    edge = (240, 240, 235) if chalk else tuple(c // 2 for c in colour)
    ImageDraw.Draw(image).line([*corners, corners[0]], fill=edge, width=3 if chalk else 2)
    return mask


def _other(colour: Colour) -> Colour:
    """What a pattern is drawn with: much lighter, or much darker."""
    red, green, blue = ((c + 2 * 255) // 3 if sum(colour) < 380 else c // 3 for c in colour)
    return red, green, blue


def _pattern(name: str, dice: np.random.Generator) -> Image.Image:
    left, top = (int(v) for v in dice.integers(0, _FINE, 2))
    return _field(name).crop((left, top, left + _FINE, top + _FINE))


@cache
def _field(name: str) -> Image.Image:
    y, x = np.mgrid[: 2 * _FINE, : 2 * _FINE]
    drawn = {
        "striped": lambda: (x + y) % 14 < 6,
        "dotted": lambda: (x % 12 - 6) ** 2 + (y % 12 - 6) ** 2 < 13,
        "checked": lambda: (x // 8 + y // 8) % 2 == 0,
        "zigzag": lambda: (y + np.abs(x % 16 - 8)) % 12 < 5,
        "speckled": lambda: np.random.default_rng(0).random((_FINE, _FINE)).repeat(2, 0).repeat(2, 1) < 0.3,
    }[name]()  # fmt: skip
    return Image.fromarray((255 * drawn).astype(np.uint8))
