"""From sounds of any length and rate to the tensors that a network reads.

The features are those of transformers' own extractors, which are not used: AST's gives other numbers
where torchaudio is installed, and runs frame by frame where not; Whisper's transforms 30 s of silence.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import resample_poly
from torch import Tensor
from transformers.utils.hub import cached_file

from multiadapt.encoders._families._preparation import Note, Preparation
from multiadapt.errors import EncoderError
from multiadapt.types import Sound

__all__ = ["FilterBank", "LogMel", "SoundPreparation", "Waves", "resampled"]

Wave = Float[np.ndarray, " _"]
SECONDS = 10.0
"""Longest sound for networks that set no limit: their attention takes the square of the time."""
FLOOR = 1e-10
"""Least power in Whisper's spectrogram."""
FRAME, HOP = 400, 160
"""Samples of a frame of the filter bank, and from one to the next: 25 and 10 ms at AST's 16 kHz."""


@dataclass(frozen=True)
class Waves:
    """Waveforms, as wav2vec 2.0 and its kin read them.

    Each is normalised alone and padded with zeros behind its end, which the mask shows.
    """

    rate: int
    least: int
    normalize: bool

    @staticmethod
    def of(config: Any, settings: Mapping[str, Any]) -> "Waves":
        least = 1
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            least = (least - 1) * stride + kernel
        rate = settings.get("sampling_rate", 16_000)
        return Waves(rate, least, settings.get("do_normalize", True))

    @property
    def most(self) -> None:
        return None

    def tensors(self, waves: Sequence[Wave]) -> dict[str, Tensor]:
        longest = max((len(wave) for wave in waves), default=self.least)
        samples = np.zeros((len(waves), longest), np.float32)
        for row, wave in zip(samples, waves, strict=True):
            row[: len(wave)] = self._normal(wave)
        lengths = torch.tensor([len(wave) for wave in waves], dtype=torch.long)
        mask = torch.arange(longest) < lengths[:, None]
        return {"waves": torch.from_numpy(samples), "mask": mask}

    def _normal(self, wave: Wave) -> Wave:
        if not self.normalize:
            return wave
        return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


