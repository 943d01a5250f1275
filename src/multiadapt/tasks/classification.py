"""One of two or more classes for each row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.errors import SpecError, TargetError
from multiadapt.tasks._base import Head, Target, TaskSpec
from multiadapt.tasks._labels import check_complete, classes_of, label_array, lookup, one_column
from multiadapt.tasks._linear import Linear
from multiadapt.tasks._metrics import Measured, Metric, class_metrics
from multiadapt.types import Labels

__all__ = ["Classification"]

Label: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Classification(TaskSpec):
    """Binary cross-entropy on one score, or cross-entropy on a score for each class."""

    class_weight: Literal["balanced"] | tuple[tuple[Label, float], ...] | None = None
    """How much a class counts in the loss: balanced is rows / (classes * rows of the class); or
    pairs of label and weight, 1 for labels not named."""
    metric: Literal["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss"] = "accuracy"
    """The metric shown while training and used to compare."""

    def check(self) -> None:
        if isinstance(self.class_weight, tuple):
            wrong = [pair for pair in self.class_weight if pair[1] <= 0]
            if wrong:
                raise SpecError(f"class weights must be above 0, got {wrong}")

    def learn(self, labels: pd.Series | pd.DataFrame) -> Target:
        column = one_column(labels)
        check_complete(column)
        kind, classes = classes_of(column)
        if len(classes) == 1:
            raise TargetError(
                f"classification needs at least two classes; all {len(column)} rows of column"
                f" {column.name!r} have the label {classes[0]!r}"
            )
        counts = np.bincount(lookup(column, classes, column.index))
        return _Classes(kind, classes, self._weights(classes, counts), self.metric)

    def restore(self, state: Mapping[str, Any]) -> Target:
        return _Classes(
            state["type"], tuple(state["classes"]), tuple(state["weights"]), self.metric
        )

    def _weights(
        self, classes: tuple[Any, ...], counts: Int[np.ndarray, " c"]
    ) -> tuple[float, ...]:
        if self.class_weight is None:
            return (1.0,) * len(classes)
        if self.class_weight == "balanced":
            return tuple((counts.sum() / (len(classes) * counts)).tolist())
        given = dict(self.class_weight)
        unknown = [label for label in given if label not in classes]
        if unknown:
            raise TargetError(
                f"class_weight names {unknown}, which no training row has; there are {list(classes)}"
            )
        return tuple(given.get(label, 1.0) for label in classes)


@dataclass(frozen=True)
class _Classes(Measured):
    type: str
    """Of the caller's labels: str, int, bool or float."""
    classes: tuple[Any, ...]
    """Sorted, as scikit-learn does; a binary score speaks for the second."""
    weights: tuple[float, ...]
    metric: str

    kind = "classification"

    @property
    def outputs(self) -> int:
        return 1 if len(self.classes) == 2 else len(self.classes)

    def encode(self, labels: pd.Series | pd.DataFrame) -> Int[np.ndarray, " b"]:
        column = one_column(labels)
        check_complete(column)
        return lookup(column, self.classes, column.index)

    def labels(self, encoded: np.ndarray, groups: np.ndarray | None) -> Labels:
        weight = np.asarray(self.weights)[encoded]
        return Labels("classification", encoded, len(self.classes), groups, weight)

    def head(self, width: int | None) -> Head:
        return Linear(width, self.outputs, _CrossEntropy(self.weights))

    def predict(self, scores: Float[np.ndarray, "b c"]) -> np.ndarray:
        number = self.probabilities(scores).argmax(1)
        return label_array(self.type, self.classes)[number]

    def probabilities(self, scores: Float[np.ndarray, "b c"]) -> Float[np.ndarray, "b classes"]:
        logits = torch.from_numpy(np.asarray(scores, dtype=float))
        if self.outputs == 1:
            return torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1).numpy()
        return logits.softmax(1).numpy()

    def metrics(self, scores: np.ndarray, labels: pd.Series | pd.DataFrame) -> Mapping[str, Metric]:
        return class_metrics(self.probabilities(scores), self.encode(labels))

    def state(self) -> dict[str, Any]:
        return {"type": self.type, "classes": list(self.classes), "weights": list(self.weights)}


class _CrossEntropy(nn.Module):
    """Per row; binary where there is one score."""

    weights: Tensor

    def __init__(self, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def forward(
        self, scores: Float[Tensor, "b c"], target: Int[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        if scores.shape[1] > 1:
            return F.cross_entropy(scores, target, self.weights, reduction="none")
        rows = F.binary_cross_entropy_with_logits(scores[:, 0], target.float(), reduction="none")
        return rows * self.weights[target]
