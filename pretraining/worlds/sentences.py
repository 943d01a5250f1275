"""What can be said of a scene: captions, and questions with their answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from worlds.scenes import INVERSE, Scene, Thing, beside, where
from worlds.things import World

__all__ = ["Question", "caption", "phrase", "question", "questions", "said"]

_COUNTS = ("zero", "one", "two", "three")
_PLACES = {
    "middle": ("in the middle", "in the centre"),
    "left": ("on the left", "at the left side"),
    "right": ("on the right", "at the right side"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}


@dataclass(frozen=True)
class Question:
    text: str
    answer: str


def said(word: str, world: World, dice: np.random.Generator) -> str:
    """The word, or at times another one for it."""
    others = world.same.get(word, ())
    return str(dice.choice(others)) if others and dice.random() < 0.3 else word


def phrase(thing: Thing, world: World, dice: np.random.Generator) -> str:
    """Such as "a small red striped circle"; size and pattern are left out at times."""
    size = thing.size if dice.random() < 0.6 else ""
    colour = thing.colour if dice.random() < 0.95 else ""
    pattern = thing.pattern if thing.pattern != "plain" and dice.random() < 0.8 else ""
    between = [colour, pattern] if dice.random() < 0.6 else [pattern, colour]
    words = [said(w, world, dice) for w in (size, *between, thing.shape) if w]
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def caption(scene: Scene, world: World, dice: np.random.Generator) -> str:
    """One sentence of the many that are true."""
    things, relation = list(scene.things), scene.relation
    if relation and dice.random() < 0.4:
        things[:2], relation = things[1::-1], INVERSE[relation]
    told = [phrase(thing, world, dice) for thing in things]
    names = dict(zip("abc", told, strict=False))
    forms = list(world.sentences[len(things)])
    place = where(things[0])
    if not place:
        forms = [form for form in forms if "{w}" not in form]
    spot = str(dice.choice(_PLACES[place])) if place else ""
    ground = f"on {said(scene.ground, world, dice)}"
    return str(dice.choice(forms)).format(r=said(relation, world, dice), w=spot, g=ground, **names)


def question(scene: Scene, world: World, dice: np.random.Generator) -> Question:
    """One of a kind that is drawn first, so that rare kinds are asked as often."""
    kinds = (_colour, _shape, _pattern, _size, _count, _relation, _is_there, _is_so, _ground)
    while True:
        kind = kinds[int(dice.integers(len(kinds)))]
        found = list(kind(scene, world, dice))
        if found:
            return found[int(dice.integers(len(found)))]


def questions(scene: Scene, world: World, dice: np.random.Generator, count: int) -> list[Question]:
    """Different ones, fewer where no more were found."""
    found: dict[str, Question] = {}
    for _ in range(5 * count):
        one = question(scene, world, dice)
        found.setdefault(one.text, one)
    return list(found.values())[:count]


_Kind = Callable[[Scene, World, np.random.Generator], Iterator[Question]]


def _alone(things: Sequence[Thing], part: str) -> list[Thing]:
    """Those that no other shares this part with."""
    values = [getattr(thing, part) for thing in things]
    return [t for t, value in zip(things, values, strict=True) if values.count(value) == 1]


def _colour(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    word = dice.choice(["colour", "color"])
    for thing in _alone(scene.things, "shape"):
        yield Question(f"what {word} is the {said(thing.shape, world, dice)}?", thing.colour)


def _shape(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    for thing in _alone(scene.things, "colour"):
        named = said(thing.colour, world, dice)
        asks = (f"what shape is the {named} thing?", f"what is {named}?")
        yield Question(str(dice.choice(asks)), thing.shape)


def _pattern(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    for thing in _alone(scene.things, "shape"):
        yield Question(f"what pattern has the {said(thing.shape, world, dice)}?", thing.pattern)


def _size(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    for thing in _alone(scene.things, "shape"):
        if thing.size:
            named = said(thing.shape, world, dice)
            yield Question(f"is the {named} small or large?", thing.size)


def _count(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    yield Question("how many things are there?", _COUNTS[len(scene.things)])
    colour = str(dice.choice(list(world.colours)))
    if dice.random() < 0.7:
        colour = scene.things[int(dice.integers(len(scene.things)))].colour
    many = sum(t.colour == colour for t in scene.things)
    yield Question(f"how many {said(colour, world, dice)} things are there?", _COUNTS[many])


def _relation(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    for one, other, how in _pairs(scene):
        if how != "next to":
            names = [said(t.shape, world, dice) for t in (one, other)]
            yield Question(f"how does the {names[0]} lie to the {names[1]}?", how)


def _is_there(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    thing = scene.things[int(dice.integers(len(scene.things)))]
    shape, colour = thing.shape, thing.colour
    if dice.random() < 0.5:
        if dice.random() < 0.5:
            shape = str(dice.choice(list(world.shapes)))
        else:
            colour = str(dice.choice(list(world.colours)))
    there = any(t.shape == shape and t.colour == colour for t in scene.things)
    named = f"{said(colour, world, dice)} {said(shape, world, dice)}"
    yield Question(f"is there a {named}?", "yes" if there else "no")


def _is_so(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    for one, other, how in _pairs(scene):
        if how == "next to":
            continue
        names = [said(t.shape, world, dice) for t in (one, other)]
        claim = how if dice.random() < 0.5 else INVERSE[how]
        if INVERSE[how] == how:
            claim = how if dice.random() < 0.5 else str(dice.choice(world.relations[:4]))
        told = said(claim, world, dice)
        yield Question(f"is the {names[0]} {told} the {names[1]}?", "yes" if claim == how else "no")


def _ground(scene: Scene, world: World, dice: np.random.Generator) -> Iterator[Question]:
    yield Question("what is the background?", scene.ground)


def _pairs(scene: Scene) -> Iterator[tuple[Thing, Thing, str]]:
    """Two things of shapes that are there once, and how the one lies to the other."""
    known = _alone(scene.things, "shape")
    for i, one in enumerate(scene.things):
        for j, other in enumerate(scene.things):
            if i != j and one in known and other in known:
                yield one, other, _how(scene, i, j)


def _how(scene: Scene, i: int, j: int) -> str:
    if {i, j} == {0, 1}:
        return scene.relation if i == 0 else INVERSE[scene.relation]
    return beside(scene.things[i], scene.things[j])
