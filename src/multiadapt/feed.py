"""From rows of a table to the inputs of a model, the frozen part of it computed once where it fits.

Rows are read in fixed blocks, in order, and stay in order. What is kept is each stream's inputs at
its cut: everything before the first trained tensor. It is kept in memory for as long as a table is used,
and in a store on the disk for later runs.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from multiadapt import processes
from multiadapt.cache import Shelf, Store, keys_of
from multiadapt.data.fingerprints import fingerprints
from multiadapt.data.reading import Reading
from multiadapt.encoders._base import Encoder
from multiadapt.reader import Reader
from multiadapt.stopwatch import NoWatch, Watch
from multiadapt.types import Inputs

__all__ = ["BLOCK", "Feed", "ahead", "blocks", "side_by_side"]

T = TypeVar("T")
R = TypeVar("R")

BLOCK = 64
"""Rows that are read and moved to the cut together, or as many frames of clips."""

_WIDE = 1024  # rows of a table that an in-context encoder looks at together
_AHEAD = max(2, min(8, os.cpu_count() or 1))  # blocks being decoded while one is computed
# A file of what is kept is opened in the time that a tiny network takes for a few rows.
_ROWS_A_FILE = 32

_log = logging.getLogger("multiadapt")


class _Ready(NamedTuple):
    """A block of rows, read and prepared but for those whose frozen part is known to be kept."""

    rows: np.ndarray
    inputs: Inputs
    """Of those that were read."""
    read: np.ndarray
    """(b,) which were."""
    keys: Sequence[bytes | None]
    """What each is kept under; None: it is not."""


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
    positions: np.ndarray | None = None
    """(b,) where each row stands in the caller's table, for reports; None: rows are all of it."""
    store: Store | None = field(default_factory=Store.usual)
    """Where frozen computation is kept for later runs."""
    watch: Watch = field(default_factory=NoWatch)
    """Told where the time goes."""
    view: int = 0
    """Which view of each picture is read."""
    predicts: bool = False
    """Whether rows pass once: what is kept on the disk is looked for where that is quick, and of what is computed
    here only vectors are kept for later runs, which take little room."""

    def __post_init__(self) -> None:
        self._kept: dict[str, Inputs] = dict(self.given)
        places = np.arange(len(self)) if self.positions is None else self.positions
        self.reader = Reader(self.encoders, self.frame, self.reading, places, self.view)
        self._several = False
        self._shelves: dict[str, Shelf | None] = {
            s: self._shelf(s, self.cuts[s]) for s in self.encoders
        }
        for stream, inputs in self.given.items():
            self.reader.present[stream] = (inputs.count > 0).numpy()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the inputs that are kept."""
        return sum(i.nbytes for i in self._kept.values())

    def seen_as(self, view: int, budget: int) -> "Feed":
        """The same rows with each picture seen otherwise; what holds no picture is shared."""
        rest = {s: i for s, i in self._kept.items() if self.encoders[s].stream.modality != "image"}
        return replace(self, given=rest, budget=budget, view=view)

    def keep(self, modality: str | None = None) -> None:
        """Compute the inputs at its cut once, of every stream or those of one modality, and keep them if
        they fit in the budget; while they are put together they need twice their size.

        Every cell is read, so that afterwards `reading` knows all that are unreadable.
        """
        cuts = {s: self.cuts[s] for s in self.encoders}
        processes.alike(len(self), cuts, self.budget, self.store is None)
        left, known = self.budget, set(self.reading.bad)
        self.reader.noted = {}
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
        self._several = processes.current() is not None
        self.reader.tell_others(known)
        self._look_again()

    def _look_again(self) -> None:
        """Find on the disk what other processes have put there."""
        for stream, shelf in self._shelves.items():
            if self._several and shelf is not None and stream not in self._kept:
                self._shelves[stream] = self._shelf(stream, self.cuts[stream])

    def _read_only(self, stream: str, order: Sequence[np.ndarray]) -> None:
        """Read rows for nothing but to find every unreadable cell now."""
        own = processes.every(order)
        if self.cuts[stream] == 0 and self._shelves[stream] is not None:
            deque(self._computed(stream, own), maxlen=0)
            return
        with processes.agreed(), self.watch.part("waiting"), ThreadPoolExecutor(_AHEAD) as pool:
            list(pool.map(lambda rows: len(self._prepared([stream], rows)), own))

    def _order(self, stream: str) -> list[np.ndarray]:
        tabular = self.encoders[stream].stream.modality == "tabular"
        return self.in_order(_WIDE if tabular else _block(self.encoders[stream]))

    def batches(self, order: Sequence[np.ndarray]) -> Generator[dict[str, Inputs]]:
        """Inputs for each array of row positions, on the device, those to come read ahead."""
        streams = self._streams_to_read()
        if not streams:
            yield from (self._on_device({}, rows) for rows in order)
            return
        with closing(ahead(partial(self._prepared, streams), order, self.watch)) as prepared:
            for rows, ready in zip(order, prepared, strict=True):
                yield self._on_device(ready, rows)
        self.flush()
        self._look_again()

    def read(self, rows: np.ndarray) -> dict[str, Inputs]:
        """By stream, what is kept of these rows, or they read and prepared; on the CPU, and in any thread."""
        chosen = torch.from_numpy(rows)
        kept = {s: inputs.select(chosen) for s, inputs in self._kept.items()}
        others = {s: self.reader.read(self.encoders[s], rows) for s in self._streams_to_read()}
        return kept | {s: Inputs.join(parts) for s, parts in others.items()}

    def flush(self) -> None:
        """Write what is to be kept for later runs and has only been computed so far."""
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

        def vectors(order: Sequence[np.ndarray]) -> Iterator[Inputs]:
            for inputs in self._at_cut(stream, order):
                read = _all_read(inputs, keyed=shelf is not None)
                deep = self._through(stream, last, read, shelf)
                own = deep.mean(deep.tensors["pooled"])[deep.count > 0].cpu()
                yield Inputs({"pooled": own}, torch.ones(len(own), dtype=torch.long))

        order = self.in_order() if stream in self._kept else self._order(stream)
        found = [part.tensors["pooled"] for part in processes.dealt(order, vectors)]
        if shelf is not None:
            shelf.flush()
        return torch.cat(found)

    def _streams_to_read(self) -> list[str]:
        return [s for s in self.encoders if s not in self._kept]

    def _at_cut(self, stream: str, order: Sequence[np.ndarray]) -> Iterator[Inputs]:
        if stream in self._kept:
            for rows in order:
                yield self._kept[stream].select(torch.from_numpy(rows))
        else:
            yield from self._computed(stream, order)

    def _blocks(self, stream: str) -> Iterator[Inputs]:
        """One stream's rows, block by block, moved to its cut and back to the CPU."""
        return processes.dealt(self._order(stream), lambda order: self._computed(stream, order))

    def _computed(self, stream: str, order: Sequence[np.ndarray]) -> Iterator[Inputs]:
        with closing(ahead(partial(self._prepared, [stream]), order, self.watch)) as prepared:
            for ready in prepared:
                yield self._moved(stream, ready[stream]).to(torch.device("cpu"))

    def _prepared(self, streams: Sequence[str], rows: np.ndarray) -> dict[str, _Ready]:
        """Reads and prepares rows, files a few at a time; runs in a worker thread."""
        with self.watch.beside("decode"):
            ready = {stream: self._ready(stream, rows) for stream in streams}
            if self.device.type != "cuda":
                return ready
            # What is kept on the disk is put together anew before it goes to the device.
            direct = [stream for stream in ready if self._shelves[stream] is None]
            pinned = {s: ready[s]._replace(inputs=ready[s].inputs.pinned()) for s in direct}
            return ready | pinned

    def _ready(self, stream: str, rows: np.ndarray) -> _Ready:
        encoder, shelf = self.encoders[stream], self._shelves[stream]
        raw = self.cuts[stream] == 0
        prepared = encoder.bytes_by() if raw else encoder.prepared_by()
        if shelf is None or prepared is None:
            parts = self.reader.read(encoder, rows)
            return _all_read(Inputs.join(parts), rows, keyed=shelf is not None)
        column = self.frame[encoder.stream.columns[0].name]
        prepared += f" view {self.view}" if self.reader.turned(encoder) else ""
        known = fingerprints(column.iloc[rows], encoder.stream, prepared, self.reading)
        unread = np.array([f is None or f.key not in shelf for f in known])
        parts = self.reader.read(encoder, rows[unread])
        self.reader.present[stream][rows[~unread]] = True
        inputs = Inputs.join(parts)
        plain = np.repeat([not part.notes for part in parts], [len(part) for part in parts])
        # Bytes that are as many as the files' are sooner decoded than read back.
        least = inputs.count.numpy() * (inputs.nbytes // max(inputs.items, 1) if raw else 0)
        # What was remarked on is to be remarked on again: such a row is never known by its files.
        places = zip(np.flatnonzero(unread), plain, least, strict=True)
        unsure = [
            i
            for i, clean, size in places
            if not (clean and (f := known[i]) and f.holds and f.size >= size)
        ]
        keys = [None if f is None else f.key for f in known]
        among = torch.from_numpy(unread.cumsum()[unsure] - 1)
        own = [None] * len(unsure) if raw else keys_of(inputs.select(among))
        for i, key in zip(unsure, own, strict=True):
            keys[i] = key
        return _Ready(rows, inputs, unread, keys)

    def _shelf(self, stream: str, cut: int, start: int = 0) -> Shelf | None:
        """Where the stream's frozen part from `start` to `cut` is kept on the disk, at cut 0 its bytes, such as
        pixels; None: nowhere."""
        if self.store is None or stream in self.given:
            return None
        encoder = self.encoders[stream]
        if cut == start:
            prepared = encoder.bytes_by() if cut == 0 and not self.predicts else None
            if prepared is None:
                return None
            return self.store.shelf(
                {"source": "pixels", "prepared": prepared, "start": 0, "cut": 0}
            )
        about = encoder.about()
        if about is None:
            return None
        own = {"start": start, "cut": cut, "device": self.device.type, "torch": torch.__version__}
        if not self.predicts:
            return self.store.shelf({**about, **own})
        vectors = cut > encoder.blocks
        return self.store.glance({**about, **own}, len(self) // _ROWS_A_FILE, writes=vectors)

    def _moved(self, stream: str, ready: _Ready) -> Inputs:
        """At the stream's cut, on the device."""
        return self._through(stream, self.cuts[stream], ready, self._shelves[stream])

    def _through(self, stream: str, cut: int, ready: _Ready, shelf: Shelf | None) -> Inputs:
        """At the cut, on the device: read from the shelf, or computed and put there."""

        def move(inputs: Inputs) -> Inputs:
            if cut == inputs.cut:
                return inputs
            with self.watch.part("prefix"):
                return self.encoders[stream].prefix(inputs.to(self.device), cut)

        if shelf is None:
            with self.watch.part("batch"):
                return move(ready.inputs).to(self.device)
        keys = list(ready.keys)

        def fetch(places: list[int]) -> Inputs:
            if not ready.read[places].all():  # what was known to be there turned out to be damaged
                again = self._ready(stream, ready.rows[places])
                for place, key in zip(places, again.keys, strict=True):
                    keys[place] = key  # its files may have changed since they were looked at
                return again.inputs
            among = ready.read.cumsum() - 1
            return ready.inputs.select(torch.from_numpy(among[places]))

        with self.watch.part("disk"):
            return shelf.through(keys, fetch, move).to(self.device)

    def _on_device(self, read: Mapping[str, _Ready], rows: np.ndarray) -> dict[str, Inputs]:
        chosen = torch.from_numpy(rows)
        batch: dict[str, Inputs] = {}
        for stream in self.encoders:
            if stream in self._kept:
                with self.watch.part("batch"):
                    batch[stream] = self._kept[stream].select(chosen).to(self.device)
            else:
                batch[stream] = self._moved(stream, read[stream])
        return batch

    def _what(self, stream: str) -> str:
        """What is kept of it, in the words of messages."""
        return "frozen part" if self.cuts[stream] else "input"

    def _say_unkept(self, stream: str, parts: Sequence[Inputs]) -> None:
        rows = sum(len(p) for p in parts)
        need = sum(p.nbytes for p in parts) / max(rows, 1) * len(self) / 1e9
        decoded = "computed" if self.cuts[stream] else "decoded"
        again = decoded if self._shelves[stream] is None else "read from the disk"
        _log.info(
            "%s: its %s (about %.1f GB for %d rows) does not fit in memory and is %s again in "
            "every epoch, and in every pass of a report; raise `memory` above %.1f GB to keep it",
            stream, self._what(stream), need, len(self), again, need,
        )  # fmt: skip

    def _say_stored(self, stream: str, shelf: Shelf) -> None:
        counts = torch.tensor([shelf.hits, shelf.beyond, shelf.refused])
        shelf.hits, shelf.beyond, shelf.refused = processes.summed(counts).tolist()
        what = self._what(stream)
        if shelf.hits:
            _log.info(
                "%s: the %s of %d of %d rows was read from %s",
                stream, what, shelf.hits, len(self), shelf.folder,
            )  # fmt: skip
        if shelf.beyond:
            _log.info(
                "%s: the frozen part of %d of %d rows has numbers beyond half precision and is not kept for "
                "later runs; MULTIADAPT_CACHE_DTYPE=float32 keeps it",
                stream, shelf.beyond, len(self),
            )  # fmt: skip
        if shelf.refused:
            _log.info(
                "%s: the %s of %d of %d rows is not kept for later runs, for the cache is full; "
                "raise MULTIADAPT_CACHE_GB, or empty it with `multiadapt cache clear`",
                stream, what, shelf.refused, len(self),
            )  # fmt: skip


def _all_read(inputs: Inputs, rows: np.ndarray | None = None, *, keyed: bool) -> _Ready:
    """A block of which every row was read; `keyed` where its rows are kept, by what they are now."""
    rows = np.arange(len(inputs)) if rows is None else rows
    keys = keys_of(inputs) if keyed else [None] * len(inputs)
    return _Ready(rows, inputs, np.ones(len(inputs), dtype=bool), keys)


def ahead(work: Callable[[T], R], items: Iterable[T], watch: Watch | None = None) -> Generator[R]:
    """What `work` makes of each item, in order, those to come in threads."""
    watch = watch or NoWatch()
    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            if len(waiting) == _AHEAD:
                with watch.part("waiting"):
                    found = waiting.popleft().result()
                waiting.append(pool.submit(work, item))
                yield found
            else:
                waiting.append(pool.submit(work, item))
        while waiting:
            with watch.part("waiting"):
                found = waiting.popleft().result()
            yield found


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
