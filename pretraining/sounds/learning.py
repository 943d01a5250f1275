"""The network, its losses and the run that learns what was heard."""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from running import keep, take_up
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperModel

from sounds.lessons import BINS, CLASSES, NUMBERS, TOKENS, Lesson, lesson
from sounds.phones import NAMES

__all__ = ["Run", "export", "pretrain", "start"]

TEMPERATURE = 0.15
WEIGHTS = {"steps": 1.0, "bag": 5.0, "same": 0.5, "kind": 0.5, "first": 0.25, "last": 0.25}
WEIGHTS |= dict.fromkeys(NUMBERS, 0.1)


def network() -> WhisperModel:
    """Whisper's encoder, small and for two seconds; its decoder is there in name only."""
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    return WhisperModel(
        WhisperConfig(
            num_mel_bins=BINS,
            max_source_positions=TOKENS,
            d_model=160,
            encoder_layers=3,
            encoder_attention_heads=5,
            encoder_ffn_dim=480,
            decoder_layers=0,
            decoder_attention_heads=1,
            decoder_ffn_dim=1,
            vocab_size=2,
            max_target_positions=1,
            pad_token_id=0,
            begin_suppress_tokens=None,
            **special,
        )
    )


class Student(nn.Module):
    """The encoder with the heads that only pretraining needs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = network()
        width = self.encoder.config.d_model
        self.widths = {**CLASSES, **dict.fromkeys(NUMBERS, 1)}
        self.steps = nn.Linear(width, len(NAMES) + 1)
        self.bag = nn.Linear(width, len(NAMES))
        self.answers = nn.Linear(width, sum(self.widths.values()))
        self.project = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 128))

    def forward(
        self, features: Float[Tensor, "b m t"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b d"]]:
        """The last states, and their mean over the tokens that the sound reaches into."""
        tokens = self.encoder.get_encoder()(features).last_hidden_state.float()
        shares = mask / mask.sum(1, keepdim=True)
        return tokens, (tokens * shares[..., None]).sum(1)

    def told(self, pooled: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        parts = self.answers(pooled).split(tuple(self.widths.values()), 1)
        return dict(zip(self.widths, parts, strict=True))


def same_sound(projected: Float[Tensor, "b d"], partner: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """NT-Xent (SimCLR, equation 1): among all rows, which is this one's other rendering?"""
    unit = functional.normalize(projected, dim=1)
    alike = unit @ unit.T / TEMPERATURE
    alike.fill_diagonal_(-math.inf)
    return functional.cross_entropy(alike, partner)


def answer_losses(student: Student, batch: Lesson, pooled: Tensor) -> dict[str, Tensor]:
    """Cross-entropies and squared errors of what is asked of each row."""
    told, truth = student.told(pooled), batch.truth
    losses = {
        name: functional.cross_entropy(told[name], truth[name], ignore_index=-1) for name in CLASSES
    }
    for name in NUMBERS:
        known = ~truth[name].isnan()
        losses[name] = functional.mse_loss(told[name][known, 0], truth[name][known])
    return losses


def speech_losses(
    student: Student, batch: Lesson, tokens: Tensor, pooled: Tensor
) -> dict[str, Tensor]:
    """Which sound each 20 ms of a word are, and which sounds the whole word has."""
    truth = batch.truth
    words = len(truth["bag"])
    weight = torch.ones(len(NAMES) + 1)
    weight[-1] = 0.1  # most steps are silent
    guesses = student.steps(tokens[:words]).flatten(0, 1)
    bag = student.bag(pooled[:words])
    return {
        "steps": functional.cross_entropy(guesses, truth["steps"].flatten(), weight),
        "bag": functional.binary_cross_entropy_with_logits(bag, truth["bag"]),
    }


@dataclass
class Run:
    """A pretraining run: what a checkpoint holds and what a step needs."""

    student: Student
    optimizer: torch.optim.Optimizer
    options: argparse.Namespace
    step: int = 0
    seconds: float = 0.0

    def learning_rate(self) -> float:
        """Constant after a warm-up; falls to nothing over the last steps."""
        warm = min(1.0, (self.step + 1) / 50)
        fall = min(1.0, (self.options.steps - self.step) / self.options.fall)
        return self.options.learning_rate * warm * fall

    def learn(self) -> dict[str, float]:
        """One step; returns the losses."""
        batch = lesson(self.options.seed, self.step, self.options.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.options.float32):
            tokens, pooled = self.student(batch.features, batch.mask)
        losses = {
            "same": same_sound(self.student.project(pooled), batch.partner),
            **speech_losses(self.student, batch, tokens, pooled),
            **answer_losses(self.student, batch, pooled),
        }
        self._move(torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum())
        return {name: float(value.detach()) for name, value in losses.items()}

    def _move(self, loss: Float[Tensor, ""]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1

    def save(self) -> None:
        clock = {"step": self.step, "seconds": self.seconds}
        keep(self.options.out, self._parts(), clock)

    def resume(self) -> None:
        if state := take_up(self.options.out, self._parts()):
            self.step, self.seconds = state["step"], state["seconds"]

    def _parts(self) -> dict[str, Any]:
        return {"student": self.student, "optimizer": self.optimizer}


def start(options: argparse.Namespace) -> Run:
    torch.manual_seed(options.seed)
    student = Student().train()
    trained = [p for p in student.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.02},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
    run = Run(student, optimizer, options)
    run.resume()
    return run


def pretrain(run: Run) -> Iterator[str]:
    """Steps until they are done; yields lines for the log."""
    since = time.monotonic() - run.seconds
    mean: dict[str, float] = {}
    while run.step < run.options.steps:
        losses = run.learn()
        mean = {name: 0.96 * mean.get(name, x) + 0.04 * x for name, x in losses.items()}
        run.seconds = time.monotonic() - since
        if run.step % 25 == 0:
            numbers = " ".join(f"{name} {value:.3f}" for name, value in mean.items())
            yield f"step {run.step} minutes {run.seconds / 60:.2f} {numbers}"
        if run.step % 50 == 0:
            run.save()
    run.save()
    yield f"done: {run.step} steps, {run.seconds / 60:.1f} minutes"


def export(run: Run, folder: Path) -> None:
    """A float16 folder for `AutoModel` and `AutoFeatureExtractor`."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = network()
    kept.load_state_dict(run.student.encoder.state_dict())
    kept.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"  # stored halved, opened whole
    _write(folder / "config.json", config)
    settings = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": BINS,
        "sampling_rate": 16_000,
        "n_fft": 400,
        "hop_length": 160,
        "chunk_length": 2,
        "padding_value": 0.0,
        "return_attention_mask": False,
    }
    _write(folder / "preprocessor_config.json", settings)


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
