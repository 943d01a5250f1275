"""What lies between a sound and its file: a room, a background, a microphone, a telephone."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["record"]

RATE, ROOM = 16_000, 4_800


def record(
    waves: Float[Tensor, "b t"], lengths: Int[np.ndarray, " b"], dice: np.random.Generator
) -> tuple[Float[Tensor, "b t"], Float[np.ndarray, " b"]]:
    """The waves as a file would hold them, and the decibels between them and the background."""
    count, length = waves.shape
    generator = torch.Generator().manual_seed(int(dice.integers(2**62)))
    spectrum = torch.fft.rfft(waves, length + ROOM) * _rooms(count, length, dice, generator)
    hertz = torch.linspace(0, RATE / 2, spectrum.shape[1])
    clean = torch.fft.irfft(spectrum, length + ROOM)[:, :length]
    power = clean.square().mean(1, keepdim=True) + 1e-9
    ratio = dice.uniform(0, 45, count)
    ratio[dice.random(count) < 0.25] = 60.0
    behind = _background(count, length, dice, generator)
    scale = (power * torch.tensor(10 ** (-ratio / 10)).float()[:, None]).sqrt()
    mixed = torch.fft.rfft(clean + behind * scale)
    hertz = torch.linspace(0, RATE / 2, mixed.shape[1])
    heard = torch.fft.irfft(mixed * _band(hertz, count, dice), length)
    inside = torch.arange(length) < torch.from_numpy(lengths)[:, None]
    heard = heard * inside
    peak = heard.abs().amax(1, keepdim=True) + 1e-9
    loud = torch.tensor(10 ** (-(dice.uniform(0, 1, count) ** 1.5) * 1.8)).float()[:, None]
    heard = heard / peak * loud
    steps = torch.tensor(np.where(dice.random(count) < 0.1, 2.0**9, 2.0**15)).float()[:, None]
    return (heard * steps).round() / steps, ratio


def _rooms(
    count: int, length: int, dice: np.random.Generator, generator: torch.Generator
) -> Tensor:
    """The direct sound and, in half of the rows, an echo that dies away."""
    times = torch.arange(ROOM) / RATE
    fall = torch.tensor(dice.uniform(0.03, 0.3, count)).float()[:, None]
    echo = torch.randn((count, ROOM), generator=generator) * torch.exp(-3 * times / fall)
    echo = echo / echo.square().sum(1, keepdim=True).sqrt()
    strength = np.where(dice.random(count) < 0.5, dice.uniform(0.1, 0.9, count), 0.0)
    echo = echo * torch.tensor(strength).float()[:, None]
    echo[:, 0] = 1.0
    return torch.fft.rfft(echo, length + ROOM)


def _background(
    count: int, length: int, dice: np.random.Generator, generator: torch.Generator
) -> Float[Tensor, "b t"]:
    """Noise between white and brown, with hum in every fourth row; of power one."""
    noise = torch.fft.rfft(torch.randn((count, length), generator=generator))
    hertz = torch.linspace(0, RATE / 2, noise.shape[1])
    slope = torch.tensor(dice.uniform(0, 1, count)).float()[:, None]
    found = torch.fft.irfft(noise * (1 + hertz / 100) ** -slope, length)
    found = found / found.square().mean(1, keepdim=True).sqrt()
    base = np.where(dice.random(count) < 0.5, 50.0, 60.0)
    times = np.arange(length) / RATE
    hum = sum(np.sin(2 * np.pi * k * base[:, None] * times) / k for k in (1, 2, 3))
    share = np.where(dice.random(count) < 0.25, dice.random(count), 0.0)[:, None]
    return found * (1 - torch.tensor(share)).float() + torch.tensor(hum * share).float()


def _band(
    hertz: Float[Tensor, " f"], count: int, dice: np.random.Generator
) -> Float[Tensor, "b f"]:
    """What a microphone passes: a slope, a low cut, and in half of the rows nothing above 4 kHz."""
    slope = torch.tensor(dice.normal(0, 0.3, count)).float()[:, None]
    low = torch.tensor(dice.uniform(20, 250, count)).float()[:, None]
    narrow = dice.random(count) < 0.5
    top = np.where(narrow, dice.uniform(3300, 4000, count), dice.uniform(5000, 9000, count))
    steep = torch.tensor(top).float()[:, None]
    gain = ((hertz + 100) / 1000) ** slope / (1 + (low / (hertz + 1)) ** 4).sqrt()
    return gain * torch.sigmoid((steep - hertz) / 40)
