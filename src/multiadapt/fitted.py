"""A fitted model with everything it needs to read a new table."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import ArtifactError
from multiadapt.feed import Feed
from multiadapt.methods._base import Method, Training
from multiadapt.model import AdaptedModel
from multiadapt.tasks._base import Target, TaskSpec
from multiadapt.training import scores

__all__ = ["Answer", "Fitted"]

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
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @property
    def prior(self) -> list[float]:
        """The scores of a row of which nothing is known: what the training labels are on the whole."""
        if "prior" not in self.info:
            raise ArtifactError(
                "this model was saved by a version that did not keep what the training labels are on the "
                "whole; fit it again"
            )
        return self.info["prior"]

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
        frame = self._without_unseen(self.schema.conform(frame), silent=silent)
        if len(frame) == 0:
            nothing = np.zeros((0, self.target.outputs), np.float32)
            return Answer(nothing, {s: np.zeros(0, dtype=bool) for s in self.model.streams})
        reading = Reading(root, self.schema.max_files, on_error)
        encoders = {s: self.model.encoder(s) for s in self.model.streams}
        # A table's part is computed as far as it is frozen, for all rows at once; pictures stream.
        deep = {
            s: e.cut_for((), ()) if e.stream.modality == "tabular" else 0
            for s, e in encoders.items()
        }
        feed = Feed(encoders, frame, reading, deep, self.device, given={}, budget=sys.maxsize)
        feed.keep("tabular")
        found = scores(self.model, feed, self.training)
        reading.finish()
        if not silent:
            feed.say_remarks()
        demand = self.method.missing.demands
        if empty == "prior" and feed.empty.any():
            found[feed.empty] = self.prior
            demand = "nothing" if demand == "one" else demand
        feed.demand(demand)
        return Answer(found, feed.present)
