"""A fitted model with everything it needs to read a new table."""

import logging
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from multiadapt.data.bad_cells import BadCell
from multiadapt.data.batches import cells
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema
from multiadapt.data.values import absent
from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.errors import ArtifactError, SpecError
from multiadapt.feed import BLOCK, Feed, side_by_side
from multiadapt.methods._base import Method, Training
from multiadapt.model import AdaptedModel
from multiadapt.scoring import computed, scored, scores
from multiadapt.tasks._base import Target, TaskSpec
from multiadapt.types import Inputs

__all__ = ["Answer", "Fitted", "Prepared"]

_log = logging.getLogger("multiadapt")


@dataclass(frozen=True)
class Answer:
    """What a model says of a table."""

    scores: Float[np.ndarray, "b c"]
    present: Mapping[str, np.ndarray]
    """By modality's stream, (b,) whether the row had it."""

    @property
    def empty(self) -> np.ndarray:
        """(b,) True where a row had none of them."""
        return ~np.any(list(self.present.values()), axis=0)


@dataclass
class Fitted:
    """What `fit` makes, `save` writes and `load` brings back."""

    schema: Schema
    task: TaskSpec
    target: Target
    method: Method
    training: Training
    specs: Mapping[str, EncoderSpec]
    """By stream."""
    model: AdaptedModel
    seed: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    """JSON values about the run: history, rows, validation metrics, versions."""

    @property
    def device(self) -> torch.device:
        tensors = chain(self.model.parameters(), self.model.buffers())
        return next((t.device for t in tensors), torch.device("cpu"))

    @property
    def prior(self) -> list[float]:
        """The scores of a row of which nothing is known: what the training labels are on the whole."""
        if "prior" not in self.info:
            raise ArtifactError(
                "this model was saved by a version that did not keep what the training labels are on the "
                "whole; fit it again"
            )
        return self.info["prior"]

    @property
    def no_rows(self) -> "Answer":
        """The answer to a table without rows."""
        nothing = np.zeros((0, self.target.outputs), np.float32)
        return Answer(nothing, {s: np.zeros(0, dtype=bool) for s in self.model.streams})

    def _without_unseen(self, frame: pd.DataFrame, *, silent: bool) -> pd.DataFrame:
        """The frame with those modalities emptied that no training row had: nothing was learned of them."""
        unseen = self.info.get("unseen", [])
        columns = [c.name for s in unseen for c in self.model.encoder(s).stream.columns]
        if not columns or bool(frame[columns].isna().to_numpy().all()):
            return frame
        if not silent:
            _log.warning("no training row had %s: taken as missing here too", ", ".join(unseen))
        return frame.assign(**dict.fromkeys(columns))

    def scores(
        self,
        frame: pd.DataFrame,
        root: Path | None,
        on_error: Literal["raise", "missing"] = "raise",
    ) -> Float[np.ndarray, "b c"]:
        """The head's scores of every row of `frame`, in its order; files are relative to `root`."""
        return self.answer(frame, root, on_error).scores

    def answer(
        self,
        frame: pd.DataFrame,
        root: Path | None,
        on_error: Literal["raise", "missing"] = "raise",
        empty: Literal["raise", "prior"] = "raise",
        *,
        silent: bool = False,
    ) -> "Answer":
        """Scores of every row, and which modalities it had.

        With empty="prior" a row that has none of its modalities gets the scores of the training labels
        on the whole, whatever the method; else it depends on the method: CellError where it asks for one.
        A modality that no training row had is missing here too.
        """
        return self.answered(frame, self.reading(root, on_error), empty, silent=silent)

    def reading(
        self,
        root: Path | None,
        on_error: Literal["raise", "missing"] = "raise",
        take: Callable[[list[BadCell]], None] | None = None,
    ) -> Reading:
        """What reads files of cells as this model was told to; `take` takes what a warning would list."""
        return Reading(root, self.schema.max_files, on_error, take)

    def answered(
        self,
        frame: pd.DataFrame,
        reading: Reading,
        empty: Literal["raise", "prior"] = "raise",
        *,
        positions: np.ndarray | None = None,
        silent: bool = False,
    ) -> "Answer":
        """As `answer`, by a `reading`; `positions` tells where rows stand in the caller's table, for reports."""
        frame = self._without_unseen(self.schema.conform(frame), silent=silent)
        if len(frame) == 0:
            return self.no_rows
        feed = self._fed(self.model.streams, frame, reading, positions, self._cuts(len(frame)))
        found = scores(self.model, feed, self.training)
        reading.finish()
        if not silent:
            feed.reader.say_remarks()
        return self.judged(feed, found, empty)

    def judged(
        self, feed: Feed, found: Float[np.ndarray, "b c"], empty: Literal["raise", "prior"]
    ) -> "Answer":
        """The answer, once all rows of the feed are read and scored; CellError as `answer`."""
        demand = self.method.missing.demands
        if empty == "prior" and feed.reader.empty.any():
            found[feed.reader.empty] = self.prior
            demand = "nothing" if demand == "one" else demand
        feed.reader.demand(demand)
        return Answer(found, feed.reader.present)

    def feed(self, frame: pd.DataFrame, reading: Reading, positions: np.ndarray) -> Feed:
        """The rows of a frame that has the schema's form, at least one, for whoever scores them; `positions` is as
        in `answered`."""
        frame = self._without_unseen(frame, silent=False)
        return self._fed(self.model.streams, frame, reading, positions, {})

    def vectors(
        self,
        frame: pd.DataFrame,
        reading: Reading,
        stream: str | None = None,
        empty: Literal["raise", "missing"] = "raise",
        *,
        positions: np.ndarray | None = None,
    ) -> Float[np.ndarray, "b d"]:
        """What the head reads of every row; or of a `stream` the pooled vector after its adapters.

        A row without the stream is nan, and with empty="missing" one that has none of its modalities; else it
        depends on the method: CellError where it asks for one. SpecError: there is no such stream.
        """
        if stream is not None and stream not in self.model.streams:
            raise SpecError(f"stream must be one of {list(self.model.streams)}, got {stream!r}")
        frame = self._without_unseen(self.schema.conform(frame), silent=False)
        if len(frame) == 0:
            width = self.model.encoder(stream).width if stream else self.model.fusion.width
            return np.zeros((0, width), np.float32)
        streams = [stream] if stream else self.model.streams
        feed = self._fed(streams, frame, reading, positions, self._cuts(len(frame)))
        found = computed(
            self.model, feed.batches(feed.in_order()), self.training, self.device,
            partial(self.model.vectors, stream=stream),
        )  # fmt: skip
        reading.finish()
        feed.reader.say_remarks()
        demand = self.method.missing.demands if stream is None else "nothing"
        if stream is not None or empty == "missing":
            found[feed.reader.empty] = np.nan
            demand = "nothing" if demand == "one" else demand
        feed.reader.demand(demand)
        return found

    def _cuts(self, rows: int) -> Mapping[str, int]:
        """Where what an earlier run kept of so many rows is looked for. Of few it is sooner computed, and in
        half precision the whole network is, of which only the rest would be."""
        many = rows >= BLOCK and self.training.precision == "fp32"
        return self.model.cuts() if many else {}

    def _fed(
        self,
        streams: Sequence[str],
        frame: pd.DataFrame,
        reading: Reading,
        positions: np.ndarray | None,
        cuts: Mapping[str, int],
    ) -> Feed:
        encoders = {s: self.model.encoder(s) for s in streams}
        # A table's part is computed as far as it is frozen, for all rows at once; pictures stream.
        deep = {
            s: e.cut_for((), ()) if e.stream.modality == "tabular" else cuts.get(s, 0)
            for s, e in encoders.items()
        }
        feed = Feed(
            encoders, frame, reading, deep, self.device, given={}, budget=sys.maxsize,
            positions=positions, predicts=True,
        )  # fmt: skip
        feed.keep("tabular")
        return feed

    def prepared(
        self,
        frame: pd.DataFrame,
        root: Path | None,
        on_error: Literal["raise", "missing"] = "raise",
        memory: float = 4.0,
    ) -> "Prepared":
        """The table read once, to be scored with columns hidden as often as one likes.

        `memory`: gigabytes of frozen computation that may be kept; what does not fit is read again in
        every pass. A modality that no training row had is missing here too.
        """
        frame = self._without_unseen(self.schema.conform(frame), silent=False)
        return Prepared(self, frame, Reading(root, self.schema.max_files, on_error), memory)


