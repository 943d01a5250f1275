"""What a world is made of: outlines, colours, patterns, grounds, and the words for them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

__all__ = ["FIRST", "SHIFTED", "Outline", "World"]

Colour: TypeAlias = tuple[int, int, int]
Outline: TypeAlias = tuple[tuple[float, float], ...]
"""Corners within a circle of radius 1, in order; y goes down."""


@dataclass(frozen=True)
class World:
    """Everything that a scene may hold. The first word of a thing is its name; the others mean the same."""

    shapes: Mapping[str, Outline]
    colours: Mapping[str, Colour]
    patterns: tuple[str, ...]
    """"plain" and others, by the names that `drawing` knows."""
    grounds: Mapping[str, tuple[Colour, Colour]]
    """Colours of the upper and of the lower end."""
    relations: tuple[str, ...]
    same: Mapping[str, tuple[str, ...]]
    """Other words for a word."""
    sentences: Mapping[int, tuple[str, ...]]
    """By the number of things, how they are told: {a}, {b}, {c} are things, {r} is how a lies to b."""
    motions: Mapping[str, tuple[str, ...]]
    """What the first thing of a clip does, and the words for it."""
    style: Literal["flat", "chalk"] = "flat"


def _round(corners: int, radius: float = 1.0, turn: float = -math.pi / 2) -> Outline:
    angles = turn + 2 * math.pi * np.arange(corners) / corners
    return tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)


def _star(points: int, inner: float) -> Outline:
    outer, within = _round(points), _round(points, inner, -math.pi / 2 + math.pi / points)
    return tuple(p for pair in zip(outer, within, strict=True) for p in pair)


def _heart() -> Outline:
    turns = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    x = 16 * np.sin(turns) ** 3
    y = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
    return tuple((float(a) / 17, -float(b) / 17) for a, b in zip(x, y, strict=True))


def _ring() -> Outline:
    """An outer and an inner circle, joined by a cut too thin to be seen."""
    outer, inner = _round(24), _round(24, 0.55)
    return (*outer, outer[0], inner[0], *reversed(inner))


def _moon() -> Outline:
    outer = [(math.cos(a), math.sin(a)) for a in np.linspace(0.25, 1.75, 20) * math.pi]
    bay = np.linspace(-1.35, -4.93, 14)  # of a circle around (0.55, 0)
    return (*outer, *[(0.55 + 0.72 * math.cos(a), 0.72 * math.sin(a)) for a in bay])


def _cross() -> Outline:
    w = 0.33
    return (
        (-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w),
        (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w),
    )  # fmt: skip


def _leaf() -> Outline:
    turns = np.linspace(0, math.pi, 12)
    right = [(0.55 * math.sin(t), -math.cos(t)) for t in turns]
    return (*right, *[(-x, y) for x, y in reversed(right[1:-1])])


def _drop() -> Outline:
    around = [(0.66 * math.cos(a), 0.33 + 0.66 * math.sin(a)) for a in np.linspace(-0.5, 3.64, 18)]
    return ((0.0, -1.0), *around)


_CIRCLE = _round(28)
_SQUARE = _round(4, 1.1, -math.pi / 4)
_ARROW = (
    (-1.0, -0.25),
    (0.1, -0.25),
    (0.1, -0.75),
    (1.0, 0.0),
    (0.1, 0.75),
    (0.1, 0.25),
    (-1.0, 0.25),
)
_HOUSE = ((-0.75, 0.9), (-0.75, -0.1), (0.0, -1.0), (0.75, -0.1), (0.75, 0.9))
_CROWN = (
    (-0.95, 0.75),
    (-0.95, -0.7),
    (-0.45, 0.0),
    (0.0, -0.85),
    (0.45, 0.0),
    (0.95, -0.7),
    (0.95, 0.75),
)

FIRST = World(
    shapes={
        "circle": _CIRCLE,
        "square": _SQUARE,
        "triangle": _round(3, 1.1),
        "star": _star(5, 0.42),
        "cross": _cross(),
        "ring": _ring(),
        "diamond": ((0.0, -1.1), (0.7, 0.0), (0.0, 1.1), (-0.7, 0.0)),
        "heart": _heart(),
        "bar": ((-1.15, -0.38), (1.15, -0.38), (1.15, 0.38), (-1.15, 0.38)),
        "moon": _moon(),
    },
    colours={
        "red": (214, 40, 40),
        "green": (40, 160, 60),
        "blue": (40, 80, 210),
        "yellow": (245, 215, 45),
        "orange": (245, 135, 25),
        "purple": (135, 50, 165),
        "pink": (250, 140, 190),
        "brown": (125, 75, 35),
        "black": (25, 25, 25),
        "white": (245, 245, 245),
    },
    patterns=("plain", "striped", "dotted", "checked"),
    grounds={
        "sky": ((150, 200, 240), (205, 230, 250)),
        "grass": ((150, 200, 110), (105, 165, 75)),
        "sand": ((235, 220, 175), (220, 195, 140)),
        "night": ((20, 20, 60), (55, 50, 100)),
        "stone": ((165, 165, 165), (125, 125, 130)),
        "paper": ((250, 248, 240), (240, 236, 225)),
    },
    relations=("left of", "right of", "above", "below", "inside", "behind"),
    same={
        "circle": ("disc", "ball"),
        "square": ("box",),
        "triangle": ("wedge",),
        "cross": ("plus",),
        "ring": ("hoop",),
        "bar": ("stick",),
        "moon": ("crescent",),
        "purple": ("violet",),
        "checked": ("chequered",),
        "dotted": ("spotted",),
        "small": ("little", "tiny"),
        "large": ("big", "huge"),
        "left of": ("to the left of", "on the left side of"),
        "right of": ("to the right of", "on the right side of"),
        "above": ("over", "higher than"),
        "below": ("under", "lower than"),
        "inside": ("in", "within"),
        "behind": ("partly behind", "hidden by"),
        "in front of": ("partly in front of", "covering"),
        "around": ("enclosing",),
        "next to": ("beside",),
    },
    sentences={
        1: ("{a}", "{a} {w}", "there is {a}", "we see {a}", "{a} {g}", "{a} {w} {g}"),
        2: (
            "{a} {r} {b}",
            "{a} {r} {b}",
            "{a} {r} {b} {g}",
            "there is {a} {r} {b}",
            "{a} and {b}",
            "{a} is {r} {b}",
            "{a} and {b} {g}",
        ),
        3: (
            "{a} {r} {b} and {c}",
            "{a}, {b} and {c}",
            "three things: {a}, {b} and {c}",
            "{a} {r} {b} and {c} {g}",
            "{c} and {a} {r} {b}",
        ),
    },
    motions={
        "left": ("moves left", "goes to the left", "moves across"),
        "right": ("moves right", "goes to the right", "moves across"),
        "up": ("moves up", "rises", "moves up or down"),
        "down": ("moves down", "falls", "moves up or down"),
        "grows": ("grows", "gets larger", "changes its size"),
        "shrinks": ("shrinks", "gets smaller", "changes its size"),
        "appears": ("appears", "is there at times"),
        "vanishes": ("vanishes", "is there at times"),
    },
)

SHIFTED = World(
    shapes={
        "arrow": _ARROW,
        "house": _HOUSE,
        "crown": _CROWN,
        "leaf": _leaf(),
        "drop": _drop(),
        "star": FIRST.shapes["star"],
        "circle": _CIRCLE,
        "square": _SQUARE,
    },
    colours={
        "turquoise": (50, 200, 190),
        "maroon": (120, 20, 45),
        "olive": (125, 130, 40),
        "lavender": (190, 170, 235),
        "gold": (205, 165, 60),
        "red": FIRST.colours["red"],
        "blue": FIRST.colours["blue"],
    },
    patterns=("plain", "zigzag", "speckled", "striped"),
    grounds={
        "board": ((40, 70, 55), (30, 55, 45)),
        "brick": ((175, 105, 85), (150, 85, 70)),
        "water": ((70, 140, 165), (45, 105, 140)),
        "sand": FIRST.grounds["sand"],
    },
    relations=("left of", "right of", "above", "below", "touching", "far from"),
    same={
        "circle": ("globe",),
        "speckled": ("grainy",),
        "small": ("mini",),
        "large": ("giant",),
        "left of": ("west of",),
        "right of": ("east of",),
        "above": ("atop", "north of"),
        "below": ("beneath", "south of"),
        "touching": ("leaning on",),
        "far from": ("away from",),
        "next to": ("near",),
    },
    sentences={
        1: ("someone drew {a}", "{a} {w}", "{a} {g}, nothing else"),
        2: (
            "{a} lies {r} {b}",
            "someone drew {a} {r} {b}",
            "{g} we see {a} {r} {b}",
            "{a} with {b} around",
        ),
        3: (
            "{a} lies {r} {b}, {c} too",
            "someone drew {a}, {b} plus {c}",
            "{g} we see {a} {r} {b} plus {c}",
        ),
    },
    motions={
        "left": ("slides west",),
        "right": ("slides east",),
        "up": ("climbs",),
        "down": ("sinks",),
        "grows": ("swells",),
        "shrinks": ("dwindles",),
        "appears": ("pops up",),
        "vanishes": ("fades away",),
    },
    style="chalk",
)
