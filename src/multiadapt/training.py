"""The one training loop, and scoring."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from jaxtyping import Float
from torch import Tensor

from multiadapt.adapted import Adapted
from multiadapt.errors import SpecError, TrainingError
from multiadapt.methods._base import Training
from multiadapt.resume_file import ResumeFile, put_back, taken_out, unprefixed
from multiadapt.types import Inputs

__all__ = ["Data", "Event", "History", "Session", "device_of", "scored", "scores", "train"]

_log = logging.getLogger("multiadapt")


@runtime_checkable
class Fed(Protocol):
    """Rows that can be asked for in any order."""

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def batches(self, order: Sequence[np.ndarray]) -> Generator[dict[str, Inputs]]:
        """Inputs for each array of row positions, on the device."""
        ...

    def in_order(self) -> list[np.ndarray]:
        """All rows in blocks, in order."""
        ...


@dataclass(frozen=True)
class Data:
    """Rows to train on: their inputs, encoded targets and weights."""

    feed: Fed
    target: Tensor
    """(b,) or (b, c), as `Target.encode` gives it."""
    weight: Float[Tensor, " b"]


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
    `measure` turns validation scores into the metric that is shown.

    Raises:
        SpecError: there is nothing to train, so that a time limit or a resume file would do nothing.
    """
    if not any(p.requires_grad for p in model.parameters()):
        given = {"time_limit": session.time_limit, "resume": session.resume}
        idle = " and ".join(f"{name}=" for name, value in given.items() if value is not None)
        if idle:
            raise SpecError(f"this method trains nothing step by step: leave {idle} out")
        return History((), 0, "nothing to train", 0.0)
    run = _Run(model, data, validation, training, seed, session)
    return run.go(measure)


def scores(model: Adapted, feed: Fed, training: Training) -> Float[np.ndarray, "b c"]:
    """The head's scores of every row, in the feed's order."""
    return scored(model, feed.batches(feed.in_order()), training, feed.device)


def scored(
    model: Adapted,
    batches: Iterable[Mapping[str, Inputs]],
    training: Training,
    device: torch.device,
) -> Float[np.ndarray, "b c"]:
    """The head's scores of every row of these batches, in their order."""
    model.eval()
    found: list[Tensor] = []
    with torch.inference_mode():
        for batch in batches:
            with _precision(training, device):
                found.append(model(batch).scores.float().cpu())
    return torch.cat(found).numpy() if found else np.zeros((0, 0), np.float32)


