"""How words change: plural, verb forms, articles, slips of the pen, names that nobody has."""

import random

__all__ = ["a", "ed", "ing", "invented", "number_word", "plural", "s", "slip"]

_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet",
    "tooth": "teeth", "mouse": "mice", "goose": "geese", "sheep": "sheep", "fish": "fish",
    "deer": "deer", "knife": "knives", "leaf": "leaves", "wolf": "wolves", "shelf": "shelves",
    "scarf": "scarves", "loaf": "loaves", "wife": "wives", "half": "halves", "people": "people",
    "bison": "bison", "salmon": "salmon", "cattle": "cattle", "shrimp": "shrimp",
}  # fmt: skip
_PAST = {
    "run": "ran", "swim": "swam", "fly": "flew", "ride": "rode", "drive": "drove", "fall": "fell",
    "sit": "sat", "sleep": "slept", "stand": "stood", "lie": "lay", "speak": "spoke",
    "sing": "sang", "throw": "threw", "catch": "caught", "hit": "hit", "fight": "fought",
    "swing": "swung", "read": "read", "write": "wrote", "draw": "drew", "build": "built",
    "dig": "dug", "sweep": "swept", "teach": "taught", "eat": "ate", "drink": "drank",
    "bite": "bit", "hold": "held", "cut": "cut", "break": "broke", "give": "gave", "take": "took",
    "buy": "bought", "sell": "sold", "wear": "wore", "find": "found", "lose": "lost",
    "steal": "stole", "show": "showed", "send": "sent", "bring": "brought", "hide": "hid",
    "leap": "leapt", "kneel": "knelt", "lean": "leant", "weep": "wept", "learn": "learnt",
    "sew": "sewed", "knit": "knitted", "slide": "slid", "shop": "shopped", "dive": "dived",
}  # fmt: skip
_DOUBLED = ("n", "t", "p", "b", "g", "m")
_ONSETS = (
    "b", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m",
    "n", "p", "pr", "qu", "r", "s", "sh", "sk", "sl", "st", "t", "tr", "v", "w", "y", "z", "",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io", "oo", "ee", "y")
_CODAS = ("", "", "", "n", "r", "l", "s", "t", "x", "nd", "rk", "m", "ck", "ll", "ss", "ng", "th")
_ENDINGS = (
    "", "", "", "", "ia", "o", "ex", "ly", "son", "ton", "ford", "well", "field", "berg", "man",
)  # fmt: skip
_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VOWEL_LETTERS = "aeiou"


def plural(words: str) -> str:
    head, _, last = words.rpartition(" ")
    return f"{head} {_plural(last)}" if head else _plural(last)


def _plural(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith("s") and not word.endswith(("ss", "us")):
        return word
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in _VOWEL_LETTERS:
        return word[:-1] + "ies"
    return word + "s"


def a(words: str) -> str:
    if words.endswith("s") and not words.endswith(("ss", "us", "glass", "dress")):
        return words
    return ("an " if words[:1] in _VOWEL_LETTERS else "a ") + words


def s(words: str) -> str:
    first, _, rest = words.partition(" ")
    return f"{_plural(first)} {rest}".strip() if first not in _PLURALS else words


def ing(words: str) -> str:
    first, _, rest = words.partition(" ")
    return f"{_stem(first)}ing {rest}".strip()


def _stem(word: str) -> str:
    if word.endswith("ie"):
        return word[:-2] + "y"
    if word.endswith("e") and not word.endswith("ee"):
        return word[:-1]
    short = len(word) in (3, 4) and word[-2] in _VOWEL_LETTERS and word[-3] not in _VOWEL_LETTERS
    return word + word[-1] if short and word[-1] in _DOUBLED and word != "open" else word


def ed(words: str) -> str:
    first, _, rest = words.partition(" ")
    if first in _PAST:
        return f"{_PAST[first]} {rest}".strip()
    if first.endswith("y") and first[-2:-1] not in _VOWEL_LETTERS:
        return f"{first[:-1]}ied {rest}".strip()
    past = first + "d" if first.endswith("e") else _stem(first) + "ed"
    return f"{past} {rest}".strip()


def number_word(number: int) -> str:
    """In words below a hundred, in digits from there."""
    if number < 20:
        return _NUMBERS[number]
    if number < 100:
        tens, ones = _TENS[number // 10 - 2], number % 10
        return f"{tens} {_NUMBERS[ones]}" if ones else tens
    return str(number)


def invented(dice: random.Random) -> str:
    """A name of one to three syllables that stands for a brand, a family or a street."""
    syllables = dice.choice((1, 2, 2, 2, 3))
    made = "".join(
        dice.choice(_ONSETS) + dice.choice(_VOWELS) + dice.choice(_CODAS) for _ in range(syllables)
    )
    return made + dice.choice(_ENDINGS)


def slip(word: str, dice: random.Random) -> str:
    """The word with two letters swapped, one left out, one doubled or one exchanged."""
    if len(word) < 4:
        return word
    at = dice.randrange(1, len(word) - 1)
    changed = (
        word[at + 1] + word[at],
        word[at + 1],
        word[at] * 2 + word[at + 1],
        dice.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1],
    )
    return word[:at] + dice.choice(changed) + word[at + 2 :]
