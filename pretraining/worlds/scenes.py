"""Scenes: which things there are, where they lie, and how they lie to one another."""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from worlds.things import World

__all__ = ["INVERSE", "Scene", "Thing", "beside", "count_things", "scene", "where"]

INVERSE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "inside": "around",
    "around": "inside",
    "behind": "in front of",
    "in front of": "behind",
    "touching": "touching",
    "far from": "far from",
    "next to": "next to",
}
Spot: TypeAlias = tuple[float, float]
_RADII = {"small": (0.11, 0.135), "": (0.16, 0.19), "large": (0.225, 0.265)}
_WAYS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


@dataclass(frozen=True)
class Thing:
    """Places and radii are shares of the picture's side."""

    shape: str
    colour: str
    pattern: str
    size: str
    """"small", "large" or "" between them."""
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.15
    turn: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Things in the order in which they are drawn last to first: the first hides those behind it."""

    things: tuple[Thing, ...]
    ground: str
    relation: str
    """How the first lies to the second; "" where there is one alone."""


def count_things(dice: np.random.Generator) -> int:
    return int(dice.choice([1, 2, 3], p=[0.3, 0.45, 0.25]))


def scene(world: World, dice: np.random.Generator, count: int | None = None) -> Scene:
    """One to three things, or so many, all of different kinds."""
    count = count or count_things(dice)
    ground = str(dice.choice(list(world.grounds)))
    kinds: set[tuple[str, str]] = set()
    things: list[Thing] = []
    while len(things) < count:
        thing = _thing(world, dice)
        if (thing.shape, thing.colour) not in kinds and not _unseen(world, thing, ground):
            kinds.add((thing.shape, thing.colour))
            things.append(thing)
    relation = str(dice.choice(world.relations)) if count > 1 else ""
    return Scene(_placed(things, relation, dice), ground, relation)


def beside(one: Thing, other: Thing) -> str:
    """How two things lie to each other that do not overlap; "next to" where it is between two words."""
    across, down = one.x - other.x, one.y - other.y
    if max(abs(across), abs(down)) < 1.5 * min(abs(across), abs(down)):
        return "next to"
    if abs(across) > abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def where(thing: Thing) -> str:
    """The part of the picture; "" where it is between two words."""
    across, down = thing.x - 0.5, thing.y - 0.5
    if max(abs(across), abs(down)) < 0.07:
        return "middle"
    if abs(across) > 2 * abs(down) and abs(across) > 0.15:
        return "left" if across < 0 else "right"
    if abs(down) > 2 * abs(across) and abs(down) > 0.15:
        return "top" if down < 0 else "bottom"
    return ""


def _thing(world: World, dice: np.random.Generator) -> Thing:
    pattern = "plain" if dice.random() < 0.5 else str(dice.choice(world.patterns))
    size = str(dice.choice(list(_RADII)))
    turn = float(dice.uniform(-0.2, 0.2))
    shape, colour = str(dice.choice(list(world.shapes))), str(dice.choice(list(world.colours)))
    return Thing(shape, colour, pattern, size, radius=float(dice.uniform(*_RADII[size])), turn=turn)


def _unseen(world: World, thing: Thing, ground: str) -> bool:
    """Whether a thing would be lost before its ground."""
    colour = world.colours[thing.colour]
    return any(math.dist(colour, end) < 70 for end in world.grounds[ground])


def _placed(things: list[Thing], relation: str, dice: np.random.Generator) -> tuple[Thing, ...]:
    """Tried until all lie inside the picture and only those overlap that shall; smaller after a while."""
    if relation == "inside":
        things = _nested(things)
    for attempt in range(10_000):
        radii = [t.radius * 0.95 ** (attempt // 40) for t in things]
        spots = _spots(radii, relation, dice)
        if spots is not None:
            both = zip(things, radii, spots, strict=True)
            return tuple(replace(t, radius=r, x=x, y=y) for t, r, (x, y) in both)
    raise RuntimeError(f"no place was found for {things} with relation {relation!r}")


def _nested(things: list[Thing]) -> list[Thing]:
    """The second as large and plain as one must be that another lies in."""
    one, other, *others = things
    other = replace(other, radius=max(other.radius, 0.25), size="large", pattern="plain")
    return [replace(one, radius=0.4 * other.radius, size="small"), other, *others]


def _spots(radii: list[float], relation: str, dice: np.random.Generator) -> list[Spot] | None:
    """A try; None: something lies outside or on another."""
    count = 2 if relation else 1
    spots = _pair(radii, relation, dice) if relation else [_somewhere(radii[0], dice)]
    if not all(r <= v <= 1 - r for r, spot in zip(radii, spots, strict=False) for v in spot):
        return None
    for radius in radii[count:]:
        spot = _somewhere(radius, dice)
        if any(math.dist(spot, s) < radius + r + 0.01 for s, r in zip(spots, radii, strict=False)):
            return None
        spots.append(spot)
    return spots


def _pair(radii: list[float], relation: str, dice: np.random.Generator) -> list[Spot]:
    x, y = _somewhere(radii[1], dice)
    reach = radii[0] + radii[1]
    if relation in _WAYS:
        across, down = _WAYS[relation]
        apart = reach + dice.uniform(0.02, 0.2)
        slip = dice.uniform(-0.3, 0.3) * apart
        spot = (x + (across * apart or slip), y + (down * apart or slip))
    else:
        low, high = {
            "inside": (0.0, 0.12 * radii[1]),
            "behind": (0.55 * reach, 0.75 * reach),
            "touching": (0.88 * reach, 0.93 * reach),
            "far from": (max(reach, 0.55), max(reach, 0.8)),
        }[relation]
        apart, angle = dice.uniform(low, high), dice.uniform(0, 2 * math.pi)
        spot = (x + apart * math.cos(angle), y + apart * math.sin(angle))
    return [spot, (x, y)]


def _somewhere(radius: float, dice: np.random.Generator) -> Spot:
    return dice.uniform(radius + 0.01, 0.99 - radius), dice.uniform(radius + 0.01, 0.99 - radius)