@dataclass(frozen=True)
class LogMel:
    """Log-mel spectrogram of a fixed window, as Whisper reads it: silence behind the end is heard.

    The mask shows which of the encoder's tokens are of the sound; each covers two steps.
    """

    rate: int
    bins: int
    fft: int
    hop: int
    tokens: int

    @staticmethod
    def of(config: Any, settings: Mapping[str, Any]) -> "LogMel":
        return LogMel(
            settings.get("sampling_rate", 16_000),
            config.num_mel_bins,
            settings.get("n_fft", 400),
            settings.get("hop_length", 160),
            config.max_source_positions,
        )

    @property
    def least(self) -> int:
        return 1

    @property
    def most(self) -> int:
        return 2 * self.tokens * self.hop

    def tensors(self, waves: Sequence[Wave]) -> dict[str, Tensor]:
        edges = _from_mel(np.linspace(0.0, _to_mel(8000.0), self.bins + 2))
        filters = _triangles(edges, np.linspace(0, self.rate / 2, self.fft // 2 + 1))
        weights = torch.from_numpy(filters * 2 / (edges[2:] - edges[:-2])).float()
        found = torch.empty(len(waves), self.bins, 2 * self.tokens)
        for row, wave in zip(found, waves, strict=True):
            row.copy_(self._spectrogram(wave, weights))
        heard = torch.tensor([len(wave) for wave in waves], dtype=torch.long)
        mask = torch.arange(self.tokens) * 2 * self.hop < heard[:, None]
        return {"features": found, "mask": mask}

    def _spectrogram(self, wave: Wave, weights: Float[Tensor, "k m"]) -> Float[Tensor, "m t"]:
        steps = min(2 * self.tokens, math.ceil((len(wave) + self.fft) / self.hop))  # then silence
        heard = torch.zeros(steps * self.hop)
        heard[: len(wave)] = torch.tensor(wave)  # a copy: it may be read-only
        window = torch.hann_window(self.fft)
        spectrum = torch.stft(heard, self.fft, self.hop, window=window, return_complex=True)
        power = spectrum[:, :-1].abs().square()
        log = torch.full((self.bins, 2 * self.tokens), FLOOR)
        log[:, :steps] = weights.T @ power
        log = log.clamp_min(FLOOR).log10()
        return (log.clamp_min(log.max() - 8) + 4) / 4


def _to_mel(hertz: float) -> float:
    """Slaney's scale: even up to 1 kHz, logarithmic from there on."""
    if hertz < 1000:
        return hertz * 3 / 200
    return 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _from_mel(mels: np.ndarray) -> np.ndarray:
    above = 1000 * np.exp((mels - 15) * math.log(6.4) / 27)
    return np.where(mels < 15, mels * 200 / 3, above)


def _triangles(edges: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(places, filters): filter i rises from edge i to edge i + 1 and falls to edge i + 2."""
    rising = (places[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


@dataclass(frozen=True)
class FilterBank:
    """Kaldi's log-mel filter bank of a fixed number of frames, as AST reads it, zeros behind the end."""

    rate: int
    bins: int
    frames: int
    mean: float
    scale: float

    @staticmethod
    def of(config: Any, settings: Mapping[str, Any]) -> "FilterBank":
        normal = settings.get("do_normalize", True)
        return FilterBank(
            settings.get("sampling_rate", 16_000),
            config.num_mel_bins,
            config.max_length,
            settings.get("mean", -4.2677393) if normal else 0.0,
            2 * settings.get("std", 4.5689974) if normal else 1.0,
        )

    @property
    def least(self) -> int:
        return FRAME

    @property
    def most(self) -> int:
        return (self.frames - 1) * HOP + FRAME

    def tensors(self, waves: Sequence[Wave]) -> dict[str, Tensor]:
        edges = np.linspace(_kaldi_mel(20.0), _kaldi_mel(self.rate / 2), self.bins + 2)
        filters = _triangles(edges, _kaldi_mel(np.linspace(0, self.rate / 2, 257)))
        found = np.zeros((len(waves), self.frames, self.bins), np.float32)
        for row, wave in zip(found, waves, strict=True):
            bank = self._bank(wave, filters)
            row[: len(bank)] = bank
        return {"features": torch.from_numpy((found - self.mean) / self.scale)}

    def _bank(self, wave: Wave, filters: np.ndarray) -> np.ndarray:
        frames = np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::HOP]
        centred = frames - frames.mean(1, keepdims=True, dtype=np.float64)
        before = np.concatenate([centred[:, :1], centred[:, :-1]], axis=1)
        windowed = (centred - 0.97 * before) * np.hanning(FRAME)
        power = np.abs(np.fft.rfft(windowed, 512)) ** 2
        return np.log(np.maximum(power @ filters, 1.192092955078125e-07))


def _kaldi_mel(hertz: Any) -> Any:
    return 1127 * np.log(1 + hertz / 700)


Features: TypeAlias = Waves | LogMel | FilterBank
"""What one kind of network reads, from waves at `rate` samples per second. Waves of fewer than `least`
samples are to be filled up; `most` is None where the network has no limit."""

_FEATURES: Mapping[str, Callable[[Any, Mapping[str, Any]], Features]] = {
    "audio-spectrogram-transformer": FilterBank.of,
    "whisper": LogMel.of,
}


@dataclass(frozen=True)
class SoundPreparation(Preparation):
    """Resample, cut at the end, then what the checkpoint's own extractor does. Deterministic."""

    features: Features
    longest: int
    """Samples at the network's rate; what lies behind them is cut off."""

    @staticmethod
    def read(
        place: str | None, config: Any, seconds: float | None, revision: str | None
    ) -> "SoundPreparation":
        """The checkpoint's own; its architecture's usual one where it has none."""
        settings = _settings(place, revision)
        features = _FEATURES.get(config.model_type, Waves.of)(config, settings)
        rate, most = features.rate, features.most
        default = round(SECONDS * rate) if most is None else most
        longest = default if seconds is None else round(seconds * rate)
        if longest < features.least or (most is not None and longest > most):
            limit = "" if most is None else f" and at most {most / rate:g}"
            raise EncoderError(
                f"the network reads sounds of at least {features.least / rate:g}{limit} seconds, got "
                f"seconds={seconds:g}"
            )
        return SoundPreparation(features, longest)

    def tensors(self, items: Sequence[Sound], note: Note) -> dict[str, Tensor]:
        rate, least = self.features.rate, self.features.least
        note(
            f"sounds are longer than {self.longest / rate:g} s and are cut",
            sum(len(s.samples) * rate > self.longest * s.rate for s in items),
        )
        note("sounds are silent", sum(not s.samples.any() for s in items))
        waves = [resampled(s, rate, self.longest) for s in items]
        short = sum(len(wave) < least for wave in waves)
        note(f"sounds are shorter than {least / rate:g} s and are filled up with silence", short)
        return self.features.tensors(
            [np.pad(w, (0, least - len(w))) if len(w) < least else w for w in waves]
        )


def resampled(sound: Sound, rate: int, longest: int) -> Wave:
    """The first `longest` samples of a sound at another rate, by a polyphase low-pass filter."""
    if sound.rate == rate:
        return sound.samples[:longest]
    shared = math.gcd(sound.rate, rate)
    up, down = rate // shared, sound.rate // shared
    # So many samples reach the last one that is kept: scipy's filter has 10 zeros to each side.
    reach = (longest * down + 10 * max(up, down)) // up + 1
    return resample_poly(sound.samples[:reach], up, down)[:longest].astype(np.float32, copy=False)


def _settings(place: str | None, revision: str | None) -> Mapping[str, Any]:
    """What the checkpoint says of its preparation; {} where it says nothing."""
    if place is None:
        return {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = cached_file(
            place, name, revision=revision, _raise_exceptions_for_missing_entries=False
        )
        if file:
            values = json.loads(Path(file).read_text(encoding="utf-8"))
            return values.get("feature_extractor", values)
    return {}
