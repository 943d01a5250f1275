"""Which modality pays: exact Shapley values over all coalitions, for a metric or for single rows.

A coalition is what a model is left with; what is outside is removed and filled as the model was fitted
to fill it. Nothing at all is worth what the training labels are on the whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from multiadapt.errors import SpecError
from multiadapt.fitted import Fitted
from multiadapt.reports._coalitions import Coalitions, Sample, bootstrap, measured
from multiadapt.tasks._metrics import LOWER, of_draws

__all__ = ["Contributions", "contributions", "explain", "shapley_weights"]

MOST = 8
"""Modalities; each further one doubles the passes over the rows."""


@dataclass(frozen=True, eq=False)
class Contributions:
    """The result of `contributions`."""

    table: pd.DataFrame
    """A row for each modality.

    gain, low, high: its Shapley value with the 95 % bootstrap interval over rows; positive helps, also
    where less of the metric is better. alone, without: the metric itself, with it alone and with all
    others. seconds_per_row: by the clock on the wall, reading a cell of it and computing what is frozen in
    its encoder, once, and scoring a row that has it alone. megabytes (1e6 bytes): the parameters of its
    encoder and adapters; what several modalities share counts for each.
    """
    coalitions: pd.DataFrame
    """A row for each coalition: a column of booleans for each modality, and the metric's value."""
    metric: str
    filled: str
    """What stood in for the modalities outside, in words."""

    @property
    def lower_is_better(self) -> bool:
        return self.metric in LOWER

    @property
    def full(self) -> float:
        """The metric with all modalities; the gains sum to it minus `empty` (turned where less is better)."""
        return float(self.coalitions["value"].iloc[-1])

    @property
    def empty(self) -> float:
        """The metric of the training labels on the whole, the same for every row."""
        return float(self.coalitions["value"].iloc[0])

    @property
    def sentences(self) -> list[str]:
        """For each modality whether it pays, and one more that says what was measured."""
        told = [self._sentence(str(name), row) for name, row in self.table.iterrows()]
        how = (
            f"Measured by taking modalities away from the rows and putting {self.filled} in their place; "
            "another filling, or a model trained without them, would give other numbers."
        )
        return [*told, how]

    def to_csv(self, path: str | Path) -> None:
        """Write the table with the metric's name in a column of its own."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.table.assign(metric=self.metric, filled=self.filled).to_csv(path)

    def _sentence(self, name: str, row: Any) -> str:
        unit = f"less {self.metric}" if self.lower_is_better else self.metric
        number = f"{row['gain']:+.3g} [{row['low']:.3g}, {row['high']:.3g}] {unit}"
        if row["low"] > 0:
            return f"{name} pays: {number}"
        if row["high"] < 0:
            return f"{name}: the answer is no: {number}, it harms"
        if np.isnan(row["low"]):
            return f"{name}: no answer: {number} is not defined on these rows"
        return f"{name}: the answer is no: {number}, the interval includes 0"


def contributions(
    fitted: Fitted,
    rows: Sample,
    labels: pd.Series | pd.DataFrame,
    weight: Float[np.ndarray, " n"],
    metric: str | None = None,
    seed: int = 0,
) -> Contributions:
    """Exact Shapley values of the modalities that the model reads, on these rows.

    Args:
        fitted: the model.
        rows: the rows to score; the table is not written to.
        labels: theirs.
        weight: how much each row counts.
        metric: None: the one that the model was trained to show.
        seed: of the bootstrap.

    Raises:
        SpecError: more than 8 modalities, an unknown metric, or missing="error".
    """
    metric = metric or fitted.target.metric
    names = fitted.model.streams
    passes, inside = _Passes(fitted, rows), _inside(len(names))
    functions = [measured(fitted, passes(chosen), labels, metric) for chosen in inside]
    values = np.array([float(f(weight[None])[0]) for f in functions])
    sign = -1.0 if metric in LOWER else 1.0
    turn = sign * shapley_weights(len(names))
    draws = turn @ bootstrap(functions, weight, seed)
    gains = [of_draws(*pair) for pair in zip((turn @ values).tolist(), draws, strict=True)]
    bits = 1 << np.arange(len(names))
    table = pd.DataFrame(
        {
            "gain": [g.difference for g in gains],
            "low": [g.low for g in gains],
            "high": [g.high for g in gains],
            "alone": values[bits],
            "without": values[bits.sum() - bits],
            "seconds_per_row": [passes.all.seconds_alone(name) / len(rows.frame) for name in names],
            "megabytes": [_megabytes(fitted, name) for name in names],
        },
        index=pd.Index(names, name="modality"),
    )
    coalitions = pd.DataFrame(inside, columns=list(names)).assign(value=values)
    return Contributions(table, coalitions, metric, fitted.method.missing.words)


def explain(fitted: Fitted, rows: Sample, of: Any = None) -> pd.DataFrame:
    """What each modality of a row adds to its predicted score, by exact Shapley values.

    The score is the probability of the predicted class, or of the class or label `of`; a regression's is
    the predicted value. A row for each row, with its index: prediction, score, prior (the score of a row
    that has nothing) and a column for each modality, nan where the row lacks it. prior and modalities sum
    to the score.

    Raises:
        SpecError: no such class or label, none named where rows have several labels, more than 8
            modalities, or missing="error".
    """
    names = fitted.model.streams
    passes = _Passes(fitted, rows)
    found = [passes(chosen) for chosen in _inside(len(names))]
    chosen, prediction = _chosen(fitted, found[-1], of)
    values = np.stack([chosen(scores) for scores in found])
    # A modality that a row lacks changes nothing, so its value is 0 and the others' are as without it.
    shares = shapley_weights(len(names)) @ values
    there = passes.whole.present
    columns = {n: np.where(there[n], share, np.nan) for n, share in zip(names, shares, strict=True)}
    told = {"prediction": prediction, "score": values[-1], "prior": values[0]}
    parts = [pd.DataFrame(part, index=rows.frame.index) for part in (told, columns)]
    return pd.concat(parts, axis=1)  # not one mapping: a modality may be called "score"


def shapley_weights(modalities: int) -> Float[np.ndarray, "m c"]:
    """Shapley values as a matrix over the 2^m coalitions' values; bit i of a coalition's number is
    modality i."""
    weights = np.zeros((modalities, 2**modalities))
    for coalition in range(2**modalities):
        size = coalition.bit_count()
        for i in range(modalities):
            if not coalition >> i & 1:
                share = factorial(size) * factorial(modalities - size - 1) / factorial(modalities)
                weights[i, coalition | 1 << i] += share
                weights[i, coalition] -= share
    return weights


def _inside(modalities: int) -> list[list[bool]]:
    """Who is in each coalition, in the order of `shapley_weights`."""
    return [[bool(c >> i & 1) for i in range(modalities)] for c in range(2**modalities)]


class _Passes:
    """Scores of all rows by who is inside."""

    def __init__(self, fitted: Fitted, rows: Sample) -> None:
        self.names = fitted.model.streams
        if len(self.names) > MOST:
            raise SpecError(
                f"exact Shapley values are for at most {MOST} modalities ({2**MOST} passes over the rows), "
                f"got {len(self.names)}: {list(self.names)}; join texts, or leave columns out"
            )
        self.all = Coalitions(fitted, rows, fitted.schema)
        self.whole = self.all.without(
            frozenset()
        )  # first, so that no other pass pays for warming up

    def __call__(self, inside: Sequence[bool]) -> Float[np.ndarray, "b c"]:
        if not any(inside):
            return self.all.prior
        return self.all.without(self._outside(set(compress(self.names, inside)))).scores

    def _outside(self, inside: set[str]) -> frozenset[str]:
        return frozenset(self.names) - inside


def _megabytes(fitted: Fitted, stream: str) -> float:
    model = fitted.model
    own = [*model.encoder(stream).parameters()]
    adapters = {id(a): a for site, a in model.placed.items() if site.stream == stream}
    own += [p for adapter in adapters.values() for p in adapter.parameters()]
    return sum(p.numel() * p.element_size() for p in own) / 1e6


def _chosen(
    fitted: Fitted, full: Float[np.ndarray, "b c"], of: Any
) -> tuple[Callable[[np.ndarray], np.ndarray], Any]:
    """From scores to the number that is explained, and what is predicted or was asked for."""
    target, state = fitted.target, fitted.target.state()
    if target.kind == "regression":
        if of is not None:
            raise SpecError(f"a regression has one value and no classes; leave of={of!r} out")
        return target.predict, target.predict(full)
    names = list(state.get("names", state.get("classes", [])))
    if of is None and target.kind == "multilabel":
        raise SpecError(f"rows have several labels; name the one to explain with of=, of {names}")
    if of is not None and of not in names:
        raise SpecError(f"of must be one of {names}, got {of!r}")
    rows = np.arange(len(full))
    number = names.index(of) if of is not None else target.probabilities(full).argmax(1)
    return lambda scores: target.probabilities(scores)[rows, number], _predicted(target, full, of)


def _predicted(target: Any, full: Float[np.ndarray, "b c"], of: Any) -> Any:
    return target.predict(full) if of is None else [of] * len(full)
