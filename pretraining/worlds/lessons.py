"""Batches: what a step of pretraining reads, drawn anew for every step from seed and step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from worlds.clips import FRAMES, Clip, clip, told
from worlds.drawing import drawn
from worlds.scenes import Scene, count_things, scene
from worlds.sentences import caption, question
from worlds.things import FIRST
from worlds.wording import CLS, DEC, PAD, PROMPT, SEP, ids

__all__ = ["LABELS", "MEAN", "STD", "Lesson", "Words", "lesson", "pixels"]

MEAN, STD = 0.5, 0.25
"""Of the brightness that the network reads, in 0..1."""
SPELLED = 0.1
"""Share of words that are spelled from pieces in every fourth step; in all steps, padding would cost more."""
LABELS = tuple(
    {n: i for i, n in enumerate(names, 1)}
    for names in (FIRST.shapes, FIRST.colours, FIRST.patterns)
)
"""Numbers of shapes, colours and patterns; 0 is nothing."""


@dataclass(frozen=True)
class Words:
    ids: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]


@dataclass(frozen=True)
class Lesson:
    """Pictures (one a frame) with a caption, a question and an answer each."""

    pixels: Float[Tensor, "f 3 h w"]
    labels: Int[Tensor, "f p 3"]
    """By patch: shape, colour and pattern of what covers it."""
    captions: Words
    """Opened with [CLS]."""
    written: Words
    """The same opened with [DEC] and the prompt."""
    asked: tuple[Words, Words] | None
    """Questions, and answers opened with [DEC]; None: clips are not asked about."""
    names: tuple[str, ...]
    """The captions as sentences: equal ones fit each other's pictures."""


def lesson(seed: int, step: int, batch: int) -> Lesson:
    """Two steps tell the same pictures in other words; an eighth is of clips, a quarter as many."""
    views = _views(seed, step // 2, batch)
    dice = np.random.default_rng([seed, step, 2])
    spelled = SPELLED if step % 4 == 0 else 0.0
    told = [view.told(dice) for view in views]
    said = [ids(text, dice, spelled) for text in told]
    prompt = ids(PROMPT, dice)
    return Lesson(
        pixels([picture for view in views for picture in view.pictures]),
        torch.from_numpy(np.concatenate([view.labels for view in views])),
        _padded([[CLS, *words, SEP] for words in said]),
        _padded([[DEC, *prompt, *words, SEP] for words in said]),
        None if len(views[0].pictures) > 1 else _asked(views, dice, spelled),
        tuple(told),
    )


def pixels(pictures: Sequence[UInt8[np.ndarray, "48 48 3"]]) -> Float[Tensor, "f 3 48 48"]:
    whole = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return ((whole / 255 - MEAN) / STD).contiguous()


@dataclass(frozen=True)
class _View:
    """One picture, or the frames of a clip, and what it shows."""

    of: Scene | Clip
    pictures: list[UInt8[np.ndarray, "48 48 3"]]
    labels: Int[np.ndarray, "f 36 3"]

    def told(self, dice: np.random.Generator) -> str:
        return (
            told(self.of, FIRST, dice)
            if isinstance(self.of, Clip)
            else caption(self.of, FIRST, dice)
        )


@lru_cache(maxsize=1)
def _views(seed: int, number: int, batch: int) -> list[_View]:
    """Scenes with equally many things, so that their sentences are of about one length; or clips."""
    dice = np.random.default_rng([seed, number, 3])
    if number % 8 == 7:
        return [_view(clip(FIRST, dice), dice) for _ in range(batch // FRAMES)]
    count = count_things(dice)
    return [_view(scene(FIRST, dice, count), dice) for _ in range(batch)]


def _view(of: Scene | Clip, dice: np.random.Generator) -> _View:
    scenes = of.frames if isinstance(of, Clip) else (of,)
    shown = [drawn(one, FIRST, dice) for one in scenes]
    labels = [_labels(one, whose) for one, (_, whose) in zip(scenes, shown, strict=True)]
    return _View(of, [picture for picture, _ in shown], np.stack(labels))


def _asked(
    views: Sequence[_View], dice: np.random.Generator, spelled: float
) -> tuple[Words, Words]:
    asked = [question(view.of, FIRST, dice) for view in views if isinstance(view.of, Scene)]
    return (
        _padded([[CLS, *ids(q.text, dice, spelled), SEP] for q in asked]),
        _padded([[DEC, *ids(q.answer, dice), SEP] for q in asked]),
    )


def _labels(one: Scene, whose: Int[np.ndarray, "6 6"]) -> Int[np.ndarray, "36 3"]:
    shapes, colours, patterns = LABELS
    of = [(0, 0, 0)]
    of += [(shapes[t.shape], colours[t.colour], patterns[t.pattern]) for t in one.things]
    return np.array(of, dtype=np.int64)[whose.ravel()]


def _padded(rows: Sequence[Sequence[int]]) -> Words:
    longest = max(map(len, rows))
    padded = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])
    length = torch.tensor([len(row) for row in rows])
    return Words(padded, torch.arange(longest) < length[:, None])
