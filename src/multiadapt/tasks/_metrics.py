"""Metrics by scikit-learn's names, with bootstrap intervals and comparisons.

A metric is a function of row weights: (k, n) weights give k values. A bootstrap resample is a row of
counts, so 1,000 resamples are a few matrix products and not 1,000 calls.

Rules for what is undefined, each giving nan and never a warning:
- roc_auc where a class (or a label's 0 or 1) does not occur among the rows;
- r2 of one row, or of rows that all have one value;
- every metric where a score is not finite.
Classes that neither occur nor are predicted are left out of balanced_accuracy and f1_macro, as in
scikit-learn (f1 with `zero_division=nan`). Resamples in which a metric is undefined are left out of
its interval; where more than half are, the interval is nan.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from multiadapt.errors import SpecError, TargetError
from multiadapt.tasks._base import Comparison, Estimate, Target

__all__ = [
    "LOWER",
    "Measured",
    "Metric",
    "class_metrics",
    "corrected_t_test",
    "label_metrics",
    "of_draws",
    "resamples",
    "value_metrics",
]

LOWER = frozenset({"log_loss", "rmse", "mae"})
"""Metrics of which less is better."""

Metric: TypeAlias = Callable[[Float[np.ndarray, "k n"]], Float[np.ndarray, " k"]]

Array: TypeAlias = np.ndarray


class Measured(Target):
    """A target whose metrics are functions of row weights."""

    @abstractmethod
    def metrics(self, scores: Array, labels: pd.Series | pd.DataFrame) -> Mapping[str, Metric]:
        """Every metric of these scores against these labels."""

    def measure(
        self, scores: Array, labels: pd.Series | pd.DataFrame, weight: Array | None, seed: int
    ) -> Mapping[str, Estimate]:
        base = _base_weight(len(labels), weight)
        metrics = _guarded(self.metrics(scores, labels), scores)
        values = {name: float(metric(base)[0]) for name, metric in metrics.items()}
        draws: dict[str, list[Array]] = {name: [] for name in metrics}
        for counts in resamples(len(labels), seed):
            for name, metric in metrics.items():
                draws[name].append(metric(counts * base))
        return {n: Estimate(v, *_interval(np.concatenate(draws[n]))) for n, v in values.items()}

    def values(
        self, scores: Array, labels: pd.Series | pd.DataFrame, weight: Array | None = None
    ) -> Mapping[str, float]:
        base = _base_weight(len(labels), weight)
        metrics = _guarded(self.metrics(scores, labels), scores)
        return {name: float(metric(base)[0]) for name, metric in metrics.items()}

    def paired(
        self,
        scores_a: Array,
        scores_b: Array,
        labels: pd.Series | pd.DataFrame,
        *,
        metric: str | None = None,
        weight: Array | None = None,
        seed: int = 0,
    ) -> Comparison:
        base = _base_weight(len(labels), weight)
        a = _named(_guarded(self.metrics(scores_a, labels), scores_a), metric or self.metric)
        b = _named(_guarded(self.metrics(scores_b, labels), scores_b), metric or self.metric)
        difference = float(a(base)[0] - b(base)[0])
        weights = (counts * base for counts in resamples(len(labels), seed))
        draws = np.concatenate([a(w) - b(w) for w in weights])
        return of_draws(difference, draws)


def class_metrics(probabilities: Float[Array, "n c"], y: Int[Array, " n"]) -> dict[str, Metric]:
    """Metrics of single-label classification; `y` are numbers of the probabilities' columns."""
    classes = probabilities.shape[1]
    predicted = _one_hot(probabilities.argmax(1), classes)
    truth = _one_hot(y, classes)
    hit = (predicted * truth).sum(1)
    losses = -np.log(_clipped(probabilities[np.arange(len(y)), y]))
    ranked = range(1, 2) if classes == 2 else range(classes)
    curves = [_Ranking(probabilities[:, c], y == c) for c in ranked]
    return {
        "accuracy": lambda w: _mean(w, hit),
        "balanced_accuracy": lambda w: _mean_defined(w @ (truth * predicted), w @ truth),
        "f1_macro": lambda w: _f1(w, truth, predicted),
        "roc_auc": lambda w: np.mean([curve(w) for curve in curves], axis=0),
        "log_loss": lambda w: _mean(w, losses),
    }


def label_metrics(
    probabilities: Float[Array, "n c"], predicted: Int[Array, "n c"], y: Float[Array, "n c"]
) -> dict[str, Metric]:
    """Metrics of multilabel classification; log_loss is the mean of the labels' binary losses."""
    truth, chosen = y.astype(float), predicted.astype(float)
    exact = (truth == chosen).all(1).astype(float)
    losses = -np.log(_clipped(np.where(truth > 0, probabilities, 1 - probabilities))).mean(1)
    curves = [_Ranking(probabilities[:, c], truth[:, c] > 0) for c in range(truth.shape[1])]
    both, either = (truth * chosen).sum(1), (truth + chosen).sum(1)
    return {
        "accuracy": lambda w: _mean(w, exact),
        "f1_macro": lambda w: _f1(w, truth, chosen),
        "f1_micro": lambda w: _ratio(2 * (w @ both), w @ either),
        "roc_auc": lambda w: np.mean([curve(w) for curve in curves], axis=0),
        "log_loss": lambda w: _mean(w, losses),
    }


def value_metrics(predicted: Float[Array, " n"], y: Float[Array, " n"]) -> dict[str, Metric]:
    """Metrics of regression, in the units of `y`."""
    error, centred = predicted - y, y - y.mean()
    square, absolute = error**2, np.abs(error)

    def r2(w: Float[Array, "k n"]) -> Float[Array, " k"]:
        around_zero = w @ centred**2
        spread = around_zero - (w @ centred) ** 2 / w.sum(1)
        # What is left of equal values after the subtraction is rounding, not spread.
        spread = np.where(spread > 1e-12 * around_zero, spread, 0.0)
        return 1 - _ratio(w @ square, spread)

    return {
        "r2": r2,
        "rmse": lambda w: np.sqrt(_mean(w, square)),
        "mae": lambda w: _mean(w, absolute),
    }


