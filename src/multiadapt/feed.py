"""From rows of a table to the inputs of a model, the frozen part of it computed once where it fits.

Rows are read in fixed blocks, in order, and stay in order. What is kept is each stream's inputs at
its cut: everything before the first trained tensor. It is kept in memory for as long as a table is used,
and in a store on the disk for later runs.
"""

import logging
import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from multiadapt.cache import Shelf, Store, keys_of
from multiadapt.data.bad_cells import BadCell, missing_cells
from multiadapt.data.batches import cells
from multiadapt.data.reading import Reading
from multiadapt.encoders._base import Encoder
from multiadapt.errors import CellError
from multiadapt.missing._base import Demand
from multiadapt.types import Inputs

__all__ = ["BLOCK", "Feed", "blocks", "side_by_side"]

BLOCK = 64
"""Rows that are read and moved to the cut together, or as many frames of clips."""

_WIDE = 1024  # rows of a table that an in-context encoder looks at together
_AHEAD = max(2, min(8, os.cpu_count() or 1))  # blocks being decoded while one is computed
# Rows whose pictures or frames are in memory at their full size at once, in each worker.
_DECODED = {"image": 4, "video": 1}

_log = logging.getLogger("multiadapt")


class _Ready(NamedTuple):
    """Rows that are read and prepared, and the keys that they are kept under, where they are."""

    inputs: Inputs
    keys: list[bytes | None] | None


