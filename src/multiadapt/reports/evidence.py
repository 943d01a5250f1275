"""How sure a mean over runs is, and a difference of two methods: over folds, or over one test split."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from multiadapt.tasks._base import Comparison
from multiadapt.tasks._metrics import Measured, corrected_t_test, of_draws, resamples

__all__ = ["Evidence", "OverFolds", "OverRows", "Scored"]


class Scored:
    """One method's scores on the test rows of every run, with the metrics' values."""

    def __init__(
        self,
        targets: Sequence[Measured],
        scores: Sequence[np.ndarray],
        labels: Sequence[pd.Series | pd.DataFrame],
        weights: Sequence[np.ndarray],
    ) -> None:
        self.weights = weights
        rows = zip(targets, scores, labels, strict=True)
        self.metrics = [t.metrics(s, y) if np.isfinite(s).all() else {} for t, s, y in rows]
        rows = zip(targets, scores, labels, weights, strict=True)
        self.values: list[Mapping[str, float]] = [t.values(s, y, w) for t, s, y, w in rows]

    def of(self, metric: str) -> Float[np.ndarray, " k"]:
        """A metric's value in each run."""
        return np.array([values[metric] for values in self.values])


class Evidence(ABC):
    """Turns runs into a mean with a 95 % interval, and two methods' runs into a paired test."""

    @abstractmethod
    def mean(self, one: Scored, metric: str) -> Comparison:
        """The metric's mean over runs with its interval; its p-value says nothing of use."""

    @abstractmethod
    def difference(self, one: Scored, other: Scored, metric: str) -> Comparison:
        """The metric of one minus the other's."""


class OverFolds(Evidence):
    """Folds of one table: training rows overlap, and the corrected t-test allows for that."""

    def __init__(self, train_rows: int, test_rows: int) -> None:
        """Rows of all runs together: only their ratio matters."""
        self.rows = train_rows, test_rows

    def mean(self, one: Scored, metric: str) -> Comparison:
        return corrected_t_test(one.of(metric), *self.rows)

    def difference(self, one: Scored, other: Scored, metric: str) -> Comparison:
        return corrected_t_test(one.of(metric) - other.of(metric), *self.rows)


class OverRows(Evidence):
    """Seeds on one test split: a bootstrap of its rows and, where there are several, of the seeds.

    Both methods meet the same resamples; run i of one is paired with run i of the other.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def mean(self, one: Scored, metric: str) -> Comparison:
        return of_draws(float(one.of(metric).mean()), self._draws(one, metric))

    def difference(self, one: Scored, other: Scored, metric: str) -> Comparison:
        mean = float((one.of(metric) - other.of(metric)).mean())
        return of_draws(mean, self._draws(one, metric) - self._draws(other, metric))

    def _draws(self, one: Scored, metric: str) -> Float[np.ndarray, " k"]:
        weight = one.weights[0][None]
        runs, rng = len(one.metrics), np.random.default_rng([self.seed, 1])
        found: list[np.ndarray] = []
        for counts in resamples(weight.shape[1], self.seed):
            nothing = np.full(len(counts), np.nan)
            each = np.stack([m[metric](counts * weight) if m else nothing for m in one.metrics])
            if runs > 1:
                each = np.take_along_axis(each, rng.integers(runs, size=each.shape), axis=0)
            found.append(each.mean(0))
        return np.concatenate(found)
