"""The run: steps until the time is over, checkpoints, resuming."""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from running import keep, take_up
from torch import nn

from worlds.lessons import lesson
from worlds.network import Pupil

__all__ = ["Run", "pretrain", "start"]

WEIGHTS = {"contrast": 1.0, "match": 1.0, "write": 1.0, "answer": 1.0, "patches": 0.3}

ALONE = 0.15
"""Share of the run without matching: before anything is known, hard pairs teach nothing."""


@dataclass
class Run:
    """A pretraining run: what a checkpoint holds and what a step needs."""

    pupil: Pupil
    optimizer: torch.optim.Optimizer
    options: argparse.Namespace
    step: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    """Seconds of processor time, which is less on a busy machine."""

    @property
    def done(self) -> float:
        """Share of the run that is over, by steps where their number is given, else by the clock."""
        if self.options.steps:
            return self.step / self.options.steps
        return self.seconds / (60 * self.options.minutes)

    def learning_rate(self) -> float:
        """A short warm-up, then half a cosine wave down."""
        warm = min(1.0, (self.step + 1) / 60)
        return self.options.learning_rate * warm * (1 + math.cos(math.pi * min(1, self.done))) / 2

    def learn(self) -> dict[str, float]:
        """One step; returns the losses."""
        batch = lesson(self.options.seed, self.step, self.options.batch)
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)  # hard pairs are drawn
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.options.float32):
            losses = self.pupil.losses(batch, match=self.done > ALONE)
        total = torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.pupil.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def save(self) -> None:
        clock = {"step": self.step, "seconds": self.seconds, "busy": self.busy}
        keep(self.options.out, self._parts(), clock)

    def resume(self) -> None:
        if state := take_up(self.options.out, self._parts()):
            self.step, self.seconds, self.busy = state["step"], state["seconds"], state["busy"]

    def _parts(self) -> dict[str, Any]:
        return {"pupil": self.pupil, "optimizer": self.optimizer}


def start(options: argparse.Namespace) -> Run:
    torch.manual_seed(options.seed)
    pupil = Pupil()
    named = dict(pupil.named_parameters())  # shared ones once
    decayed = [p for n, p in named.items() if p.ndim > 1 and "embedding" not in n]
    others = [p for n, p in named.items() if p.ndim <= 1 or "embedding" in n]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
    run = Run(pupil, optimizer, options)
    run.resume()
    return run


def pretrain(run: Run) -> Iterator[str]:
    """Steps until the run is over; yields lines for the log."""
    since, before = time.monotonic() - run.seconds, time.process_time() - run.busy
    saved = run.seconds
    mean: dict[str, float] = {}
    while run.done < 1:
        losses = run.learn()
        mean |= {name: 0.96 * mean.get(name, x) + 0.04 * x for name, x in losses.items()}
        run.seconds, run.busy = time.monotonic() - since, time.process_time() - before
        if run.step % 25 == 0:
            numbers = " ".join(f"{name} {value:.3f}" for name, value in mean.items())
            yield f"step {run.step} {_told(run)} {numbers}"
        if run.seconds - saved > 240:
            saved = run.seconds
            run.save()
    run.save()
    yield f"done: {run.step} steps, {_told(run)}"


def _told(run: Run) -> str:
    return f"minutes {run.seconds / 60:.1f} (of the processor {run.busy / 60:.1f})"
