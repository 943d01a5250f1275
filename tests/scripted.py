"""A fitted model whose answer is a formula of what a row has, so that reports on it have known results."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from multiadapt import Frozen
from multiadapt.data.masks import present
from multiadapt.data.schema import Schema
from multiadapt.fitted import Answer, Fitted, Prepared
from multiadapt.fitting import Rows, _prior
from multiadapt.tasks.classification import Classification
from multiadapt.tasks.regression import Regression
from multiadapt.types import Column

__all__ = ["SCHEMA", "Scripted", "scripted_table"]

SCHEMA = Schema(
    (Column("size", "numeric", ""), Column("photo", "image", ""), Column("note", "text", ""))
)
NAMES = {"tabular": "size", "photo": "photo", "note": "note"}


def scripted_table(rows: int = 40, seed: int = 0) -> pd.DataFrame:
    """Three numbers a row, each the cell of another modality; `y` follows the first two."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=list(NAMES.values()))
    frame["y"] = frame["size"] + 2 * frame["photo"] + rng.normal(0, 0.1, rows)
    frame["kind"] = np.where(frame["y"] > 0, "up", "down")
    return frame.set_index(pd.Index(range(10, 10 + rows)))


class Scripted(Fitted):
    """Scores a row by the weighted sum of the numbers it has, and the product of the first two."""

    def __init__(
        self,
        frame: pd.DataFrame,
        weights: Mapping[str, float],
        *,
        label: str = "y",
        missing: str = "zero",
        product: float = 0.0,
    ) -> None:
        self.schema = SCHEMA
        task = Regression() if label == "y" else Classification()
        self.target = task.learn(frame[label])
        self.method = Frozen(missing=missing)  # type: ignore[arg-type]
        self.weights, self.product, self.passes = dict(weights), product, 0
        rows = Rows(frame, frame[label], np.ones(len(frame)), None, np.arange(len(frame)))
        self.info = {"prior": _prior(self.target, rows)}
        streams = {s.name: s for s in SCHEMA.streams() if s.name in weights}
        encoders = {n: SimpleNamespace(stream=s, parameters=list) for n, s in streams.items()}
        self.model = SimpleNamespace(  # type: ignore[assignment]
            streams=tuple(streams), encoder=encoders.__getitem__, placed={}
        )

    def prepared(
        self,
        frame: pd.DataFrame,
        root: Path | None,
        on_error: str = "raise",
        memory: float = 4.0,
    ) -> "_Hiding":
        return _Hiding(self, frame)

    def answer(
        self, frame: pd.DataFrame, root: Path | None, on_error: str = "raise", empty: str = "raise"
    ) -> Answer:
        self.passes += 1
        there = present(frame, SCHEMA)
        numbers = frame[list(NAMES.values())].astype(float).fillna(0.0).to_numpy()
        numbers = dict(zip(NAMES, numbers.T, strict=True))
        total = sum(self.weights[s] * numbers[s] for s in self.weights)
        total = total + self.product * numbers["tabular"] * numbers["photo"]
        scale = getattr(self.target, "scale", 1.0)
        scores = ((total - getattr(self.target, "mean", 0.0)) / scale)[:, None].astype(np.float32)
        own = {s: there[s].to_numpy() for s in self.weights}
        answer = Answer(scores, own)
        scores[answer.empty] = self.info["prior"]
        return answer


class _Hiding(Prepared):
    """Scores the table with cells that are empty."""

    def __init__(self, fitted: Scripted, frame: pd.DataFrame) -> None:
        self.fitted, self.frame, self.seconds = fitted, frame, {}

    def answer(self, hidden: Collection[str] = ()) -> Answer:
        return self.fitted.answer(self.frame.assign(**dict.fromkeys(hidden, np.nan)), None)
