"""Facts, and the many ways to put the same facts into words."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from texts import spelling
from texts.lexicon import Concept, lexicon

__all__ = ["PLURAL_TOO", "Domain", "Record", "domains", "draw", "say", "vary"]

Value = Concept | str | int | float
Record = Mapping[str, Value]
"""What is the case: by slot, a meaning, an invented name, a number."""

# Which lines of the lexicon go with which hypernym; drawn so in four of five cases.
_LIKELY: Mapping[str, Mapping[str, str]] = {
    "clothing": {"material": "material/fabric"},
    "accessory": {"material": "material/fabric,material/leather"},
    "footwear": {"material": "material/leather", "occasion": "occasion/casual"},
    "jewellery": {"material": "material/metal,material/stone", "gender": "gender/female"},
    "watch": {"material": "material/metal,material/leather", "occasion": "occasion/casual"},
    "cosmetics": {"material": "material/plastic", "gender": "gender/female"},
    "furniture": {"material": "material/wood,material/metal"},
    "homeware": {"material": "material/fabric,material/stone"},
    "kitchenware": {"material": "material/metal,material/stone,material/plastic"},
    "tool": {"material": "material/metal,material/plastic"},
    "toy": {"material": "material/plastic,material/wood", "gender": "gender/any"},
    "baby": {"gender": "gender/any"},
    "media": {"material": "material/paper"},
    "outerwear": {"season": "season/cold", "occasion": "occasion/casual"},
    "knitwear": {"season": "season/cold", "occasion": "occasion/casual"},
    "scarf": {"season": "season/cold"},
    "gloves": {"season": "season/cold"},
    "boots": {"season": "season/cold"},
    "top": {"season": "season/warm", "occasion": "occasion/casual"},
    "bottom": {"occasion": "occasion/casual"},
    "swimwear": {"season": "season/warm", "occasion": "occasion/sporty"},
    "sandals": {"season": "season/warm", "occasion": "occasion/casual"},
    "eyewear": {"season": "season/warm"},
    "dress": {"gender": "gender/female", "season": "season/warm"},
    "heels": {"gender": "gender/female", "occasion": "occasion/formal"},
    "suit": {"gender": "gender/male", "occasion": "occasion/formal"},
    "tie": {"gender": "gender/male", "occasion": "occasion/formal"},
    "shoes": {"occasion": "occasion/formal"},
    "sports_shoes": {"occasion": "occasion/sporty"},
    "indian_wear": {"occasion": "occasion/cultural", "gender": "gender/female"},
    "dessert": {"taste": "taste/flavour", "meal": "meal"},
}  # fmt: skip
_BREAKS = (", ", "; ", " | ", "\n", ". ", " / ")
_NOUNS = ("thing", "food", "animal", "plant", "job", "place", "colour", "material", "ailment")
PLURAL_TOO = ("thing", "food", "animal", "plant", "job")
_HYPERNYM, _SLIP, _LISTED, _KEPT, _PLURAL = 0.06, 0.1, 0.15, 0.72, 0.2
_PART = re.compile(r"\{(\w+)((?::\w+)*)\}|([\[\](|)])")


@dataclass(frozen=True)
class Domain:
    """One kind of thing to write about."""

    name: str
    weight: float
    slots: Mapping[str, str]
    templates: tuple["Part", ...]


@dataclass(frozen=True)
class Part:
    """A stretch of a template: plain text, a slot, or parts in a row of which some are chosen."""

    kind: str
    """text, slot, row, optional, choice"""
    text: str = ""
    forms: tuple[str, ...] = ()
    parts: tuple["Part", ...] = ()


@cache
def domains() -> tuple[Domain, ...]:
    text = Path(__file__).with_name("domains.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^= ", text, flags=re.MULTILINE)[1:]
    return tuple(_domain(block) for block in blocks)


def _domain(block: str) -> Domain:
    heading, *lines = [line for line in block.splitlines() if line.strip()]
    name, weight = heading.split()
    slots = dict(line.split(": ", 1) for line in lines if re.match(r"\w+: [@#$~a-z]", line))
    templates = tuple(_parsed(line) for line in lines if not re.match(r"\w+: [@#$~a-z]", line))
    return Domain(name, float(weight), slots, templates)


def _parsed(line: str) -> Part:
    pieces: list[Part | str] = []
    end = 0
    for found in _PART.finditer(line):
        if plain := line[end : found.start()]:
            pieces.append(Part("text", plain))
        slot, forms, sign = found.groups()
        pieces.append(sign or Part("slot", slot, tuple(forms.split(":")[1:])))
        end = found.end()
    if line[end:]:
        pieces.append(Part("text", line[end:]))
    pieces.reverse()
    return _row(pieces, "")


def _row(pieces: list[Part | str], closing: str) -> Part:
    """Parts up to the closing sign; with a bar among them, a choice."""
    rows: list[list[Part]] = [[]]
    while pieces:
        piece = pieces.pop()
        if piece == closing:
            break
        if piece == "|":
            rows.append([])
        elif piece == "[":
            rows[-1].append(Part("optional", parts=(_row(pieces, "]"),)))
        elif piece == "(":
            rows[-1].append(_row(pieces, ")"))
        elif isinstance(piece, Part):
            rows[-1].append(piece)
    made = tuple(Part("row", parts=tuple(row)) for row in rows)
    return made[0] if len(made) == 1 else Part("choice", parts=made)


def draw(domain: Domain, dice: random.Random) -> Record:
    """One set of facts."""
    record: dict[str, Value] = {}
    good = dice.random() < 0.5
    for slot, query in domain.slots.items():
        record[slot] = _value(slot, query, record, dice, good=good)
    if good_mood := record.get("verdict"):  # a verdict goes with the mood of the rest
        mood = "verdict/good" if good else "verdict/bad"
        record["verdict"] = _meaning(mood, dice) if dice.random() < 0.9 else good_mood
    return record


def _value(slot: str, query: str, record: Record, dice: random.Random, *, good: bool) -> Value:
    sign, _, rest = query.partition(" ")
    if sign == "@":
        return spelling.invented(dice)
    if sign in ("#", "#C"):
        low, high = map(int, rest.split())
        number = dice.randint(low, high)
        return str(number) if sign == "#C" else number
    if sign == "$":
        low, high = map(int, rest.split())
        return float(round(dice.uniform(low, high), dice.choice((0, 0, 2))))
    if sign == "~":
        return _meaning(rest.split()[0 if good else 1], dice)
    return _meaning(_fitting(slot, query, record, dice), dice)


def _fitting(slot: str, query: str, record: Record, dice: random.Random) -> str:
    kind = record.get("kind")
    if isinstance(kind, Concept) and slot != "kind" and dice.random() < 0.8:
        for parent in reversed(kind.parents):
            if likely := _LIKELY.get(parent.replace(" ", "_"), {}).get(slot):
                return likely
    return query


def _meaning(query: str, dice: random.Random) -> Concept:
    return dice.choice(dice.choice(lexicon().choices(query)))


def vary(domain: Domain, record: Record, dice: random.Random) -> Record:
    """The same facts but for one or two, which are drawn again."""
    other = draw(domain, dice)
    changed = dice.sample(list(record), min(len(record), dice.choice((1, 1, 2))))
    return {slot: other[slot] if slot in changed else value for slot, value in record.items()}


def say(domain: Domain, record: Record, dice: random.Random) -> tuple[str, list[int]]:
    """One way to put the facts into words, and the meanings that these words state."""
    stated: list[int] = []
    if dice.random() < _LISTED and len(record) > 1:
        text = _listed(record, stated, dice)
    else:
        text = _said(dice.choice(domain.templates), record, stated, dice)
    if dice.random() < _SLIP:
        words = text.split(" ")
        at = dice.randrange(len(words))
        words[at] = spelling.slip(words[at], dice)
        text = " ".join(words)
    return text.strip(), stated


def _listed(record: Record, stated: list[int], dice: random.Random) -> str:
    """Facts as "name: value", or as values alone."""
    slots = dice.sample(list(record), dice.randint(2, min(6, len(record))))
    between, named = dice.choice(_BREAKS), dice.random() < 0.6
    sign = dice.choice((": ", "=", " ", ":", " - "))
    told = [_slot(record[slot], (), stated, dice) for slot in slots]
    if named:
        told = [f"{slot}{sign}{value}" for slot, value in zip(slots, told, strict=True)]
    return between.join(told)


def _said(part: Part, record: Record, stated: list[int], dice: random.Random) -> str:
    if part.kind == "text":
        return part.text
    if part.kind == "slot":
        return _slot(record[part.text], part.forms, stated, dice)
    if part.kind == "choice":
        return _said(dice.choice(part.parts), record, stated, dice)
    if part.kind == "optional" and dice.random() > _KEPT:
        return ""
    return "".join(_said(inner, record, stated, dice) for inner in part.parts)


_FORMS: Mapping[str, Callable[[str], str]] = {
    "plural": spelling.plural,
    "a": spelling.a,
    "s": spelling.s,
    "ing": spelling.ing,
    "ed": spelling.ed,
}


def _slot(value: Value, forms: Sequence[str], stated: list[int], dice: random.Random) -> str:
    if isinstance(value, float):
        return _amount(value, dice)
    if isinstance(value, int):
        return spelling.number_word(value) if dice.random() < 0.3 else str(value)
    if isinstance(value, str):
        return value
    stated.extend(value.above)
    word = dice.choice(value.forms)
    vague = value.group in _NOUNS and bool(value.parents) and dice.random() < _HYPERNYM
    if vague or "parent" in forms:
        word = dice.choice(value.parents[-2:]) if value.parents else value.group
    else:
        stated.append(value.number)
    if not forms and value.group in PLURAL_TOO and dice.random() < _PLURAL:
        word = spelling.plural(word)
    for form in forms:
        word = _FORMS[form](word) if form in _FORMS else word
    return word


def _amount(value: float, dice: random.Random) -> str:
    number = f"{value:.0f}" if value == int(value) else f"{value:.2f}"
    ways = ("{} dollars", "${}", "{} euros", "€{}", "{} eur", "{} usd", "£{}", "{}")
    return dice.choice(ways).format(number)
