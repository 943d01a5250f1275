"""The one training loop."""

import contextlib
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiadapt import processes
from multiadapt.adapted import Adapted
from multiadapt.attach import recomputing
from multiadapt.errors import SpecError, TrainingError
from multiadapt.methods._base import Training
from multiadapt.resume_file import ResumeFile, put_back, taken_out, unprefixed
from multiadapt.scoring import Fed, precision, scores
from multiadapt.stopwatch import NoWatch, Watch

__all__ = ["Data", "Event", "History", "Session", "train"]

_log = logging.getLogger("multiadapt")

_FREE = ("epochs", "gradient_checkpointing")
"""Options of the recipe that may change where a run is taken up again."""
_POOL = 50
"""Batches' rows among which those of like lengths are put together."""


@dataclass(frozen=True)
class Data:
    """Rows to train on: their inputs, encoded targets and weights."""

    feed: Fed
    target: Tensor
    """(b,) or (b, c), as `Target.encode` gives it."""
    weight: Float[Tensor, " b"]
    views: Sequence[Fed] = ()
    """The same rows seen otherwise: an epoch takes one after the other, the feed first."""
    lengths: Int[np.ndarray, " b"] | None = None
    """Characters of each row's texts, where rows of like lengths are to train together."""

    def seen(self, epoch: int) -> Fed:
        """The rows as an epoch takes them, counted from 0."""
        return (self.feed, *self.views)[epoch % (1 + len(self.views))]


@dataclass(frozen=True)
class Event:
    """What a progress display is told after every batch, and with `metric` after every epoch."""

    epoch: int
    epochs: int
    rows: int
    """Rows of this epoch that are done."""
    of: int
    loss: float
    """Mean training loss of the epoch so far."""
    seconds: float
    """Since the run started."""
    validation: float | None = None
    metric: float | None = None


@dataclass(frozen=True)
class Session:
    """How a run is watched, ended and taken up again."""

    time_limit: float | None = None
    """Seconds after which training ends."""
    resume: Path | None = None
    """File that is written about every half minute and after every epoch, and continued from."""
    identity: str = ""
    """A hash of all that the run depends on; a resume file with another one is refused."""
    tell: Callable[[Event], None] = lambda event: None
    """Told of every batch and every epoch."""
    watch: Watch = field(default_factory=NoWatch)
    """Told where the time goes."""


@dataclass(frozen=True)
class History:
    """What a run did. `epochs` holds one record per finished epoch."""

    epochs: tuple[dict[str, float], ...]
    best_epoch: int
    """Number of the epoch whose weights were kept, from 1; 0 where nothing was trained."""
    stopped: str
    """Why it ended: "epochs", "patience", "time_limit", "interrupt" or "nothing to train"."""
    seconds: float