class Prepared:
    """A model's view of one table: each stream read, and moved to where its trained part begins, once."""

    def __init__(
        self, fitted: Fitted, frame: pd.DataFrame, reading: Reading, memory: float
    ) -> None:
        self.fitted, self.frame, self.reading = fitted, frame, reading
        self.left = int(memory * 1e9)
        self.seconds: dict[str, float] = {}
        """What reading a stream and computing its frozen part took; 0 where nothing could be kept, so
        that every pass does it again."""
        self._feeds: dict[tuple[str, frozenset[str]], Feed] = {}
        if len(frame):
            for stream in fitted.model.streams:
                self.seconds[stream] = self._open(stream, frozenset())
        reading.finish()
        for feed in self._feeds.values():
            feed.reader.say_remarks()

    def answer(self, hidden: Collection[str] = ()) -> Answer:
        """Scores of every row with these columns empty; one that has nothing left gets the prior's.

        A stream whose columns are all hidden reaches the model as missing cells do: without items.
        """
        if len(self.frame) == 0:
            return self.fitted.no_rows
        feeds = {s: self._feed(s, frozenset(hidden)) for s in self.fitted.model.streams}
        device, training = self.fitted.device, self.fitted.training
        found = scored(self.fitted.model, side_by_side([*feeds.values()]), training, device)
        if self.reading.on_error == "raise":
            self.reading.finish()  # a file that broke since it was read first
        answer = Answer(found, {s: feed.reader.present[s] for s, feed in feeds.items()})
        if answer.empty.any():
            found[answer.empty] = self.fitted.prior
        return answer

    def _feed(self, stream: str, hidden: frozenset[str]) -> Feed:
        own = frozenset(c.name for c in self.fitted.model.encoder(stream).stream.columns)
        if (stream, hidden & own) not in self._feeds:
            self._open(stream, hidden & own)
        return self._feeds[stream, hidden & own]

    def _open(self, stream: str, hidden: frozenset[str]) -> float:
        """Read a stream without these of its columns; the seconds that need not be spent again."""
        started, encoder = time.perf_counter(), self.fitted.model.encoder(stream)
        frame = self.frame.assign(**dict.fromkeys(hidden)) if hidden else self.frame
        # Of a table many rows are looked at together, and so it is kept whatever it takes.
        tabular = encoder.stream.modality == "tabular"
        feed = Feed(
            {stream: encoder}, frame, self.reading, self.fitted.model.cuts(), self.fitted.device,
            self._without_cells(encoder, frame), sys.maxsize if tabular else self.left,
        )  # fmt: skip
        feed.keep()
        self._feeds[stream, hidden] = feed
        self.left = max(0, self.left - feed.kept_bytes)
        return time.perf_counter() - started if feed.kept_bytes else 0.0

    def _without_cells(self, encoder: Encoder, frame: pd.DataFrame) -> dict[str, Inputs]:
        """The inputs of a stream that no row has; none where some row does, or where the encoder has a
        word to say of an empty cell too, as trees do."""
        columns: list[Any] = [frame[c.name] for c in encoder.stream.columns]
        if not all(absent(column).all() for column in columns):
            return {}
        one = encoder.prepare(cells(frame.iloc[:1], encoder.stream, self.reading))
        if one.items:
            return {}
        return {encoder.stream.name: replace(one, count=one.count.expand(len(frame)).clone())}
