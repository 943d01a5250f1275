"""Bootstrap intervals where several rows belong to one thing: the captions of a picture, its questions.

Whole groups are drawn, so an interval does not pretend that five captions of one picture are five pictures.
"""

import warnings
from collections.abc import Collection, Hashable, Iterator, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from multiadapt.errors import TargetError
from multiadapt.tasks._base import Comparison, Estimate
from multiadapt.tasks._metrics import Metric, of_draws, resamples

__all__ = ["difference", "estimates", "group_numbers", "mean_of", "warn_worse"]

CELLS = 4_000_000
"""Most weights in memory at once: 32 MB."""


def group_numbers(groups: Collection[Hashable] | None, rows: int) -> Int[np.ndarray, " n"]:
    """The number of each row's group, from 0 in the order of appearance; None: every row is its own."""
    if groups is None:
        return np.arange(rows)
    if len(groups) != rows:
        raise TargetError(f"groups must name one group for each of {rows} rows, got {len(groups)}")
    held = np.empty(rows, dtype=object)
    held[:] = list(groups)
    numbers, _ = pd.factorize(held)
    if (numbers < 0).any():
        raise TargetError(f"row {int(numbers.argmin())} has no group: name one for every row")
    return numbers


def mean_of(rows: Float[np.ndarray, " n"]) -> Metric:
    """The weighted mean of one number a row."""
    return lambda w: (w @ rows) / w.sum(1)


def estimates(
    metrics: Mapping[str, Metric], groups: Int[np.ndarray, " n"], seed: int
) -> dict[str, Estimate]:
    """Every metric with its 95 % interval; the interval of a single group is nan."""
    whole = np.ones((1, len(groups)))
    values = {name: float(metric(whole)[0]) for name, metric in metrics.items()}
    draws: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for weights in _weights(groups, seed):
        for name, metric in metrics.items():
            draws[name].append(metric(weights))
    if groups.max() == 0:
        return {name: Estimate(value, np.nan, np.nan) for name, value in values.items()}
    found = {name: of_draws(value, np.concatenate(draws[name])) for name, value in values.items()}
    return {name: Estimate(c.difference, c.low, c.high) for name, c in found.items()}


def difference(a: Metric, b: Metric, groups: Int[np.ndarray, " n"], seed: int) -> Comparison:
    """What a is above b on the same rows, by paired bootstrap over groups."""
    whole = np.ones((1, len(groups)))
    draws = np.concatenate([a(w) - b(w) for w in _weights(groups, seed)])
    return of_draws(float(a(whole)[0] - b(whole)[0]), draws)


def warn_worse(what: str, now: float, was: float) -> None:
    """A warning where training made a number worse than it was with the network as it is."""
    if now < was:
        warnings.warn(
            f"{what} is {now:.3f} after training and was {was:.3f} before it; lower "
            "training.learning_rate, or use the network as it is",
            stacklevel=4,
        )


def _weights(groups: Int[np.ndarray, " n"], seed: int) -> Iterator[Float[np.ndarray, "k n"]]:
    step = max(1, CELLS // len(groups))
    for counts in resamples(int(groups.max()) + 1, seed):
        for start in range(0, len(counts), step):
            yield counts[start : start + step, groups]