def corrected_t_test(
    differences: Float[Array, " k"], train_rows: int, test_rows: int
) -> Comparison:
    """Mean difference over k folds or repeats whose training rows overlap.

    Nadeau & Bengio, "Inference for the Generalization Error", Machine Learning 52 (2003): the
    variance of the mean is (1/k + test/train) times the sample variance. Fewer than two folds: nan.
    """
    from scipy.special import stdtr, stdtrit

    mean, folds = float(np.mean(differences)), len(differences)
    if folds < 2:
        return Comparison(mean, np.nan, np.nan, np.nan)
    error = float(np.sqrt((1 / folds + test_rows / train_rows) * np.var(differences, ddof=1)))
    if error == 0:
        return Comparison(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = float(stdtrit(folds - 1, 0.975)) * error
    return Comparison(
        mean, mean - half, mean + half, float(2 * stdtr(folds - 1, -abs(mean) / error))
    )


def of_draws(value: float, draws: Float[Array, " k"]) -> Comparison:
    """A value with the 95 % interval of its bootstrap draws, and their two-sided p-value against 0."""
    return Comparison(value, *_interval(draws), _two_sided(draws))


class _Ranking:
    """Area under the ROC curve: the share of (positive, negative) pairs in order, ties count half."""

    def __init__(self, score: Float[Array, " n"], positive: Bool[Array, " n"]) -> None:
        self.order = np.argsort(score, kind="stable")
        ranked = score[self.order]
        self.starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        self.positive = positive[self.order].astype(float)

    def __call__(self, w: Float[Array, "k n"]) -> Float[Array, " k"]:
        ranked = w[:, self.order]
        pos = ranked * self.positive
        neg = ranked - pos
        if len(self.starts) < len(self.order):
            pos = np.add.reduceat(pos, self.starts, axis=1)
            neg = np.add.reduceat(neg, self.starts, axis=1)
        below = neg.cumsum(1) - neg / 2
        return _ratio((pos * below).sum(1), pos.sum(1) * neg.sum(1))


def resamples(rows: int, seed: int) -> Iterator[Float[Array, "k n"]]:
    """Counts of 1,000 bootstrap resamples, some at a time; down to 200 above 20,000 rows."""
    rng = np.random.default_rng(seed)
    total = int(np.clip(20_000_000 // rows, 200, 1000))
    step = max(1, 1_000_000 // rows)
    for start in range(0, total, step):
        k = min(step, total - start)
        drawn = rng.integers(rows, size=(k, rows)) + np.arange(k)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=k * rows).reshape(k, rows).astype(float)


def _base_weight(rows: int, weight: Array | None) -> Float[Array, "1 n"]:
    if rows == 0:
        raise TargetError("there must be at least one labelled row to score, got 0")
    if weight is None:
        return np.ones((1, rows))
    weight = np.asarray(weight, dtype=float)
    if weight.shape != (rows,):
        raise TargetError(
            f"sample weights must be one number for each of {rows} rows, got {weight.shape}"
        )
    wrong = int((~np.isfinite(weight) | (weight < 0)).sum())
    if wrong or weight.sum() == 0:
        raise TargetError(
            f"sample weights must be finite, not negative and not all 0; {wrong} of {rows} are"
            f" negative or not finite, the sum is {weight.sum()}"
        )
    return weight[None]


def _guarded(metrics: Mapping[str, Metric], scores: Array) -> Mapping[str, Metric]:
    if np.isfinite(scores).all():
        return metrics
    return {name: lambda w: np.full(len(w), np.nan) for name in metrics}


def _named(metrics: Mapping[str, Metric], name: str) -> Metric:
    if name not in metrics:
        raise SpecError(f"no metric of this task is named {name!r}; there are {', '.join(metrics)}")
    return metrics[name]


def _interval(draws: Float[Array, " k"]) -> tuple[float, float]:
    defined = draws[np.isfinite(draws)]
    if 2 * len(defined) < len(draws):
        return np.nan, np.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def _two_sided(draws: Float[Array, " k"]) -> float:
    defined = draws[np.isfinite(draws)]
    if 2 * len(defined) < len(draws):
        return float("nan")
    # One is added so that no finite number of resamples claims p = 0.
    smaller = min((defined <= 0).sum(), (defined >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (len(defined) + 1)))


def _one_hot(y: Int[Array, " n"], classes: int) -> Float[Array, "n c"]:
    return (y[:, None] == np.arange(classes)).astype(float)


def _clipped(probabilities: Array) -> Array:
    return np.maximum(probabilities, np.finfo(float).eps)  # scikit-learn's floor: log 0 has no mean


def _mean(w: Float[Array, "k n"], rows: Float[Array, " n"]) -> Float[Array, " k"]:
    return _ratio(w @ rows, w.sum(1))


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)


def _mean_defined(above: Float[Array, "k c"], below: Float[Array, "k c"]) -> Float[Array, " k"]:
    """Mean over classes of above / below, classes without a denominator left out."""
    each = np.nan_to_num(_ratio(above, below))
    return _ratio(each.sum(1), (below > 0).sum(1).astype(float))


def _f1(
    w: Float[Array, "k n"], truth: Float[Array, "n c"], predicted: Float[Array, "n c"]
) -> Float[Array, " k"]:
    return _mean_defined(2 * (w @ (truth * predicted)), w @ (truth + predicted))
