"""One number for each row."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, NoReturn

import numpy as np
import pandas as pd
from jaxtyping import Float
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from torch import Tensor, nn

from multiadapt.errors import SpecError, TargetError
from multiadapt.tasks._base import Head, Target, TaskSpec
from multiadapt.tasks._labels import check_complete, examples, one_column, rows_where
from multiadapt.tasks._linear import Linear
from multiadapt.tasks._metrics import Measured, Metric, value_metrics
from multiadapt.types import Labels

__all__ = ["Regression"]


@dataclass(frozen=True)
class Regression(TaskSpec):
    """Squared error on the target standardised by the training rows; predictions have its units."""

    target: Literal["identity", "log"] = "identity"
    """log: learn the logarithm, for positive targets that span orders of magnitude."""
    metric: Literal["r2", "rmse", "mae"] = "r2"
    """The metric shown while training and used to compare, in the target's own units."""

    def learn(self, labels: pd.Series | pd.DataFrame) -> Target:
        values = _numbers(one_column(labels), log=self.target == "log")
        mean, scale = float(values.mean()), float(values.std())
        if np.ptp(values) == 0 or scale == 0:
            raise TargetError(
                f"regression needs a target that varies; all {len(values)} rows have the value"
                f" {float(np.exp(mean) if self.target == 'log' else mean):g}"
            )
        return _Values(mean, scale, self.target == "log", self.metric)

    def restore(self, state: Mapping[str, Any]) -> Target:
        return _Values(state["mean"], state["scale"], self.target == "log", self.metric)


@dataclass(frozen=True)
class _Values(Measured):
    mean: float
    scale: float
    log: bool
    metric: str

    kind = "regression"

    @property
    def outputs(self) -> int:
        return 1

    def encode(self, labels: pd.Series | pd.DataFrame) -> Float[np.ndarray, " b"]:
        values = _numbers(one_column(labels), log=self.log)
        return ((values - self.mean) / self.scale).astype(np.float32)

    def labels(self, encoded: np.ndarray, groups: np.ndarray | None) -> Labels:
        return Labels("regression", encoded, 0, groups)

    def head(self, width: int | None) -> Head:
        return Linear(width, 1, _SquaredError())

    def predict(self, scores: Float[np.ndarray, "b 1"]) -> Float[np.ndarray, " b"]:
        values = self._unscaled(scores)
        return np.exp(values) if self.log else values

    def probabilities(self, scores: np.ndarray) -> NoReturn:
        raise SpecError("regression predicts numbers and has no probabilities; use predict")

    def metrics(self, scores: np.ndarray, labels: pd.Series | pd.DataFrame) -> Mapping[str, Metric]:
        values = _numbers(one_column(labels), log=self.log)
        if not self.log:
            return value_metrics(self._unscaled(scores), values)
        logged = value_metrics(self._unscaled(scores), values)
        return {**value_metrics(self.predict(scores), np.exp(values)), "r2_log": logged["r2"]}

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "scale": self.scale}

    def _unscaled(self, scores: Float[np.ndarray, "b 1"]) -> Float[np.ndarray, " b"]:
        return np.asarray(scores, dtype=float)[:, 0] * self.scale + self.mean


def _numbers(column: pd.Series, *, log: bool) -> Float[np.ndarray, " n"]:
    """The column as float64, logged where asked. TargetError: missing, text, infinite, not positive."""
    check_complete(column)
    wrong = np.zeros(len(column), bool)
    if not is_numeric_dtype(column) or is_bool_dtype(column):
        wrong = np.fromiter((not _is_number(v) for v in column), bool, len(column))
        parsed: Any = pd.to_numeric(column.where(wrong, 0).astype(object), errors="coerce")
        slips = wrong & parsed.isna().to_numpy(bool)
        wrong = slips if slips.any() else wrong  # one "12,50" made all the others words too
    if wrong.any():
        raise TargetError(
            f"a regression target must be numbers; column {column.name!r} has others, such as"
            f" {examples(wrong, column)}; classes are for the task classification"
        )
    values = column.to_numpy(float)
    infinite = np.isinf(values)
    if infinite.any():
        raise TargetError(
            f"a regression target must be finite; column {column.name!r} is infinite in"
            f" {rows_where(infinite, column.index)}; drop these rows or correct them"
        )
    if log and (values <= 0).any():
        raise TargetError(
            f'target="log" needs positive values; column {column.name!r} is not in'
            f' {rows_where(values <= 0, column.index)}; use target="identity" or drop these rows'
        )
    return np.log(values) if log else values


def _is_number(value: object) -> bool:
    return isinstance(value, (Real, Decimal)) and not isinstance(value, bool)


class _SquaredError(nn.Module):
    def forward(
        self, scores: Float[Tensor, "b 1"], target: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        return (scores[:, 0] - target) ** 2
