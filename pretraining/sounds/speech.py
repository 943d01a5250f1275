"""From words to waves: a source of pulses and noise behind formants that move."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sounds.phones import NAMES, PHONES, VOWELS, Part

__all__ = ["HOP", "RATE", "STEPS", "Speaker", "Utterance", "render", "utter"]

RATE, HOP, FFT, STEPS = 16_000, 128, 512, 250
"""Samples per second; from one control step to the next; of a filter's window; steps of 2 seconds."""
SILENT = len(NAMES)
"""The label of steps without speech."""
_FIELDS = 9  # three formants, damping, voice, breath, hiss, centre, width


@dataclass(frozen=True)
class Speaker:
    """A voice: what stays the same from word to word."""

    scale: float
    """Of all formants: 1 for a man of middle size, more for shorter throats."""
    pitch: float
    """Hz."""
    tilt: float
    """dB per octave that the voice loses above 500 Hz, beside the formants."""
    tempo: float
    breath: float
    accent: Float[np.ndarray, "v 3"]
    """Each vowel's formants against the table's."""
    higher: tuple[float, float]
    """The fourth and the fifth formant."""

    @staticmethod
    def draw(dice: np.random.Generator) -> "Speaker":
        scale = float(np.exp(dice.normal(0.1, 0.11)))
        return Speaker(
            scale=scale,
            pitch=float(115 * scale**2.2 * np.exp(dice.normal(0, 0.22))),
            tilt=float(dice.uniform(0, 9)),
            tempo=float(np.exp(dice.normal(0, 0.25))),
            breath=float(dice.uniform(0, 0.25) ** 1.5),
            accent=np.exp(dice.normal(0, 0.06, (len(VOWELS), 3))),
            higher=(float(dice.uniform(3300, 3900)), float(dice.uniform(4200, 5000))),
        )


@dataclass(frozen=True)
class Utterance:
    """What a word is made of, step by step."""

    speaker: Speaker
    tracks: Float[np.ndarray, "t k"]
    pitch: Float[np.ndarray, " t"]
    labels: Int[np.ndarray, " t"]
    steps: int
    """How many steps there are until the sound ends."""


def utter(phones: Sequence[str], speaker: Speaker, dice: np.random.Generator) -> Utterance:
    """One way of saying a word; never the same twice."""
    parts = [(part, name) for name in phones for part in PHONES[name]]
    table = np.array([_row(part, name, speaker) for part, name in parts])
    for i in range(len(table) - 1, -1, -1):
        if table[i, 0] == 0:  # what follows lends its formants
            table[i, :3] = table[i + 1, :3] if i + 1 < len(table) else (500, 1500, 2500)
    table[:, :3] *= np.exp(dice.normal(0, 0.03, (len(table), 3)))
    table[:, 4:7] *= np.exp(dice.normal(0, 0.2, (len(table), 3)))
    counts = _durations([part for part, _ in parts], speaker, dice)
    before = int(dice.integers(0, 6) if dice.random() < 0.6 else dice.integers(0, 60))
    after = int(dice.integers(0, 6) if dice.random() < 0.6 else dice.integers(0, 60))
    room = STEPS - before
    labels = np.repeat([NAMES.index(name) for _, name in parts], counts)[:room]
    said = np.repeat(table, counts, axis=0)[:room]
    tracks, all_labels = np.zeros((STEPS, _FIELDS)), np.full(STEPS, SILENT)
    tracks[:, :4], tracks[:, 7:] = (500, 1500, 2500, 1), (3000, 1000)
    tracks[:before, :4], tracks[before + len(said) :, :4] = said[0, :4], said[-1, :4]
    tracks[before : before + len(said)] = said
    all_labels[before : before + len(said)] = labels
    steps = min(before + len(said) + after, STEPS)
    return Utterance(speaker, tracks, _melody(speaker, len(said), before, dice), all_labels, steps)


def _row(part: Part, name: str, speaker: Speaker) -> tuple[float, ...]:
    formants = np.array(part.formants)
    if name in VOWELS:
        formants = formants * speaker.accent[list(VOWELS).index(name)]
    shown = (part.damping, part.voice, part.breath, part.hiss, part.centre, part.width)
    return (*(formants * speaker.scale).tolist(), *shown)


def _durations(
    parts: Sequence[Part], speaker: Speaker, dice: np.random.Generator
) -> Int[np.ndarray, " p"]:
    seconds = np.array([part.seconds for part in parts]) * speaker.tempo
    seconds *= np.exp(dice.normal(0, 0.25, len(parts)))
    return np.maximum(1, np.round(seconds * RATE / HOP)).astype(int)


def _melody(
    speaker: Speaker, said: int, before: int, dice: np.random.Generator
) -> Float[np.ndarray, " t"]:
    """Falls or rises over the word, with a bend and a little unrest."""
    place = (np.arange(STEPS) - before) / max(said, 1)
    start, end, bend = dice.normal(0.05, 0.1), dice.normal(-0.15, 0.2), dice.normal(0, 0.15)
    place = place.clip(0, 1)
    line = start + (end - start) * place + bend * np.sin(np.pi * place)
    unrest = np.convolve(dice.normal(0, 0.02, STEPS), np.ones(5) / 2, "same")
    return (speaker.pitch * np.exp(line + unrest)).clip(50, 700)


