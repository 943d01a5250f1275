"""Speech sounds as a formant synthesiser needs them, and invented words of them.

Formants are round numbers near the averages that phonetics books print for English and its
neighbours; the words follow no language.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["NAMES", "PHONES", "VOWELS", "Part", "neighbour", "word"]


@dataclass(frozen=True)
class Part:
    """A stretch of sound between two transitions; loudness is relative to a vowel's."""

    seconds: float
    formants: tuple[float, float, float]
    """Hz; the fourth and fifth are the speaker's. Zeros: those of what comes next."""
    voice: float = 0.0
    breath: float = 0.0
    """Noise that passes the same formants."""
    hiss: float = 0.0
    centre: float = 3000.0
    """Of the hiss, Hz."""
    width: float = 1000.0
    damping: float = 1.0
    """How much wider than a vowel's the formants are: noses swallow sound."""


VOWELS: Mapping[str, tuple[float, float, float]] = {
    "i": (280, 2250, 2950),
    "I": (400, 1950, 2550),
    "e": (420, 2100, 2650),
    "E": (560, 1800, 2500),
    "a": (700, 1650, 2450),
    "A": (730, 1100, 2500),
    "O": (570, 850, 2450),
    "o": (450, 900, 2400),
    "U": (440, 1050, 2250),
    "u": (310, 870, 2250),
    "V": (630, 1200, 2500),
    "3": (490, 1350, 1700),
    "y": (290, 1800, 2200),
    "2": (420, 1500, 2250),
    "@": (500, 1450, 2500),
}

LIPS, TEETH, RIDGE, PALATE, VELUM = (
    (300.0, 850.0, 2200.0),
    (300.0, 1400.0, 2600.0),
    (300.0, 1750.0, 2650.0),
    (300.0, 2050.0, 2700.0),
    (300.0, 2000.0, 2350.0),
)
NEXT = (0.0, 0.0, 0.0)


def _vowel(formants: tuple[float, float, float]) -> tuple[Part, ...]:
    return (Part(0.13, formants, voice=(formants[0] / 500) ** 0.4),)


def _hiss(
    place: tuple[float, float, float], loud: float, centre: float, width: float, voice: float = 0.0
) -> tuple[Part, ...]:
    seconds = 0.07 if voice else 0.1
    return (Part(seconds, place, voice=voice, hiss=loud, centre=centre, width=width, damping=1.5),)


def _stop(
    place: tuple[float, float, float], centre: float, width: float, *, voiced: bool
) -> tuple[Part, ...]:
    closed = Part(0.05, place, voice=0.08 if voiced else 0.0, damping=3.0)
    burst = Part(0.012, place, hiss=0.3, centre=centre, width=width)
    breath = Part(0.012 if voiced else 0.045, NEXT, breath=0.06 if voiced else 0.2)
    return closed, burst, breath


def _catch(parts: tuple[Part, ...], hiss: Part) -> tuple[Part, ...]:
    """A stop that lets go into a hiss."""
    return *parts[:2], replace(hiss, seconds=0.06)


_S, _SH = _hiss(RIDGE, 0.3, 6200, 1500), _hiss(PALATE, 0.35, 3300, 1000)
_Z, _ZH = _hiss(RIDGE, 0.18, 6000, 1500, 0.25), _hiss(PALATE, 0.2, 3200, 1000, 0.25)
_T, _D = _stop(RIDGE, 4500, 1500, voiced=False), _stop(RIDGE, 4200, 1500, voiced=True)

PHONES: Mapping[str, tuple[Part, ...]] = {
    **{name: _vowel(formants) for name, formants in VOWELS.items()},
    "w": (Part(0.06, (300, 650, 2250), voice=0.45),),
    "j": (Part(0.06, (270, 2200, 3000), voice=0.45),),
    "l": (Part(0.07, (350, 1100, 2700), voice=0.5, damping=1.3),),
    "r": (Part(0.07, (330, 1150, 1550), voice=0.5, damping=1.2),),
    "m": (Part(0.075, (250, 1000, 2200), voice=0.35, damping=2.5),),
    "n": (Part(0.07, (260, 1550, 2600), voice=0.35, damping=2.5),),
    "N": (Part(0.08, (270, 2000, 2600), voice=0.35, damping=2.5),),
    "f": _hiss(LIPS, 0.09, 5000, 4000),
    "v": _hiss(LIPS, 0.05, 4500, 4000, 0.3),
    "T": _hiss(TEETH, 0.07, 6000, 3500),
    "D": _hiss(TEETH, 0.03, 5500, 3500, 0.35),
    "s": _S,
    "z": _Z,
    "S": _SH,
    "Z": _ZH,
    "x": _hiss(VELUM, 0.2, 1900, 600),
    "h": (Part(0.07, NEXT, breath=0.2),),
    "p": _stop(LIPS, 900, 700, voiced=False),
    "b": _stop(LIPS, 800, 700, voiced=True),
    "t": _T,
    "d": _D,
    "k": _stop(VELUM, 2000, 600, voiced=False),
    "g": _stop(VELUM, 1900, 600, voiced=True),
    "C": _catch(_T, _SH[0]),
    "J": _catch(_D, _ZH[0]),
}
NAMES = tuple(PHONES)
_CONSONANTS = tuple(name for name in NAMES if name not in VOWELS)
_LIQUIDS, _BEFORE = ("w", "j", "l", "r"), ("p", "b", "t", "d", "k", "g", "f", "T", "s", "S")


def word(dice: np.random.Generator) -> tuple[str, ...]:
    """One to four syllables: consonants or none, a vowel or a glide between two, consonants or none."""
    found: list[str] = []
    for _ in range(dice.choice(4, p=(0.5, 0.32, 0.13, 0.05)) + 1):
        found += _opening(dice)
        found += dice.choice(list(VOWELS), 2 if dice.random() < 0.3 else 1, replace=False).tolist()
        found += _closing(dice)
    return tuple(found)


def _opening(dice: np.random.Generator) -> list[str]:
    chance = dice.random()
    if chance < 0.15:
        return []
    if chance < 0.35:
        return [str(dice.choice(_BEFORE)), str(dice.choice(_LIQUIDS))]
    if chance < 0.42:
        return ["s", str(dice.choice(("p", "t", "k", "m", "n", "l")))]
    return [str(dice.choice([c for c in _CONSONANTS if c != "N"]))]


def _closing(dice: np.random.Generator) -> list[str]:
    chance = dice.random()
    if chance < 0.4:
        return []
    last = str(dice.choice([c for c in _CONSONANTS if c not in ("w", "j", "h")]))
    if chance > 0.85:
        return [str(dice.choice(("l", "r", "m", "n", "s", "k"))), last]
    return [last]


def neighbour(phones: tuple[str, ...], dice: np.random.Generator) -> tuple[str, ...]:
    """The same word with one sound exchanged for another of its sort."""
    at = int(dice.integers(len(phones)))
    sort = tuple(VOWELS) if phones[at] in VOWELS else _CONSONANTS
    other = str(dice.choice([name for name in sort if name != phones[at]]))
    return (*phones[:at], other, *phones[at + 1 :])
