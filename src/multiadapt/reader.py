"""Rows of a table as the inputs of encoders, before anything of them is computed, and what they lack."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int

from multiadapt import processes
from multiadapt.data.bad_cells import BadCell, missing_cells
from multiadapt.data.batches import cells
from multiadapt.data.reading import Reading
from multiadapt.data.views import viewed
from multiadapt.encoders._base import Encoder
from multiadapt.errors import CellError
from multiadapt.missing._base import Demand
from multiadapt.types import Inputs

__all__ = ["Reader"]

# Rows whose pictures, sounds or frames are in memory at their full size at once, in each worker.
_DECODED = {"image": 4, "audio": 1, "video": 1}

_log = logging.getLogger("multiadapt")


@dataclass
class Reader:
    """The cells of a table for a set of encoders."""

    encoders: Mapping[str, Encoder]
    frame: pd.DataFrame
    reading: Reading
    positions: Int[np.ndarray, " b"]
    """Where each row stands in the caller's table, for reports."""
    view: int = 0
    """Which view of each picture is read."""
    present: dict[str, Bool[np.ndarray, " b"]] = field(init=False)
    """By stream, False where a row's modality was missing when it was last read."""
    noted: dict[tuple[str, int], list[tuple[str, int]]] = field(default_factory=dict, init=False)
    """What encoders noticed, by stream and the first row of the block in which they did."""

    def __post_init__(self) -> None:
        self.present = {s: np.ones(len(self.frame), dtype=bool) for s in self.encoders}

    @property
    def lengths(self) -> Int[np.ndarray, " b"] | None:
        """Characters of each row's texts; None: none is read."""
        streams = [e.stream for e in self.encoders.values() if e.stream.modality == "text"]
        texts = [self.frame[c.name] for stream in streams for c in stream.columns]
        lengths = [[len(t) if isinstance(t, str) else 0 for t in column] for column in texts]
        return np.sum(lengths, axis=0) if lengths else None

    @property
    def empty(self) -> Bool[np.ndarray, " b"]:
        """True where a row has none of the modalities."""
        return ~np.any(list(self.present.values()), axis=0)

    def read(self, encoder: Encoder, rows: Int[np.ndarray, " k"]) -> list[Inputs]:
        """Rows read and prepared, a few in each part; in any thread."""
        stream = encoder.stream
        step = _DECODED.get(stream.modality, max(len(rows), 1))
        parts: list[Inputs] = []
        for start in range(0, max(len(rows), 1), step):
            some = rows[start : start + step]
            read: Any = cells(self.frame.iloc[some], stream, self.reading, self.positions[some])
            if self.turned(encoder):
                read = viewed(read, self.view)
            try:
                parts.append(encoder.prepare(read))
            except CellError:
                self._name_the_row(encoder, some)
                raise
        if notes := [note for part in parts for note in part.notes]:
            self.noted[stream.name, int(rows[0])] = notes  # a block read twice counts once
        count = torch.cat([part.count for part in parts])
        self.present[stream.name][rows] = (count > 0).numpy()
        return parts

    def turned(self, encoder: Encoder) -> bool:
        """Whether its cells are seen otherwise than they are."""
        return self.view > 0 and encoder.stream.modality == "image"

    def _name_the_row(self, encoder: Encoder, rows: Int[np.ndarray, " k"]) -> None:
        """CellError for the first of these rows that cannot be prepared alone, with its label."""
        for row in rows:
            one = self.frame.iloc[[row]]
            try:
                encoder.prepare(cells(one, encoder.stream, self.reading, self.positions[[row]]))
            except CellError as error:
                raise CellError(f"row {one.index[0]!r}: {error}") from error

    def demand(self, how_many: Demand) -> None:
        """CellError naming the rows that lack all their modalities ("one" is demanded), or any ("all").

        All rows must have been read before.
        """
        lacks = {"nothing": [], "one": [self.empty], "all": [~p for p in self.present.values()]}
        names = [", ".join(self.present)] if how_many == "one" else list(self.present)
        each = zip(names, lacks[how_many], strict=False)
        bad = [cell for name, lacking in each for cell in self._cells(name, lacking)]
        if not bad:
            return
        lines = missing_cells(bad)
        if how_many == "one":
            raise CellError(
                f"every row must have at least one of its modalities, {len(bad)} have none:\n{lines}\n"
                'Leave these rows out, or predict with empty="prior"'
            )
        raise CellError(
            f'with missing="error" every row must have every modality, {len(bad)} cells are missing:\n'
            f'{lines}\nFill them, or choose another way: missing="token", "zero" or "mean"'
        )

    def missing(self, stream: str) -> list[BadCell]:
        """The cells of a stream that were missing when they were last read."""
        return self._cells(stream, ~self.present[stream])

    def _cells(self, name: str, lacking: Bool[np.ndarray, " b"]) -> list[BadCell]:
        return [
            BadCell(self.frame.index[i], int(self.positions[i]), name, "", "missing")
            for i in np.flatnonzero(lacking).tolist()
        ]

    def tell_others(self, known: Collection[BadCell]) -> None:
        """Of processes that train together, what each has found of the rows that it has read; of bad cells those
        that are not `known`."""
        if processes.current() is None:
            return
        missing = {s: np.flatnonzero(~there).tolist() for s, there in self.present.items()}
        noted = [[*at, notes] for at, notes in self.noted.items()]
        bad = [[*astuple(b)[1:]] for b in self.reading.bad if b not in known]
        for their_missing, their_noted, their_bad in processes.told([missing, noted, bad]):
            for stream, rows in their_missing.items():
                self.present[stream][rows] = False
            self.noted |= {(s, row): [(w, n) for w, n in notes] for s, row, notes in their_noted}
            for position, *cell in their_bad:
                row = int(np.flatnonzero(self.positions == position)[0])
                self.reading.note(BadCell(self.frame.index[row], position, *cell))

    def say_remarks(self) -> None:
        """Warn of what encoders noticed while rows were prepared, each row once; then forget it."""
        told: Counter[tuple[str, str]] = Counter()
        for (stream, _), notes in self.noted.items():
            for what, items in notes:
                told[stream, what] += items
        for (stream, what), items in told.items():
            _log.warning("%s: %d %s", stream, items, what)
        self.noted = {}
