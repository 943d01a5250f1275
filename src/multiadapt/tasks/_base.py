"""What a task is: how labels are learned, the head and its loss, how scores are read and measured."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.spec import Spec
from multiadapt.types import Labels, Tokens

__all__ = ["Comparison", "Estimate", "Fuse", "Head", "Target", "TaskSpec"]

Fuse: TypeAlias = Callable[[Mapping[str, Tokens]], Tensor]


@dataclass(frozen=True)
class Estimate:
    """A metric with the bounds of its 95 % bootstrap interval over rows."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The metric of one method minus another's, its 95 % interval, and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


class Head(nn.Module, ABC):
    """Tokens to scores. It is handed `fuse`, not the fused vector: matching tasks fuse again."""

    @abstractmethod
    def forward(self, tokens: Mapping[str, Tokens], fuse: Fuse) -> Float[Tensor, "b c"]: ...

    @abstractmethod
    def loss(
        self, scores: Float[Tensor, "b c"], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """Weighted mean loss of a batch; `target` rows are what `Target.encode` gave."""


class Target(ABC):
    """A task that has seen the training labels. Leaves are frozen dataclasses of JSON values."""

    kind: Literal["classification", "regression", "multilabel"]
    metric: str
    """The one shown while training and used to compare: higher is better unless in LOWER."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width c of the scores: 1 for binary and regression, else classes or labels."""

    @abstractmethod
    def encode(self, labels: pd.Series | pd.DataFrame) -> np.ndarray:
        """Labels to what the loss reads: float32 (b,) or (b, c), or int64 (b,). TargetError names rows."""

    @abstractmethod
    def labels(self, encoded: np.ndarray, groups: np.ndarray | None) -> Labels:
        """The same for encoders that learn from labels."""

    @abstractmethod
    def head(self, width: int | None) -> Head:
        """A linear head on the fused vector of this width; None: the fused vector is the scores."""

    @abstractmethod
    def predict(self, scores: np.ndarray) -> np.ndarray:
        """What the user sees for (b, c) scores: class labels, values, or (b, c) zeros and ones."""

    @abstractmethod
    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(b, classes) or (b, labels) probabilities; SpecError for regression."""

    @abstractmethod
    def measure(
        self,
        scores: np.ndarray,
        labels: pd.Series | pd.DataFrame,
        weight: np.ndarray | None,
        seed: int,
    ) -> Mapping[str, Estimate]:
        """Every metric of the task, by scikit-learn's name, with its bootstrap interval."""

    @abstractmethod
    def values(
        self, scores: np.ndarray, labels: pd.Series | pd.DataFrame, weight: np.ndarray | None = None
    ) -> Mapping[str, float]:
        """The metrics without intervals: what validation needs after every epoch."""

    @abstractmethod
    def paired(
        self,
        scores_a: np.ndarray,
        scores_b: np.ndarray,
        labels: pd.Series | pd.DataFrame,
        *,
        metric: str | None = None,
        weight: np.ndarray | None = None,
        seed: int = 0,
    ) -> Comparison:
        """Method a against b on the same rows, by paired bootstrap; None: the target's own metric."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON values from which `TaskSpec.restore` makes it again."""


class TaskSpec(Spec, ABC):
    """A task and its options."""

    folder = "tasks"

    @abstractmethod
    def learn(self, labels: pd.Series | pd.DataFrame) -> Target:
        """Look at the training labels. TargetError: one class, none, missing, infinite ..."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> Target: ...