@dataclass
class _Progress:
    """Where a run stands: what a resume file holds beside tensors."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    best: float = float("inf")
    best_epoch: int = 0
    seconds: float = 0.0
    stopped: str = ""
    records: list[dict[str, float]] = field(default_factory=list)


def train(
    model: Adapted,
    data: Data,
    validation: Data | None,
    training: Training,
    *,
    seed: int,
    measure: Callable[[np.ndarray], float] | None = None,
    session: Session,
) -> History:
    """Train what the method left trainable; afterwards the model holds the best epoch's weights.

    Best means the lowest validation loss; without validation rows the last epoch's weights stay.
    A run that is taken up again with the same arguments ends, on a CPU, with the same bits as one
    that was never broken off. Ctrl-C and the time limit end it early and keep the best so far.
    Processes that are `together` divide every batch between them and end with the same weights.
    `measure` turns validation scores into the metric that is shown.

    Raises:
        SpecError: there is nothing to train, so that a time limit or a resume file would do nothing; or the
            recipe asks for more views than `data` has, for rows of like lengths where there are none, or for
            blocks to be computed again where there are none.
    """
    if training.views != 1 + len(data.views):
        raise SpecError(
            f"training.views is of the pictures in a table's rows, got {training.views} where every picture is "
            "seen as it is: leave it out"
        )
    if training.group_by_length and data.lengths is None:
        raise SpecError(
            "training.group_by_length is of models for the rows of tables, with a column of texts: leave it out"
        )
    if training.gradient_checkpointing and not model.recomputes():
        raise SpecError(
            "training.gradient_checkpointing has no block to compute again: none is trained through, or an "
            "adapter with a BatchNorm, which must see a batch once, corrects each of them: leave it out"
        )
    if not any(p.requires_grad for p in model.parameters()):
        profile = session.watch.measures or None
        given = {"time_limit": session.time_limit, "resume": session.resume, "profile": profile}
        idle = " and ".join(f"{name}=" for name, value in given.items() if value is not None)
        if idle:
            raise SpecError(f"this method trains nothing step by step: leave {idle} out")
        return History((), 0, "nothing to train", 0.0)
    for stream in model.adapted_from_the_start():
        half = model.encoder(stream).blocks // 2
        advice = f'; blocks="last {half}" of LoRA, IA3 and UniAdapter computes the others once'
        _log.info(
            "%s: adapters stand in its first block, so that the whole network runs in every epoch%s",
            stream, advice if half else "",
        )  # fmt: skip
    run = _Run(model, data, validation, training, seed, session)
    return run.go(measure)


class _Run:
    def __init__(
        self,
        model: Adapted,
        data: Data,
        validation: Data | None,
        training: Training,
        seed: int,
        session: Session,
    ) -> None:
        self.model, self.data, self.validation, self.training = model, data, validation, training
        self.seed, self.session, self.watch = seed, session, session.watch
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        # One call for all tensors: of small ones, torch's default loop takes a third of a step.
        self.optimizer = torch.optim.AdamW(
            self.trainable,
            lr=training.rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        self.file = ResumeFile(session.resume) if session.resume else None
        self.at = _Progress()
        self.best: dict[str, Tensor] | None = None
        self.started = self.saved = time.monotonic()

    def go(self, measure: Callable[[np.ndarray], float] | None) -> History:
        devices = [self.data.feed.device] if self.data.feed.device.type == "cuda" else []
        try:
            # The caller's random numbers stay the caller's.
            with torch.random.fork_rng(devices), processes.interruptible():
                self._meet()
                self._resume()
                while not self.at.stopped:
                    with self.watch.stage("epoch"):
                        self._epoch(measure)
        except KeyboardInterrupt:
            self.at.stopped = "interrupt"
            kept = (
                f"the best weights so far (epoch {self.at.best_epoch})"
                if self.best
                else "the weights"
            )
            _log.warning("interrupted: %s are kept", kept)
        if self.best is not None:
            self.model.load_trained(self.best)
        return History(tuple(self.at.records), self.at.best_epoch, self.at.stopped, self._seconds())

    def _epoch(self, measure: Callable[[np.ndarray], float] | None) -> None:
        order = self._order()
        self._set_learning_rate()
        self.model.train()
        if self.at.batch == 0:
            processes.seeded(self.seed * 100_003 + self.at.epoch)  # a resumed run restores it
        left = order[self.at.batch :]
        seen = self.data.seen(self.at.epoch)
        batches = seen.batches([processes.part(rows) for rows in left])
        with contextlib.closing(batches):
            for rows, batch in zip(left, processes.agreeing(batches), strict=True):
                with processes.batch(len(rows)):
                    self._step(batch, rows, of=len(order))
                if self._out_of_time():
                    break
        self._end_epoch(measure, finished=self.at.batch == len(order))

    def _step(self, batch: dict[str, Any], rows: np.ndarray, *, of: int) -> None:
        device, mine = self.data.feed.device, torch.from_numpy(processes.part(rows))
        target, weight = self.data.target[mine].to(device), self.data.weight[mine].to(device)

        def loss_of(model: Adapted) -> Tensor:
            again = recomputing(self.training.gradient_checkpointing)
            with precision(self.training, device), again:
                return processes.counted(model.loss(batch, target, weight))

        if self.watch.measures:
            before = processes.random_state()  # it may compute the loss once more
            self.watch.batch(len(mine), self.model, loss_of)
            processes.restore_random(before)
        with self.watch.forward(self.model):
            loss = loss_of(self.model)
            value = float(processes.summed(loss.detach()))
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss must be finite; it is {value} at epoch {self.at.epoch + 1}, batch "
                f"{self.at.batch + 1}: lower training.learning_rate, or set training.clip"
            )
        together = self.training.accumulate
        group = min(together, of - self.at.batch // together * together)
        with self.watch.backward():
            torch.autograd.backward(loss / group if group > 1 else loss)
        self.at.batch += 1
        if self.at.batch % together == 0 or self.at.batch == of:
            with self.watch.part("optimizer"):
                self._update()
        total = float(self.data.weight[torch.from_numpy(rows)].sum())
        self.at.loss_sum += value * total
        self.at.weight_sum += total
        self._tell()
        self._save(force=False)

    def _update(self) -> None:
        processes.sum_gradients(self.trainable)
        if self.training.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trainable, self.training.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.stepped()

    def _end_epoch(self, measure: Callable[[np.ndarray], float] | None, *, finished: bool) -> None:
        if not finished:
            self._save(force=True)  # a later run goes on from inside this epoch
            self.at.stopped = "time_limit"
        with self.watch.part("validation"):
            loss, metric = self._validate(measure)
        shown = loss if loss is not None else self.at.loss_sum / max(self.at.weight_sum, 1e-12)
        self._record(loss, metric)
        if loss is None or shown < self.at.best:
            self.at.best, self.at.best_epoch = shown, self.at.epoch + 1
            self.best = {k: t.clone() for k, t in self.model.trained_state().items()}
        self._tell(loss, metric)
        self.at.epoch, self.at.batch, self.at.loss_sum, self.at.weight_sum = (
            self.at.epoch + 1,
            0,
            0.0,
            0.0,
        )
        self._decide()
        if finished:
            self._save(force=True)

    def _decide(self) -> None:
        patience = self.training.patience
        if self.at.stopped:
            return
        if self.at.epoch >= self.training.epochs:
            self.at.stopped = "epochs"
        elif self._out_of_time():
            self.at.stopped = "time_limit"
        elif (
            self.validation
            and patience is not None
            and self.at.epoch - self.at.best_epoch >= patience
        ):
            self.at.stopped = "patience"

    def _validate(
        self, measure: Callable[[np.ndarray], float] | None
    ) -> tuple[float | None, float | None]:
        if self.validation is None:
            return None, None
        found = torch.from_numpy(scores(self.model, self.validation.feed, self.training))
        device = self.data.feed.device
        with torch.no_grad():
            loss = self.model.held_out_loss(
                found.to(device),
                self.validation.target.to(device),
                self.validation.weight.to(device),
            )
        metric = None if measure is None else processes.first(measure(found.numpy()))
        return processes.first(float(loss)), metric

    def _record(self, loss: float | None, metric: float | None) -> None:
        record = {
            "epoch": self.at.epoch + 1.0,
            "loss": self.at.loss_sum / max(self.at.weight_sum, 1e-12),
            "learning_rate": self._learning_rate(),
            "seconds": self._seconds(),
        }
        if loss is not None:
            record["validation_loss"] = loss
        if metric is not None:
            record["validation_metric"] = metric
        self.at.records.append(record)

    def _order(self) -> list[np.ndarray]:
        """This epoch's batches; a last batch of one row joins the one before it (BatchNorm needs two)."""
        size, rng = self.training.batch_size, np.random.default_rng([self.seed, self.at.epoch])
        rows = rng.permutation(len(self.data.feed))
        if (lengths := self.data.lengths) is not None:
            rows = _alike(rows, lengths, size, rng)
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [np.concatenate(parts[-2:])]
        return parts

    def _learning_rate(self) -> float:
        steps = self.at.epoch // self.training.decay_every
        return self.training.rate * self.training.decay**steps

    def _set_learning_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()

    def _seconds(self) -> float:
        return self.at.seconds + time.monotonic() - self.started

    def _out_of_time(self) -> bool:
        limit = self.session.time_limit
        return limit is not None and processes.decided(time.monotonic() - self.started >= limit)

    def _tell(self, validation: float | None = None, metric: float | None = None) -> None:
        loss = self.at.loss_sum / max(self.at.weight_sum, 1e-12)
        of = len(self.data.feed)
        rows = min(self.at.batch * self.training.batch_size, of)
        epoch, epochs = self.at.epoch + 1, self.training.epochs
        self.session.tell(Event(epoch, epochs, rows, of, loss, self._seconds(), validation, metric))

    def _meet(self) -> None:
        """Processes that train together must be given the same, and begin with the main one's weights."""
        processes.alike(hashlib.sha256(json.dumps(self._identity()).encode()).hexdigest())
        processes.spread(self.model.trained_state())

    def _resume(self) -> None:
        if self.file is None or not processes.decided(self.file.path.exists()):
            return
        identity = self._identity()
        with processes.agreed():
            values, tensors = self.file.read(identity)
        self.at = _Progress(**values)
        if self.at.stopped == "epochs" and self.at.epoch < self.training.epochs:
            self.at.stopped = ""  # more epochs are asked for than last time
        self.model.load_trained(unprefixed(tensors, "now:"))
        self.best = unprefixed(tensors, "best:") or None
        mine = processes.own(tensors)
        put_back(tensors | mine, self.trainable, self.optimizer)
        self.model.recall(unprefixed(tensors, "memory:"))
        processes.restore_random(mine)
        _log.info("resuming at epoch %d, batch %d", self.at.epoch + 1, self.at.batch)

    def _save(self, *, force: bool) -> None:
        if self.file is None:
            return
        if not processes.decided(force or time.monotonic() - self.saved > self.file.every):
            return
        # Rows computed so far are to be read again as they are: in another batch their last bits differ.
        self.data.seen(self.at.epoch).flush()
        tensors = {f"now:{k}": t for k, t in self.model.trained_state().items()}
        tensors |= {f"best:{k}": t for k, t in (self.best or {}).items()}
        taken = taken_out(self.trainable, self.optimizer)
        mine = {k: taken.pop(k) for k in list(taken) if k.startswith("gradient:")}
        tensors |= taken | processes.each(mine | processes.random_state())
        tensors |= {f"memory:{k}": t for k, t in self.model.memory().items()}
        stopped = "" if self.at.stopped == "time_limit" else self.at.stopped
        values = asdict(replace(self.at, seconds=self._seconds(), stopped=stopped))
        identity = self._identity()
        with processes.agreed():
            if processes.main():
                self.file.write(values, tensors, identity)
        self.saved = time.monotonic()

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a resume file to be this run's."""
        shapes = {k: list(t.shape) for k, t in self.model.trained_state().items()}
        group = processes.current()
        several = {} if group is None else {"processes": group.size}
        return several | {
            "of": self.session.identity,
            "training": {**self.training.to_dict(), **dict.fromkeys(_FREE, "any")},
            "seed": self.seed,
            "rows": len(self.data.feed),
            "target": float(self.data.target.double().sum()),
            "tensors": shapes,
        }


def _alike(
    rows: Int[np.ndarray, " b"], lengths: Int[np.ndarray, " b"], size: int, rng: np.random.Generator
) -> Int[np.ndarray, " b"]:
    """The rows in an order whose batches hold rows of about one length, the batches themselves at random.

    What is left over at the end stays a random draw.
    """
    whole = len(rows) // size * size
    found: list[np.ndarray] = []
    for start in range(0, whole, _POOL * size):
        pool = rows[start : min(start + _POOL * size, whole)]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        found.append(rng.permutation(pool.reshape(-1, size)).ravel())
    return np.concatenate([*found, rows[whole:]])