def device_of(name: str | None) -> torch.device:
    """The device of this name; None: a GPU where there is one."""
    if name is not None and name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError(
            f"device {name!r} needs a GPU that torch sees, and there is none; use 'cpu'"
        )
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise SpecError(
            f"device must be one that torch knows, such as 'cpu' or 'cuda:0', got {name!r}"
        ) from error


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
        self.seed, self.session = seed, session
        self.accelerator = _accelerator(data.feed.device)
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        # One call for all tensors: of small ones, torch's default loop takes a third of a step.
        optimizer = torch.optim.AdamW(
            self.trainable,
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        _, prepared = self.accelerator.prepare(model, optimizer)
        # In one process, Accelerate's wrapper looks for packages on the disk in every step, a
        # millisecond, and its backward divides the loss by one.
        alone = self.accelerator.num_processes == 1
        self.optimizer = optimizer if alone else prepared
        self.backward = torch.autograd.backward if alone else self.accelerator.backward
        self.file = ResumeFile(session.resume) if session.resume else None
        self.at = _Progress()
        self.best: dict[str, Tensor] | None = None
        self.started = self.saved = time.monotonic()

    def go(self, measure: Callable[[np.ndarray], float] | None) -> History:
        devices = [self.data.feed.device] if self.data.feed.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):  # the caller's random numbers stay the caller's
                self._resume()
                while not self.at.stopped:
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
            torch.manual_seed(
                self.seed * 100_003 + self.at.epoch
            )  # dropout; a resumed run restores it
        batches = self.data.feed.batches(order[self.at.batch :])
        with contextlib.closing(batches):
            for rows, batch in zip(order[self.at.batch :], batches, strict=True):
                self._step(batch, torch.from_numpy(rows), of=len(order))
                if self._out_of_time():
                    break
        self._end_epoch(measure, finished=self.at.batch == len(order))

    def _step(self, batch: dict[str, Any], rows: Tensor, *, of: int) -> None:
        device = self.data.feed.device
        target, weight = self.data.target[rows].to(device), self.data.weight[rows].to(device)
        with _precision(self.training, device):
            loss = self.model.loss(batch, target, weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss must be finite; it is {value} at epoch {self.at.epoch + 1}, batch "
                f"{self.at.batch + 1}: lower training.learning_rate, or set training.clip"
            )
        together = self.training.accumulate
        group = min(together, of - self.at.batch // together * together)
        self.backward(loss / group if group > 1 else loss)
        self.at.batch += 1
        if self.at.batch % together == 0 or self.at.batch == of:
            if self.training.clip is not None:
                self.accelerator.clip_grad_norm_(self.trainable, self.training.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.model.stepped()
        total = float(weight.sum())
        self.at.loss_sum += value * total
        self.at.weight_sum += total
        self._tell()
        self._save(force=False)

    def _end_epoch(self, measure: Callable[[np.ndarray], float] | None, *, finished: bool) -> None:
        if not finished:
            self._save(force=True)  # a later run goes on from inside this epoch
            self.at.stopped = "time_limit"
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
        return float(loss), measure(found.numpy()) if measure else None

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
        size = self.training.batch_size
        rows = np.random.default_rng([self.seed, self.at.epoch]).permutation(len(self.data.feed))
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [np.concatenate(parts[-2:])]
        return parts

    def _learning_rate(self) -> float:
        steps = self.at.epoch // self.training.decay_every
        return self.training.learning_rate * self.training.decay**steps

    def _set_learning_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()

    def _seconds(self) -> float:
        return self.at.seconds + time.monotonic() - self.started

    def _out_of_time(self) -> bool:
        limit = self.session.time_limit
        return limit is not None and time.monotonic() - self.started >= limit

    def _tell(self, validation: float | None = None, metric: float | None = None) -> None:
        loss = self.at.loss_sum / max(self.at.weight_sum, 1e-12)
        of = len(self.data.feed)
        rows = min(self.at.batch * self.training.batch_size, of)
        epoch, epochs = self.at.epoch + 1, self.training.epochs
        self.session.tell(Event(epoch, epochs, rows, of, loss, self._seconds(), validation, metric))

    def _resume(self) -> None:
        if self.file is None or not self.file.path.exists():
            return
        values, tensors = self.file.read(self._identity())
        self.at = _Progress(**values)
        if self.at.stopped == "epochs" and self.at.epoch < self.training.epochs:
            self.at.stopped = ""  # more epochs are asked for than last time
        self.model.load_trained(unprefixed(tensors, "now:"))
        self.best = unprefixed(tensors, "best:") or None
        put_back(tensors, self.trainable, self.optimizer)
        self.model.recall(unprefixed(tensors, "memory:"))
        torch.set_rng_state(tensors["rng"])
        _log.info("resuming at epoch %d, batch %d", self.at.epoch + 1, self.at.batch)

    def _save(self, *, force: bool) -> None:
        if self.file is None or not (force or time.monotonic() - self.saved > self.file.every):
            return
        tensors = {f"now:{k}": t for k, t in self.model.trained_state().items()}
        tensors |= {f"best:{k}": t for k, t in (self.best or {}).items()}
        tensors |= taken_out(self.trainable, self.optimizer)
        tensors |= {f"memory:{k}": t for k, t in self.model.memory().items()}
        tensors["rng"] = torch.get_rng_state()
        stopped = "" if self.at.stopped == "time_limit" else self.at.stopped
        values = asdict(replace(self.at, seconds=self._seconds(), stopped=stopped))
        self.file.write(values, tensors, self._identity())
        self.saved = time.monotonic()

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a resume file to be this run's."""
        shapes = {k: list(t.shape) for k, t in self.model.trained_state().items()}
        return {
            "of": self.session.identity,
            "training": {**self.training.to_dict(), "epochs": "any"},
            "seed": self.seed,
            "rows": len(self.data.feed),
            "target": float(self.data.target.double().sum()),
            "tensors": shapes,
        }


def _accelerator(device: torch.device) -> Accelerator:
    """Accelerate's state belongs to the process; each run of ours chooses its own device."""
    if PartialState().num_processes > 1:
        raise SpecError("training on several processes is not supported yet; start a single one")
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device.type == "cpu", device_placement=False)


@contextlib.contextmanager
def _precision(training: Training, device: torch.device) -> Iterator[None]:
    with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        yield