def render(said: Sequence[Utterance], dice: torch.Generator) -> Float[Tensor, "b t"]:
    """Waves as long as the longest; a vowel's power is about one."""
    steps = max(u.steps for u in said)
    tracks = torch.from_numpy(np.stack([u.tracks[:steps] for u in said])).float()
    pitch = torch.from_numpy(np.stack([u.pitch[:steps] for u in said])).float()
    shapes = _smooth(tracks[..., :4].log(), 7).exp()
    loud = _smooth(tracks[..., 4:7], 3)
    source, hiss = _sources(loud, pitch, said, dice)
    window = torch.hann_window(FFT)
    spectrum = torch.stft(source, FFT, HOP, window=window, return_complex=True)
    spectrum *= _throat(shapes, said).transpose(1, 2)
    noise = torch.stft(hiss, FFT, HOP, window=window, return_complex=True)
    spectrum += noise * _mouth(tracks[..., 7], tracks[..., 8]).transpose(1, 2)
    return torch.istft(spectrum, FFT, HOP, window=window, length=steps * HOP)


def _smooth(x: Float[Tensor, "b t k"], steps: int) -> Float[Tensor, "b t k"]:
    kernel = torch.hann_window(steps + 2, periodic=False)[1:-1]
    rows = functional.pad(x.transpose(1, 2), (steps // 2, steps // 2), mode="replicate")
    kernels = (kernel / kernel.sum()).expand(x.shape[2], 1, -1)
    return functional.conv1d(rows, kernels, groups=x.shape[2]).transpose(1, 2)


def _sources(
    loud: Float[Tensor, "b t 3"],
    pitch: Float[Tensor, "b t"],
    said: Sequence[Utterance],
    dice: torch.Generator,
) -> tuple[Float[Tensor, "b s"], Float[Tensor, "b s"]]:
    """Pulses with breath, and hiss; each of power one where it is fully loud."""
    voice, breath, hiss, hertz = (_between(x) for x in (*loud.unbind(2), pitch))
    turns = torch.cumsum(hertz.double() / RATE, 1)
    pulses = torch.diff(turns.floor(), dim=1, prepend=turns[:, :1].floor()).float()
    pulses *= (RATE / hertz).sqrt()
    noise = torch.randn((2, *pulses.shape), generator=dice)
    breathy = torch.tensor([u.speaker.breath for u in said])[:, None]
    return voice * (pulses + breathy * noise[0]) + breath * noise[0], hiss * noise[1]


def _between(x: Float[Tensor, "b t"]) -> Float[Tensor, "b s"]:
    """Straight lines from step to step, sample by sample."""
    after = torch.cat([x[:, 1:], x[:, -1:]], 1)
    return (x[..., None] + (after - x)[..., None] * torch.arange(HOP) / HOP).flatten(1)


def _throat(shapes: Float[Tensor, "b t 4"], said: Sequence[Utterance]) -> Float[Tensor, "b n f"]:
    """How much passes at each frequency: five resonances in a row, of power one in all."""
    hertz = torch.linspace(0, RATE / 2, FFT // 2 + 1)
    steps, shapes = shapes.shape[1], shapes[:, ::2]  # a filter for every second step is enough
    damping = shapes[..., 3]
    power = torch.ones((*damping.shape, len(hertz)))
    for i in range(5):
        if i < 3:
            place = shapes[..., i]
        else:
            own = torch.tensor([u.speaker.higher[i - 3] * u.speaker.scale for u in said])
            place = own[:, None].expand_as(damping)
        half = (35 + 0.025 * place) * damping
        for sign in (-1, 1):
            power = power * ((hertz + sign * place[..., None]).square() + half[..., None].square())
        power = power / (place.square() + half.square()).square()[..., None]
    tilt = torch.tensor([u.speaker.tilt for u in said])[:, None, None] / 3.01
    gain = power.clamp_min(1e-12).rsqrt() * (1 + (hertz / 500).square()) ** (-tilt / 4)
    gain = gain / gain.square().mean(2, keepdim=True).sqrt()
    return _windows(gain, steps)


def _mouth(centre: Float[Tensor, "b t"], width: Float[Tensor, "b t"]) -> Float[Tensor, "b n f"]:
    hertz = torch.linspace(0, RATE / 2, FFT // 2 + 1)
    steps, centre, width = centre.shape[1], centre[:, ::2], width[:, ::2]
    gain = torch.exp(-((hertz - centre[..., None]) / width[..., None]).square() / 2) + 0.03
    gain = gain / gain.square().mean(2, keepdim=True).sqrt()
    return _windows(gain, steps)


def _windows(gain: Float[Tensor, "b n f"], steps: int) -> Float[Tensor, "b m f"]:
    """Each twice; the transform has one window more than there are steps."""
    return gain.repeat_interleave(2, 1)[:, torch.arange(steps + 1).clamp_max(2 * gain.shape[1] - 1)]
