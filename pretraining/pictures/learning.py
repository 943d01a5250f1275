"""The network, its losses and the run that learns what was drawn."""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from running import keep, take_up
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel

from pictures.scenes import (
    CLASSES,
    NUMBERS,
    Banks,
    Dice,
    Things,
    compose,
    draw_background,
    furnish,
)

__all__ = ["Run", "export", "pretrain", "start"]

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Student(nn.Module):
    """The encoder with the heads that only pretraining needs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNetModel(
            ResNetConfig(
                layer_type="bottleneck",
                embedding_size=32,
                hidden_sizes=[64, 128, 256, 512],
                depths=[2, 2, 3, 2],
            )
        )
        width = self.encoder.config.hidden_sizes[-1]
        self.widths = CLASSES | NUMBERS
        self.answers = nn.Linear(width, sum(self.widths.values()))
        self.project = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 128))

    def forward(self, pictures: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        pooled = self.encoder(pictures).pooler_output.flatten(1)
        parts = self.answers(pooled).float().split(tuple(self.widths.values()), 1)
        return dict(zip(self.widths, parts, strict=True)), self.project(pooled).float()


def same_object(projected: Tensor, temperature: float = 0.2) -> Tensor:
    """NT-Xent (SimCLR, equation 1): row i and row i + n show one object."""
    count = len(projected) // 2
    unit = functional.normalize(projected, dim=1)
    alike = unit @ unit.T / temperature
    alike.fill_diagonal_(-math.inf)
    partner = torch.arange(2 * count, device=unit.device).roll(count)
    return functional.cross_entropy(alike, partner)


def answer_loss(answers: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropies (-1: not asked) and squared errors (NaN: not asked)."""
    losses = {
        name: functional.cross_entropy(answers[name], truth[name], ignore_index=-1)
        for name in CLASSES
    }
    for name in NUMBERS:
        known = ~truth[name].isnan()
        losses[name] = functional.mse_loss(answers[name][known], truth[name][known])
    return losses


WEIGHTS = {"shape": 1.0, "family": 0.5, "behind": 0.3, "kind": 0.2, "front": 0.3, "pose": 1.0}
WEIGHTS |= {"colour": 4.0, "around": 2.0, "strength": 0.5, "light": 0.1, "room": 1.0}
WEIGHTS |= {"thumbnail": 8.0, "same": 0.5, "drawer": 0.5}


@dataclass
class Run:
    """A pretraining run: what a checkpoint holds and what a step needs."""

    student: Student
    optimizer: torch.optim.Optimizer
    banks: Banks
    options: argparse.Namespace
    step: int = 0
    seconds: float = 0.0

    def progress(self) -> float:
        """From 0 to 1; by steps where they are given, by the clock otherwise."""
        if self.options.steps:
            return self.step / self.options.steps
        return self.seconds / (60 * self.options.minutes)

    def size(self) -> int:
        """Larger pictures towards the end."""
        return 96 if self.options.large and self.progress() > 1 - self.options.large else 64

    def learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / 200)
        return self.options.learning_rate * warm * (1 + math.cos(math.pi * self.progress())) / 2

    def batch(self) -> tuple[Tensor, dict[str, Tensor]]:
        device = self.banks.shapes.device
        dice = Dice(self.options.seed * 10_000_000 + self.step, device)
        things = Things.draw(self.banks, dice, self.options.batch)
        behind = draw_background(self.banks, dice, self.options.batch // 2, self.size())
        furnish(behind, self.banks, dice)
        views = [compose(things, behind, self.banks, dice) for _ in range(2)]
        truth = {name: torch.cat([view[1][name] for view in views]) for name in views[0][1]}
        return torch.cat([view[0] for view in views]), truth

    def learn(self) -> dict[str, float]:
        """One step; returns the losses."""
        pictures, truth = self.batch()
        shift, scale = (torch.tensor(x, device=pictures.device)[:, None, None] for x in (MEAN, STD))
        inputs = ((pictures - shift) / scale).contiguous(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=not self.options.float32):
            answers, projected = self.student(inputs)
        losses = answer_loss(answers, truth) | {"same": same_object(projected)}
        loss = sum(WEIGHTS[name] * value for name, value in losses.items())
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        return {"loss": float(loss.detach())} | {k: float(v.detach()) for k, v in losses.items()}

    def save(self) -> None:
        clock = {"step": self.step, "seconds": self.seconds}
        keep(self.options.out, self._parts(), clock)

    def resume(self) -> None:
        if state := take_up(self.options.out, self._parts(), self.banks.shapes.device):
            self.step, self.seconds = state["step"], state["seconds"]

    def _parts(self) -> dict[str, Any]:
        return {"student": self.student, "optimizer": self.optimizer}


def start(options: argparse.Namespace) -> Run:
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    banks = Banks.draw(options.out, options.seed, options.per_class, options.per_family).to(device)
    student = Student().to(device, memory_format=torch.channels_last).train()
    decayed = [p for p in student.parameters() if p.ndim > 1]
    plain = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    run = Run(student, torch.optim.AdamW(groups, lr=options.learning_rate), banks, options)
    run.resume()
    return run


def pretrain(run: Run) -> Iterator[str]:
    """Steps until the time is up; yields lines for the log."""
    since = time.monotonic() - run.seconds
    mean: dict[str, float] = {}
    while run.progress() < 1:
        losses = run.learn()
        mean = {name: 0.98 * mean.get(name, x) + 0.02 * x for name, x in losses.items()}
        run.seconds = time.monotonic() - since
        if run.step % 100 == 0:
            numbers = " ".join(f"{name} {value:.3f}" for name, value in mean.items())
            yield f"step {run.step} minutes {run.seconds / 60:.2f} {numbers}"
        if run.step % 300 == 0:
            run.save()
    run.save()
    yield f"done: {run.step} steps, {run.seconds / 60:.1f} minutes"


def export(encoder: ResNetModel, folder: Path, size: int) -> None:
    """A float16 folder for `AutoModel.from_pretrained`, with how to prepare a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = ResNetModel(encoder.config)
    kept.load_state_dict(encoder.state_dict())
    kept.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"  # stored halved, opened whole
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
