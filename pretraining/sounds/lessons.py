"""One step's sounds: words and noises, each twice, and what is true of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from multiadapt.encoders._families._waves import LogMel
from sounds.noises import KINDS, Event, sound
from sounds.phones import NAMES, neighbour, word
from sounds.rooms import record
from sounds.speech import HOP, RATE, STEPS, Speaker, Utterance, render, utter

__all__ = ["BINS", "CLASSES", "NUMBERS", "TOKENS", "Lesson", "lesson"]

BINS, TOKENS = 64, 100
"""Mel bands, and what the network makes of two seconds: a token for every 20 ms."""
CLASSES = {"kind": 1 + len(KINDS), "first": len(NAMES), "last": len(NAMES)}
"""What is heard (0: a word), and the word's first and last sound."""
NUMBERS = ("pitch", "seconds", "background", "throat", "tempo", "pace", "colour")
CHUNK = 8
"""Sounds of like length that are made together: what they need fits into the processor's cache."""
WORDS, NEIGHBOURS = 0.75, 0.3
"""Shares: of words among all sounds, and of words that differ from another in one sound only."""


@dataclass(frozen=True)
class Lesson:
    """Rows of words, the same words by other voices, noises, and the same noises again."""

    features: Float[Tensor, "b m t"]
    mask: Bool[Tensor, "b n"]
    partner: Int[Tensor, " b"]
    """The row that is the other rendering of each."""
    truth: dict[str, Tensor]
    """Classes (-1: not asked), numbers (NaN: not asked), "bag" (words, sounds) and "steps" (words, n)."""


def lesson(seed: int, step: int, count: int) -> Lesson:
    """The same for the same numbers; `count` words and noises, each rendered twice."""
    dice = np.random.default_rng((seed, step))
    spoken = round(count * WORDS)
    words = _words(spoken, dice) * 2
    said = [utter(phones, Speaker.draw(dice), dice) for phones in words]
    events = [Event.draw(dice) for _ in range(count - spoken)]
    events += [event.again(dice) for event in events]
    waves, ratios = _recorded(said, events, dice)
    prepared = LogMel(RATE, BINS, 400, 160, TOKENS).tensors(waves)
    truth = _truth(words, said, events) | {"background": torch.tensor(ratios).float() / 15 - 1.5}
    rows = torch.arange(2 * count)
    partner = torch.cat([rows[: 2 * spoken].roll(spoken), rows[2 * spoken :].roll(count - spoken)])
    return Lesson(prepared["features"], prepared["mask"], partner, truth)


def _words(count: int, dice: np.random.Generator) -> list[tuple[str, ...]]:
    found = [word(dice)]
    while len(found) < count:
        alike = dice.random() < NEIGHBOURS
        found.append(neighbour(found[-1], dice) if alike else word(dice))
    return found


def _recorded(
    said: Sequence[Utterance], events: Sequence[Event], dice: np.random.Generator
) -> tuple[list[Float[np.ndarray, " _"]], list[float]]:
    """Waves and their decibels above the background, in the order of the rows."""
    noise = torch.Generator().manual_seed(int(dice.integers(2**62)))
    others = [sound(event, dice) for event in events]
    lengths = np.array([u.steps * HOP for u in said] + [n for _, n in others])
    found: dict[int, tuple[Float[np.ndarray, " _"], float]] = {}
    for rows in _alike(lengths[: len(said)]):
        made = render([said[row] for row in rows], noise)
        found |= _heard(made, rows, lengths[rows], dice)
    for rows in _alike(lengths[len(said) :]):
        longest = lengths[rows + len(said)].max()
        made = torch.from_numpy(np.stack([others[row][0][:longest] for row in rows])).float()
        found |= _heard(made, rows + len(said), lengths[rows + len(said)], dice)
    ordered = [found[row] for row in range(len(lengths))]
    return [wave for wave, _ in ordered], [ratio for _, ratio in ordered]


def _alike(lengths: Int[np.ndarray, " r"]) -> Iterator[Int[np.ndarray, " c"]]:
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), CHUNK):
        yield order[start : start + CHUNK]


def _heard(
    made: Float[Tensor, "c t"],
    rows: Int[np.ndarray, " c"],
    lengths: Int[np.ndarray, " c"],
    dice: np.random.Generator,
) -> dict[int, tuple[Float[np.ndarray, " _"], float]]:
    waves, ratios = record(made, lengths, dice)
    parts = zip(rows.tolist(), waves, lengths, ratios.tolist(), strict=True)
    return {row: (wave[:length].numpy(), ratio) for row, wave, length, ratio in parts}


def _truth(
    words: Sequence[Sequence[str]], said: Sequence[Utterance], events: Sequence[Event]
) -> dict[str, Tensor]:
    """Numbers are scaled to about -1 to 1."""
    at = ((np.arange(TOKENS) + 0.5) * STEPS / TOKENS).astype(int)
    bag = torch.zeros(len(words), len(NAMES))
    for row, phones in enumerate(words):
        bag[row, [NAMES.index(name) for name in phones]] = 1
    kinds = [0] * len(words) + [1 + KINDS.index(event.kind) for event in events]
    unasked = [-1] * len(events)
    return {
        "kind": torch.tensor(kinds),
        "first": torch.tensor([NAMES.index(phones[0]) for phones in words] + unasked),
        "last": torch.tensor([NAMES.index(phones[-1]) for phones in words] + unasked),
        "bag": bag,
        "steps": torch.from_numpy(np.stack([u.labels[at] for u in said])),
    } | _numbers(said, events)


def _numbers(said: Sequence[Utterance], events: Sequence[Event]) -> dict[str, Tensor]:
    nothing = math.nan
    spoken = [
        (
            2 * math.log(u.speaker.pitch / 150),
            2 * u.steps * HOP / RATE - 2,
            7 * (u.speaker.scale - 1.1),
            3 * math.log(u.speaker.tempo),
            nothing,
            nothing,
        )
        for u in said
    ]
    heard = [
        (
            math.log(e.pitch / 450),
            2 * e.seconds - 2,
            nothing,
            nothing,
            math.log(e.pace / 4),
            3 * e.colour - 1.5,
        )
        for e in events
    ]
    names = [name for name in NUMBERS if name != "background"]
    columns = torch.tensor(spoken + heard).unbind(1)
    return dict(zip(names, columns, strict=True))
