"""The vocabulary: whole words of the first world, and pieces that spell all others."""

from functools import cache
from pathlib import Path

import numpy as np
from transformers import BertTokenizer

from worlds.clips import clip, told
from worlds.scenes import scene
from worlds.sentences import caption, question
from worlds.things import FIRST

__all__ = ["CLS", "DEC", "LIMIT", "PAD", "PROMPT", "SEP", "ids", "tokenizer", "vocabulary"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
PAD, CLS, SEP, DEC = (SPECIAL.index(f"[{name}]") for name in ("PAD", "CLS", "SEP", "DEC"))
PROMPT = "a picture of"
LIMIT = 64
"""Most tokens of a text."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_MARKS = "?,.:;!'\"()-/&%+*=#$@<>[]_"


@cache
def vocabulary() -> dict[str, int]:
    """Numbers of tokens. Words are those of sentences that a seeded draw makes."""
    dice = np.random.default_rng(0)
    words: set[str] = set(PROMPT.split())
    for _ in range(1500):
        one = scene(FIRST, dice)
        asked = question(one, FIRST, dice)
        moving = told(clip(FIRST, dice), FIRST, dice)
        for text in (caption(one, FIRST, dice), moving, asked.text, asked.answer):
            words.update(_words(text))
    tokens = [*SPECIAL, *_MARKS, *_LETTERS, *(f"##{c}" for c in _LETTERS)]
    tokens += [*_pieces(), *sorted(words)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def ids(text: str, dice: np.random.Generator, spelled: float = 0.0) -> list[int]:
    """What the tokenizer makes of a text; words are `spelled` from pieces in this share of cases."""
    known, found = vocabulary(), []
    for word in _words(text):
        found += _spelled(word) if word.isalpha() and dice.random() < spelled else [known[word]]
    return found


def tokenizer() -> BertTokenizer:
    """BERT's, with this vocabulary."""
    made = BertTokenizer(vocab=vocabulary(), do_lower_case=True, model_max_length=LIMIT)
    made.add_special_tokens({"bos_token": "[DEC]"})
    return made


@cache
def _pieces() -> tuple[str, ...]:
    """Of words that are no words of the first world; those that go on begin with ##."""
    lines = Path(__file__).with_name("pieces.txt").read_text(encoding="utf-8").splitlines()
    return tuple(piece for line in lines if not line.startswith("# ") for piece in line.split())


def _words(text: str) -> list[str]:
    return text.replace("?", " ?").replace(",", " ,").replace(":", " :").split()


@cache
def _spelled(word: str) -> tuple[int, ...]:
    """From pieces, as long as there are, and never the whole word."""
    known, found, start = vocabulary(), [], 0
    pieces = {*_pieces(), *_LETTERS, *(f"##{letter}" for letter in _LETTERS)}
    while start < len(word):
        sign = "##" if start else ""
        end = next(
            e for e in range(len(word), start, -1)
            if sign + word[start:e] in pieces and (start or e < len(word) or len(word) == 1)
        )  # fmt: skip
        found.append(known[sign + word[start:end]])
        start = end
    return tuple(found)
