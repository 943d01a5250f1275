"""A model's scores of the rows of one table with modalities taken away, each pass over the rows made once.

The files are read, and what is frozen is computed, before the first pass; a modality that is taken away
reaches the model without items, as a missing one does.

Rows do not interact, so that what a row scores without a modality is the same whichever others lack
theirs: any mask is answered by picking rows from these passes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from multiadapt.data.masks import Mask
from multiadapt.data.schema import Schema
from multiadapt.errors import SpecError, TargetError
from multiadapt.fitted import Answer, Fitted, Prepared
from multiadapt.tasks._metrics import Measured, Metric, resamples

__all__ = ["Coalitions", "Sample", "bootstrap", "measured"]


@dataclass(frozen=True)
class Sample:
    """The rows that a report is about."""

    frame: pd.DataFrame
    root: Path | None = None
    """Folder that file paths are relative to."""
    on_error: Literal["raise", "missing"] = "raise"
    memory: float = 4.0
    """Gigabytes of frozen computation that may be kept."""


class Coalitions:
    """One model's answers, by what is removed from all rows.

    `schema` says which columns a modality has; a model that is compared with another one loses the
    same columns. SpecError: the model refuses rows with a hole.
    """

    def __init__(self, fitted: Fitted, rows: Sample, schema: Schema) -> None:
        if fitted.method.missing.demands == "all":
            raise SpecError(
                'modalities are taken away to see what they bring, and missing="error" refuses rows that '
                'lack one: fit with another way, missing="token", "zero" or "mean"'
            )
        self.fitted, self.rows, self.schema = fitted, rows, schema
        self.seconds: dict[frozenset[str], float] = {}
        """What each pass took, but for reading that could be kept from before."""
        self._answers: dict[frozenset[str], Answer] = {}

    def without(self, removed: frozenset[str]) -> Answer:
        """Every row with these modalities empty; one that has nothing left gets the prior's scores."""
        if removed not in self._answers:
            nothing = self._reads_nothing(removed)
            self._answers[removed] = self._of_nothing() if nothing else self._pass(removed)
        return self._answers[removed]

    def seconds_alone(self, stream: str) -> float:
        """Reading a stream of the model and computing what is frozen in it, once, and the pass with it
        alone."""
        others = frozenset(self.fitted.model.streams) - {stream}
        return self._prepared.seconds.get(stream, 0.0) + self.seconds[others]

    def under(self, mask: Mask) -> Float[np.ndarray, "b c"]:
        """Scores of the rows, each without what the mask removes from it."""
        patterns, which = np.unique(mask.removed.to_numpy(bool), axis=0, return_inverse=True)
        found = np.zeros_like(self.without(frozenset()).scores)
        for i, pattern in enumerate(patterns):
            chosen = which.reshape(-1) == i
            removed = frozenset(np.array(mask.modalities)[pattern].tolist())
            found[chosen] = self.without(removed).scores[chosen]
        return found

    @property
    def prior(self) -> Float[np.ndarray, "b c"]:
        """What the training labels are on the whole, as scores of every row."""
        rows = len(self.rows.frame)
        return np.tile(np.array([self.fitted.prior], np.float32), (rows, 1))

    @cached_property
    def _prepared(self) -> Prepared:
        rows = self.rows
        return self.fitted.prepared(rows.frame, rows.root, rows.on_error, rows.memory)

    def _pass(self, removed: frozenset[str]) -> Answer:
        prepared, started = self._prepared, time.perf_counter()
        answer = prepared.answer(self._columns(removed))
        self.seconds[removed] = time.perf_counter() - started
        return answer

    def _of_nothing(self) -> Answer:
        rows = len(self.rows.frame)
        return Answer(self.prior, {s: np.zeros(rows, bool) for s in self.fitted.model.streams})

    def _columns(self, removed: frozenset[str]) -> set[str]:
        """The columns of these modalities; a model that is compared may have them in other streams."""
        return {c.name for s in self.schema.streams() if s.name in removed for c in s.columns}

    def _reads_nothing(self, removed: frozenset[str]) -> bool:
        gone = self._columns(removed)
        read = (self.fitted.model.encoder(s).stream for s in self.fitted.model.streams)
        return all(c.name in gone for stream in read for c in stream.columns)


def measured(
    fitted: Fitted, scores: np.ndarray, labels: pd.Series | pd.DataFrame, name: str
) -> Metric:
    """One metric of these scores as a function of row weights; nan where a score is not finite.

    SpecError: the task has no such metric. TargetError: there is no row.
    """
    if len(labels) == 0:
        raise TargetError("there must be at least one labelled row to score, got 0")
    found = cast(Measured, fitted.target).metrics(scores, labels)
    if name not in found:
        raise SpecError(f"no metric of this task is named {name!r}; there are {', '.join(found)}")
    return found[name] if np.isfinite(scores).all() else lambda w: np.full(len(w), np.nan)


def bootstrap(
    metrics: Sequence[Metric], weight: Float[np.ndarray, " n"], seed: int
) -> Float[np.ndarray, "m k"]:
    """Every metric on the same resamples of rows."""
    draws = (counts * weight for counts in resamples(len(weight), seed))
    return np.concatenate([np.stack([metric(w) for metric in metrics]) for w in draws], axis=1)
