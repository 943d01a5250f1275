"""What predict and embed do with one part of a table after the other, here or in a worker."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import click
import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float, Int

from multiadapt.cli._chunks import Chunks, Found, Source
from multiadapt.cli._opening import moved
from multiadapt.data.bad_cells import BadCell
from multiadapt.data.masks import Mask, apply, opened
from multiadapt.data.reading import Reading
from multiadapt.data.tables import matching
from multiadapt.errors import SchemaError, SpecError
from multiadapt.fitted import Fitted
from multiadapt.tasks._base import Target

__all__ = ["Embedding", "Finding", "Job", "Prediction", "Work", "finish", "home_of", "run"]

Work: TypeAlias = Callable[[pd.DataFrame, int], Found]
"""From a part of a table and the number of its first row to what is found of it."""


class Job(ABC):
    """What a worker needs to be told; it opens the model once, and takes any number of parts."""

    device: str | None
    where: str | None

    @abstractmethod
    def opened(self) -> AbstractContextManager[Work]:
        """The model, ready for parts."""

    def check(self, rows: int) -> None:
        """SchemaError: what was given does not fit a table of so many rows."""


@dataclass(frozen=True)
class Rowwise(Job, ABC):
    """Of a model for the rows of tables."""

    model: Path
    root: Path
    on_error: Literal["raise", "missing"]
    mask: Path | None
    where: str | None
    encoder: Mapping[str, str]
    device: str | None

    @abstractmethod
    def columns(
        self, fitted: Fitted, rows: pd.DataFrame, reading: Reading, positions: Int[np.ndarray, " b"]
    ) -> Mapping[str, Any]:
        """What is found of the rows, by the name of its column."""

    def look(self, fitted: Fitted) -> None:
        """SpecError: the model cannot do what is asked."""

    @contextmanager
    def opened(self) -> Iterator[Work]:
        from multiadapt.estimators import load

        mask = None if self.mask is None else opened(self.mask)
        model = load(self.model, encoders=self.encoder, device=self.device)
        self.look(model.fitted_)
        with model.folded():
            yield partial(self._part, model.fitted_, mask)

    def check(self, rows: int) -> None:
        if self.mask is not None:
            opened(self.mask).check_rows(rows)

    def _part(self, fitted: Fitted, mask: Mask | None, rows: pd.DataFrame, start: int) -> Found:
        chosen = _chosen(rows, self.where)
        masked = rows if mask is None else apply(rows, fitted.schema, mask, start)
        masked = masked if chosen is None else masked.iloc[chosen]
        bad: list[BadCell] = []
        reading = fitted.reading(self.root, self.on_error, bad.extend)
        positions = start + (np.arange(len(rows)) if chosen is None else chosen)
        return Found(self.columns(fitted, masked, reading, positions), bad, chosen)


@dataclass(frozen=True)
class Prediction(Rowwise):
    """What `predict` asks."""

    proba: bool
    empty: Literal["raise", "prior"]

    def look(self, fitted: Fitted) -> None:
        if self.proba and fitted.target.kind == "regression":
            raise SpecError("a regression has no probabilities; leave --proba out")

    def columns(
        self, fitted: Fitted, rows: pd.DataFrame, reading: Reading, positions: Int[np.ndarray, " b"]
    ) -> Mapping[str, Any]:
        answer = fitted.answered(rows, reading, self.empty, positions=positions)
        return _predicted(fitted.target, answer.scores, proba=self.proba)


@dataclass(frozen=True)
class Embedding(Rowwise):
    """What `embed` asks of a model for the rows of tables."""

    stream: str | None
    empty: Literal["raise", "missing"]

    def columns(
        self, fitted: Fitted, rows: pd.DataFrame, reading: Reading, positions: Int[np.ndarray, " b"]
    ) -> Mapping[str, Any]:
        found = fitted.vectors(rows, reading, self.stream, self.empty, positions=positions)
        return {"vector": _lists(found)}


@dataclass(frozen=True)
class Finding(Job):
    """What `embed` asks of a retriever."""

    model: Path
    root: Path
    side: str
    where: str | None
    backbone: str | None
    encoder: Mapping[str, str]
    device: str | None

    @contextmanager
    def opened(self) -> Iterator[Work]:
        from multiadapt.retriever import CrossModalRetriever

        place = moved(self.backbone, self.encoder)
        retriever = CrossModalRetriever.load(self.model, backbone=place, device=self.device)

        def part(rows: pd.DataFrame, start: int) -> Found:
            chosen = _chosen(rows, self.where)
            asked = rows if chosen is None else rows.iloc[chosen]
            if len(asked) == 0:
                return Found({"vector": []}, chosen=chosen)
            vectors = retriever.embed(asked, self.side, root=self.root)
            return Found({"vector": _lists(vectors)}, chosen=chosen)

        yield part


def run(job: Job, chunks: Chunks, engine: str, workers: int | None) -> None:
    """All parts, one after the other in this process, or by Ray's workers."""
    if engine == "ray":
        from multiadapt.cli._ray import run_on_ray

        run_on_ray(job, chunks, workers)
        return
    if workers is not None:
        raise click.UsageError("--workers goes with --engine ray")
    with chunks, job.opened() as work:
        for rows, start in chunks:
            chunks.write(work(rows, start))
        finish(job, chunks)


def home_of(table: Source) -> Path:
    """Where files of cells are sought unless another folder is named: beside the table."""
    return Path.cwd() if isinstance(table, str) else table.parent


def finish(job: Job, chunks: Chunks) -> None:
    """SchemaError: what was given does not fit the table as a whole."""
    job.check(chunks.rows)
    if job.where is not None and chunks.written == 0:
        raise SchemaError(f"where={job.where!r} keeps no row of the {chunks.rows} of the table")


def _chosen(rows: pd.DataFrame, where: str | None) -> Int[np.ndarray, " k"] | None:
    return None if where is None else np.flatnonzero(matching(rows, where))


def _predicted(target: Target, scores: np.ndarray, *, proba: bool) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    predicted, state = target.predict(scores), target.state()
    names = state.get("names", state.get("classes", []))
    if predicted.ndim == 2:
        found |= {f"prediction_{n}": predicted[:, i] for i, n in enumerate(names)}
    else:
        found["prediction"] = predicted
    if proba:
        likely = target.probabilities(scores)
        found |= {f"probability_{n}": likely[:, i] for i, n in enumerate(names)}
    return found


def _lists(vectors: Float[np.ndarray, "b d"]) -> pd.api.extensions.ExtensionArray:
    """Lists of one length, as one cell each; missing where a vector is nan."""
    lacking = pa.array(np.isnan(vectors).any(axis=1))
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=lacking)
    return pd.arrays.ArrowExtensionArray(lists)
