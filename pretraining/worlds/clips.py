"""Short clips: one thing moves, grows or appears; another may stay."""

from dataclasses import dataclass, replace

import numpy as np

from worlds.scenes import Scene, Thing, scene
from worlds.sentences import phrase
from worlds.things import World

__all__ = ["FRAMES", "Clip", "clip", "told"]

FRAMES = 4
_SLIDES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Clip:
    frames: tuple[Scene, ...]
    mover: Thing
    motion: str
    other: Thing | None
    """What stays where it is."""


def clip(world: World, dice: np.random.Generator) -> Clip:
    """Four frames in which one thing changes its place or its size, or is not always there."""
    start = scene(world, dice)
    motion = str(dice.choice(list(world.motions)))
    mover, others = start.things[0], start.things[1:2] if dice.random() < 0.5 else ()
    frames = tuple(
        Scene(tuple(t for t in (moved, *others) if t is not None), start.ground, "")
        for moved in _path(mover, motion, dice)
    )
    return Clip(frames, mover, motion, others[0] if others else None)


def told(one: Clip, world: World, dice: np.random.Generator) -> str:
    """A sentence about a clip."""
    verb = str(dice.choice(world.motions[one.motion]))
    said = f"{phrase(one.mover, world, dice)} {verb}"
    return said if one.other is None else f"{said} and {phrase(one.other, world, dice)} stays"


def _path(thing: Thing, motion: str, dice: np.random.Generator) -> list[Thing | None]:
    """The thing in every frame; None where it is not there."""
    along = np.linspace(-0.5, 0.5, FRAMES)
    if motion in _SLIDES:
        room = 0.98 - 2 * thing.radius
        way, far = _SLIDES[motion], room * float(dice.uniform(0.8, 1))
        x, y = (0.5, thing.y) if way[0] else (thing.x, 0.5)
        return [replace(thing, x=x + way[0] * a * far, y=y + way[1] * a * far) for a in along]
    if motion in ("grows", "shrinks"):
        sizes = np.linspace(0.1, 0.27, FRAMES)[:: 1 if motion == "grows" else -1]
        x, y = np.clip((thing.x, thing.y), 0.28, 0.72)
        plain = replace(thing, size="", x=float(x), y=float(y))
        return [replace(plain, radius=float(size)) for size in sizes]
    first, last = ([None, None], [thing, thing])
    return [*first, *last] if motion == "appears" else [*last, *first]