@dataclass
class Feed:
    """The rows of one table for one set of encoders."""

    encoders: Mapping[str, Encoder]
    frame: pd.DataFrame
    reading: Reading
    cuts: Mapping[str, int]
    device: torch.device
    given: Mapping[str, Inputs]
    """Inputs that an encoder's `learn` returned for these rows, in place of prepared ones."""
    budget: int = 0
    """Bytes of inputs that may be kept in memory."""
    present: dict[str, np.ndarray] = field(init=False)
    """By stream, (b,) False where a row's modality was missing when it was last read."""
    positions: np.ndarray | None = None
    """(b,) where each row stands in the caller's table, for reports; None: rows are all of it."""
    store: Store | None = field(default_factory=Store.usual)
    """Where frozen computation is kept for later runs."""

    def __post_init__(self) -> None:
        self._kept: dict[str, Inputs] = dict(self.given)
        self._places = np.arange(len(self)) if self.positions is None else self.positions
        self._noted: dict[tuple[str, int], list[tuple[str, int]]] = {}
        self._shelves: dict[str, Shelf | None] = {
            s: self._shelf(s, self.cuts[s]) for s in self.encoders
        }
        self.present = {s: np.ones(len(self), dtype=bool) for s in self.encoders}
        for stream, inputs in self.given.items():
            self.present[stream] = (inputs.count > 0).numpy()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the inputs that are kept."""
        return sum(i.nbytes for i in self._kept.values())

    def keep(self, modality: str | None = None) -> None:
        """Compute the inputs at its cut once, of every stream or those of one modality, and keep them if
        they fit in the budget; while they are put together they need twice their size.

        Every cell is read, so that afterwards `reading` knows all that are unreadable.
        """
        left = self.budget
        self._noted = {}
        for stream in self._streams_to_read():
            if modality not in (None, self.encoders[stream].stream.modality):
                continue
            parts: list[Inputs] = []
            for part in self._blocks(stream):
                parts.append(part)
                if _joined_bytes(parts) > left:
                    break
            if _joined_bytes(parts) <= left:
                self._kept[stream] = Inputs.join(parts)
                left -= self._kept[stream].nbytes
            else:
                self._say_unkept(stream, parts)
                self._read_only(stream, self._order(stream)[len(parts) :])
            if (shelf := self._shelves[stream]) is not None:
                shelf.flush()
                self._say_stored(stream, shelf)

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

    def _cells(self, name: str, lacking: np.ndarray) -> list[BadCell]:
        return [
            BadCell(self.frame.index[i], int(self._places[i]), name, "", "missing")
            for i in np.flatnonzero(lacking).tolist()
        ]

    @property
    def empty(self) -> np.ndarray:
        """(b,) True where a row has none of the modalities."""
        return ~np.any(list(self.present.values()), axis=0)

    def say_remarks(self) -> None:
        """Warn of what encoders noticed while rows were prepared, each row once; then forget it."""
        told: Counter[tuple[str, str]] = Counter()
        for (stream, _), notes in self._noted.items():
            for what, items in notes:
                told[stream, what] += items
        for (stream, what), items in told.items():
            _log.warning("%s: %d %s", stream, items, what)
        self._noted = {}

    def _read_only(self, stream: str, order: Sequence[np.ndarray]) -> None:
        """Read rows for nothing but to find every unreadable cell now."""
        with ThreadPoolExecutor(_AHEAD) as pool:
            list(pool.map(lambda rows: len(self._prepared([stream], rows)), order))

    def _order(self, stream: str) -> list[np.ndarray]:
        tabular = self.encoders[stream].stream.modality == "tabular"
        return self.in_order(_WIDE if tabular else _block(self.encoders[stream]))

    def batches(self, order: Sequence[np.ndarray]) -> Generator[dict[str, Inputs]]:
        """Inputs for each array of row positions, on the device, those to come read ahead."""
        streams = self._streams_to_read()
        if not streams:
            yield from (self._on_device({}, rows) for rows in order)
            return
        with ThreadPoolExecutor(_AHEAD) as pool:
            waiting: list[Future[dict[str, _Ready]]] = []
            for i, rows in enumerate(order):
                while len(waiting) < _AHEAD and i + len(waiting) < len(order):
                    waiting.append(pool.submit(self._prepared, streams, order[i + len(waiting)]))
                ready = waiting.pop(0).result()
                yield self._on_device(ready, rows)
        for shelf in self._shelves.values():
            if shelf is not None:
                shelf.flush()

    @property
    def block(self) -> int:
        """Rows that are looked at together where none is trained on."""
        return min(map(_block, self.encoders.values()), default=BLOCK)

    def in_order(self, size: int | None = None) -> list[np.ndarray]:
        """All rows in blocks, by default of `block`, in the table's order."""
        return blocks(len(self), size or self.block)

    def pooled(self, stream: str) -> Float[Tensor, "b d"]:
        """The frozen encoder's vector of every row that has one, before any adapter."""
        last = self.encoders[stream].blocks + 1
        shelf = self._shelf(stream, last, start=self.cuts[stream])
        found: list[Tensor] = []
        for inputs in self._stream_in_order(stream):
            keys = None if shelf is None else keys_of(inputs)
            deep = self._through(stream, last, _Ready(inputs, keys), shelf)
            vectors = deep.mean(deep.tensors["pooled"])
            found.append(vectors[deep.count > 0].cpu())
        if shelf is not None:
            shelf.flush()
        return torch.cat(found)

    def _streams_to_read(self) -> list[str]:
        return [s for s in self.encoders if s not in self._kept]

    def _stream_in_order(self, stream: str) -> Iterator[Inputs]:
        if stream in self._kept:
            for rows in self.in_order():
                yield self._kept[stream].select(torch.from_numpy(rows))
        else:
            yield from self._blocks(stream)

    def _blocks(self, stream: str) -> Iterator[Inputs]:
        """One stream's rows, block by block, moved to its cut and back to the CPU."""
        order = self._order(stream)
        with ThreadPoolExecutor(_AHEAD) as pool:
            waiting = [pool.submit(self._prepared, [stream], rows) for rows in order[:_AHEAD]]
            for i in range(len(order)):
                ready = waiting.pop(0).result()[stream]
                if i + _AHEAD < len(order):
                    waiting.append(pool.submit(self._prepared, [stream], order[i + _AHEAD]))
                yield self._moved(stream, ready).to(torch.device("cpu"))

    def _prepared(self, streams: Sequence[str], rows: np.ndarray) -> dict[str, _Ready]:
        """Reads and prepares rows, files a few at a time; runs in a worker thread."""
        found: dict[str, _Ready] = {}
        for stream in streams:
            inputs = self._read(self.encoders[stream], rows)
            kept = self._shelves[stream] is not None
            found[stream] = _Ready(inputs, keys_of(inputs) if kept else None)
        return found

    def _shelf(self, stream: str, cut: int, start: int = 0) -> Shelf | None:
        """Where the stream's frozen part from `start` to `cut` is kept on the disk; None: nowhere."""
        if self.store is None or cut == start or stream in self.given:
            return None
        about = self.encoders[stream].about()
        if about is None:
            return None
        own = {"start": start, "cut": cut, "device": self.device.type, "torch": torch.__version__}
        return self.store.shelf({**about, **own})

    def _moved(self, stream: str, ready: _Ready) -> Inputs:
        """At the stream's cut, on the device."""
        return self._through(stream, self.cuts[stream], ready, self._shelves[stream])

    def _through(self, stream: str, cut: int, ready: _Ready, shelf: Shelf | None) -> Inputs:
        """At the cut, on the device: read from the shelf, or computed and put there."""

        def move(inputs: Inputs) -> Inputs:
            return self.encoders[stream].prefix(inputs.to(self.device), cut)

        if shelf is None or ready.keys is None:
            return move(ready.inputs)
        return shelf.through(ready.inputs, ready.keys, move).to(self.device)

    def _read(self, encoder: Encoder, rows: np.ndarray) -> Inputs:
        step = _DECODED.get(encoder.stream.modality, max(len(rows), 1))
        parts: list[Inputs] = []
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            read = cells(self.frame.iloc[some], encoder.stream, self.reading, self._places[some])
            try:
                parts.append(encoder.prepare(read))
            except CellError:
                self._name_the_row(encoder, some)
                raise
        inputs = Inputs.join(parts) if len(parts) > 1 else parts[0]
        if notes := [note for part in parts for note in part.notes]:
            self._noted[encoder.stream.name, int(rows[0])] = notes  # a block read twice counts once
        self.present[encoder.stream.name][rows] = (inputs.count > 0).numpy()
        return inputs

    def _name_the_row(self, encoder: Encoder, rows: np.ndarray) -> None:
        """CellError for the first of these rows that cannot be prepared alone, with its label."""
        for row in rows:
            one = self.frame.iloc[[row]]
            try:
                encoder.prepare(cells(one, encoder.stream, self.reading, self._places[[row]]))
            except CellError as error:
                raise CellError(f"row {one.index[0]!r}: {error}") from error

    def _on_device(self, read: Mapping[str, _Ready], rows: np.ndarray) -> dict[str, Inputs]:
        chosen = torch.from_numpy(rows)
        batch: dict[str, Inputs] = {}
        for stream in self.encoders:
            if stream in self._kept:
                batch[stream] = self._kept[stream].select(chosen).to(self.device)
            else:
                batch[stream] = self._moved(stream, read[stream])
        return batch

    def _say_unkept(self, stream: str, parts: Sequence[Inputs]) -> None:
        rows = sum(len(p) for p in parts)
        need = sum(p.nbytes for p in parts) / max(rows, 1) * len(self) / 1e9
        again = "computed" if self._shelves[stream] is None else "read from the disk"
        _log.info(
            "%s: its frozen part (about %.1f GB for %d rows) does not fit in memory and is %s again in "
            "every epoch, and in every pass of a report; raise `memory` above %.1f GB to keep it",
            stream, need, len(self), again, need,
        )  # fmt: skip

    def _say_stored(self, stream: str, shelf: Shelf) -> None:
        if shelf.hits:
            _log.info(
                "%s: the frozen part of %d of %d rows was read from %s",
                stream, shelf.hits, len(self), shelf.folder,
            )  # fmt: skip
        if shelf.refused:
            _log.info(
                "%s: the frozen part of %d of %d rows is not kept for later runs, for the cache is full; "
                "raise MULTIADAPT_CACHE_GB, or empty it with `multiadapt cache clear`",
                stream, shelf.refused, len(self),
            )  # fmt: skip


def _block(encoder: Encoder) -> int:
    sampling = encoder.stream.sampling
    return max(1, BLOCK // (sampling.frames if sampling else 1))


def blocks(rows: int, size: int = BLOCK) -> list[np.ndarray]:
    """Positions of so many rows, in order, a block at a time."""
    return [np.arange(i, min(i + size, rows)) for i in range(0, rows, size)]


def side_by_side(feeds: Sequence[Feed]) -> Iterator[dict[str, Inputs]]:
    """All rows in blocks, in the table's order, of feeds that have the same rows."""
    order = feeds[0].in_order(min(feed.block for feed in feeds))
    for parts in zip(*(feed.batches(order) for feed in feeds), strict=True):
        yield {stream: inputs for part in parts for stream, inputs in part.items()}


def _joined_bytes(parts: Sequence[Inputs]) -> int:
    """Bytes of all parts together, each item as long as the longest."""
    items = sum(p.items for p in parts)
    return items * max((-(-p.nbytes // p.items) for p in parts if p.items), default=0)
