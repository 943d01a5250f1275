"""Sounds that are no speech: tones, animals, strikes and weather, each from a few drawn numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

__all__ = ["KINDS", "Event", "sound"]

RATE, LENGTH = 16_000, 32_000
Wave = Float[np.ndarray, " t"]


@dataclass(frozen=True)
class Event:
    """What is heard; two renderings of one event differ as two barks of one dog do."""

    kind: str
    pitch: float
    """Hz."""
    pace: float
    """Per second, of what repeats."""
    colour: float
    """0 to 1: dull to bright."""
    seconds: float

    @staticmethod
    def draw(dice: np.random.Generator) -> "Event":
        return Event(
            str(dice.choice(KINDS)),
            float(np.exp(dice.uniform(np.log(90), np.log(2200)))),
            float(np.exp(dice.uniform(np.log(1.5), np.log(12)))),
            float(dice.random()),
            float(dice.uniform(0.25, 2.0)),
        )

    def again(self, dice: np.random.Generator) -> "Event":
        """Nearly the same."""
        about = np.exp(dice.normal(0, 0.04, 3))
        return Event(
            self.kind,
            self.pitch * about[0],
            self.pace * about[1],
            self.colour,
            self.seconds * about[2],
        )


def sound(event: Event, dice: np.random.Generator) -> tuple[Wave, int]:
    """Two seconds, and how many samples of them are meant."""
    length = min(int(event.seconds * RATE), LENGTH)
    times = np.arange(length) / RATE
    wave = _MAKERS[event.kind](event, times, dice)
    ends = np.minimum(1, np.minimum(times, times[::-1]) / 0.004)
    found = np.zeros(LENGTH)
    found[:length] = wave / (np.sqrt(np.mean(wave**2)) + 1e-9) * ends
    return found, length


def _turns(hertz: float | Wave, times: Wave) -> Wave:
    return 2 * np.pi * np.cumsum(np.broadcast_to(hertz, times.shape)) / RATE


def _rich(turns: Wave, event: Event, most: int = 12) -> Wave:
    """A tone with overtones; the brighter, the more of them is left."""
    fall = 2.2 - 1.7 * event.colour
    known = [k for k in range(1, most + 1) if k * event.pitch < 7500] or [1]
    return sum((np.sin(k * turns) * k**-fall for k in known), np.zeros_like(turns))


def _noise(times: Wave, dice: np.random.Generator, colour: float) -> Wave:
    """From brown to white."""
    return lfilter([1.0], [1.0, -0.98 * (1 - colour)], dice.normal(size=len(times)))


def _strikes(event: Event, times: Wave, dice: np.random.Generator, unrest: float) -> Wave:
    """Seconds since the last of repeated strikes."""
    gaps = np.exp(dice.normal(0, unrest, 64)) / event.pace
    at = np.concatenate([[0.0], np.cumsum(gaps)])
    return times - at[np.searchsorted(at, times, side="right") - 1]


def _tone(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return np.sin(_turns(e.pitch, t))


def _instrument(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return _rich(_turns(e.pitch, t), e) * np.minimum(1, t / 0.05)


def _plucked(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    since = _strikes(e, t, dice, 0.02)
    return _rich(_turns(e.pitch, t), e) * np.exp(-since * (3 + 5 * e.colour))


def _chord(e: Event, t: Wave, dice: np.random.Generator, steps: tuple[int, ...]) -> Wave:
    low = e.pitch if e.pitch < 700 else e.pitch / 4
    return sum((_rich(_turns(low * 2 ** (s / 12), t), e, 5) for s in steps), np.zeros_like(t))


def _rise(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return _rich(_turns(e.pitch * 2 ** (2 * t / t[-1] * (0.5 + e.colour)), t), e, 3)


def _fall(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return _rich(_turns(e.pitch * 2 ** (-2 * t / t[-1] * (0.5 + e.colour)), t), e, 3)


def _siren(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    swing = np.sin(2 * np.pi * e.pace / 3 * t + dice.uniform(0, 6.3))
    return _rich(_turns(e.pitch * 2 ** (0.4 * swing), t), e, 5)


def _vibrato(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    swing = np.sin(2 * np.pi * (4 + e.pace / 4) * t + dice.uniform(0, 6.3))
    return _rich(_turns(e.pitch * 2 ** (0.05 * swing), t), e)


def _beeps(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return _tone(e, t, dice) * (_strikes(e, t, dice, 0.0) * e.pace < 0.3 + 0.4 * e.colour)


def _two_tones(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return np.sin(_turns(e.pitch, t)) + np.sin(_turns(e.pitch * (1.2 + 0.5 * e.colour), t))


def _hush(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return _noise(t, dice, e.colour)


def _wind(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    swell = np.convolve(dice.normal(size=len(t) // 400 + 9), np.ones(9), "valid")
    return _noise(t, dice, 0.3 * e.colour) * np.exp(
        0.4 * np.interp(t * 40, np.arange(len(swell)), swell)
    )


def _rain(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    drops = dice.random(len(t)) < e.pace * 20 / RATE
    return lfilter([1.0], [1.0, -1.5 * e.colour, 0.7], drops * dice.exponential(size=len(t)))


def _claps(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    since = _strikes(e, t, dice, 0.15)
    return _noise(t, dice, 0.6 + 0.4 * e.colour) * np.exp(-since * 70)


def _knocks(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    since, low = _strikes(e, t, dice, 0.1), 120 + 300 * e.colour
    return np.sin(2 * np.pi * low * since) * np.exp(-since * 45) + 0.1 * _claps(e, t, dice)


def _drum(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    since = _strikes(e, t, dice, 0.02)
    body = np.sin(2 * np.pi * (60 * since + (4 + 4 * e.colour) * (1 - np.exp(-since * 25))))
    return body * np.exp(-since * 9)


def _bell(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    since, base = _strikes(e, t, dice, 0.0), max(e.pitch, 300.0)
    parts = zip((0.5, 1, 1.19, 1.5, 2, 2.74, 3.76), (1, 2, 2.5, 3, 4, 6, 8), strict=True)
    rung = [
        np.sin(2 * np.pi * base * k * t) * np.exp(-since * fall)
        for k, fall in parts
        if base * k < 7800
    ]
    return sum(rung, np.zeros_like(t))


def _clicks(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    since = _strikes(e, t, dice, 0.01)
    return np.sin(2 * np.pi * (1500 + 4000 * e.colour) * since) * np.exp(-since * 600)


def _bird(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    phase = _strikes(e, t, dice, 0.05) * e.pace
    base, way = 2200 + 0.8 * e.pitch, 1 if e.colour > 0.5 else -1
    sweep = base * 2 ** (way * (phase.clip(0, 0.6) - 0.3) * 1.5)
    return np.sin(_turns(sweep, t)) * np.sin(np.pi * (phase / 0.6).clip(0, 1))


def _bark(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    since = _strikes(e, t, dice, 0.15)
    hertz = (150 + 0.25 * e.pitch) * (1 + 1.2 * np.exp(-(((since - 0.05) / 0.04) ** 2)))
    throat = _rich(_turns(hertz, t), e) + 0.7 * _noise(t, dice, 0.6)
    return throat * (since / 0.02).clip(0, 1) * np.exp(-since * 14)


def _meow(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    place = t / t[-1]
    hertz = (350 + 0.3 * e.pitch) * (0.8 + 0.6 * np.sin(np.pi * place))
    turns = _turns(hertz, t)
    open_ = np.sin(np.pi * place)
    parts = [np.sin(k * turns) * np.exp(-((k - 2 - 5 * open_) ** 2) / 8) for k in range(1, 11)]
    return sum(parts, np.zeros_like(t)) * open_


def _engine(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    hertz = (20 + 8 * e.pace) * (1 + 0.05 * np.sin(2 * np.pi * 1.3 * t))
    pulses = np.diff(np.floor(_turns(hertz, t) / 2 / np.pi), prepend=0.0)
    ring = np.exp(-np.arange(800) / 150) * np.sin(np.arange(800) * (0.05 + 0.15 * e.colour))
    return np.convolve(pulses, ring)[: len(t)] + 0.05 * _noise(t, dice, 0.3)


def _frog(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    since = _strikes(e, t, dice, 0.1)
    trill = np.sin(2 * np.pi * (25 + 30 * e.colour) * t).clip(0, None)
    return np.sin(_turns(400 + 0.5 * e.pitch, t)) * trill * (since * e.pace < 0.5)


def _major(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return _chord(e, t, dice, (0, 4, 7))


def _minor(e: Event, t: Wave, dice: np.random.Generator) -> Wave:
    return _chord(e, t, dice, (0, 3, 7))


_MAKERS: Mapping[str, Callable[[Event, Wave, np.random.Generator], Wave]] = {
    "tone": _tone,
    "instrument": _instrument,
    "plucked": _plucked,
    "major": _major,
    "minor": _minor,
    "rise": _rise,
    "fall": _fall,
    "siren": _siren,
    "vibrato": _vibrato,
    "beeps": _beeps,
    "two tones": _two_tones,
    "hush": _hush,
    "wind": _wind,
    "rain": _rain,
    "claps": _claps,
    "knocks": _knocks,
    "drum": _drum,
    "bell": _bell,
    "clicks": _clicks,
    "bird": _bird,
    "bark": _bark,
    "meow": _meow,
    "engine": _engine,
    "frog": _frog,
}
KINDS = tuple(_MAKERS)
