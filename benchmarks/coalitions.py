"""Scores of a comparison's methods with every set of modalities taken away, and what holes then cost.

A fit is scored once for each set; whatever mask is drawn is answered by picking rows from those scores.
Finished runs are kept; a method may have fewer runs than another, and its rows say how many.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import record
from comparison import footing, key_of, options_of
from sklearn.base import clone

from multiadapt.data.digest import table_digest
from multiadapt.data.masks import BOTH, draw
from multiadapt.reports._cells import Cell, Store, digest
from multiadapt.reports._coalitions import Coalitions, Sample
from multiadapt.reports.compare import Design, _described, _Run
from multiadapt.reports.evidence import OverRows, Scored
from multiadapt.reports.meter import Meter

__all__ = ["Holes", "Runs"]

RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
MASK_SEED = 0
Removed = frozenset[str]


@dataclass(frozen=True)
class Holes:
    """One fit: its scores of the test rows by what was removed from all of them."""

    cells: Mapping[Removed, Cell]

    @property
    def streams(self) -> list[str]:
        return self.cells[frozenset()].record["streams"]

    def under(self, modality: str, rate: float) -> np.ndarray:
        """Scores of the rows, each without what the mask takes from it; masks are the same in all runs."""
        complete = self.cells[frozenset()].scores
        there = pd.DataFrame(dict.fromkeys(self.streams, np.ones(len(complete), bool)))
        removed = draw(there, rate, modality, MASK_SEED).removed.to_numpy(bool)
        found = np.empty_like(complete)
        for pattern in np.unique(removed, axis=0):
            rows = (removed == pattern).all(1)
            gone = frozenset(np.array(self.streams)[pattern].tolist())
            found[rows] = self.cells[gone].scores[rows]
        return found


class Runs:
    """Methods fitted on the same runs of one table."""

    def __init__(
        self, frame: pd.DataFrame, design: Design, runs: Sequence[_Run], folder: Path
    ) -> None:
        self.frame, self.design, self.runs = frame, design, runs
        self.store = Store(folder)
        self.found: dict[str, dict[str, Holes]] = {}

    @cached_property
    def _table(self) -> str:
        return table_digest(self.frame)

    def add(self, name: str, estimator: Any, run: _Run, *, fit: bool) -> None:
        """One run of one method: read, or fitted if asked for."""
        key = key_of(name, options_of(estimator), run, self.design, self._table)
        holes = self._read(key) or (self._fit(name, estimator, run, key) if fit else None)
        if holes is not None:
            self.found.setdefault(name, {})[run.name] = holes

    def rows(self, base: str) -> list[dict[str, Any]]:
        """A row for each method, modality and rate, tested against `base` over the runs both have."""
        return [line for name in self.found for line in self._curves(name, base)]

    def _read(self, key: str) -> Holes | None:
        whole = self.store.read(key)
        if whole is None:
            return None
        cells = {frozenset[str](): whole}
        for gone in _sets(whole.record["streams"]):
            cell = self.store.read(_key(key, gone))
            if cell is None:
                return None
            cells[gone] = cell
        return Holes(cells)

    def _fit(self, name: str, estimator: Any, run: _Run, key: str) -> Holes:
        """The scores with nothing removed are kept last: where they are, all are."""
        model: Any = clone(estimator)
        model.set_params(seed=run.seed)
        notes = {"load": record.load(), "commit": record.commit()}
        with Meter(model.device) as meter:
            model.fit(self.frame.iloc[run.train], **self.design.options())
        fitted = model.fitted_
        if fitted.info["history"]["stopped"] == "interrupt":
            raise KeyboardInterrupt
        common = _described(fitted) | notes
        common |= {"streams": list(fitted.model.streams), "method": name, "run": run.name}
        common |= {"seconds": meter.seconds, "peak_mb": meter.peak_mb}
        sample = Sample(self.frame.iloc[run.test], self.design.root)
        passes = Coalitions(fitted, sample, fitted.schema)
        passes.without(frozenset())  # once for nothing: the first pass loads libraries and files
        cells: dict[Removed, Cell] = {}
        for gone in (*_sets(common["streams"]), frozenset[str]()):
            cells[gone] = Cell(common, passes.without(gone).scores)
            self.store.write(key if not gone else _key(key, gone), cells[gone])
        value = self._scored([Holes(cells)], [run], BOTH, 0.0).of(cells[frozenset()].target.metric)
        print(
            f"{name} {run.name}: {value[0]:.4f}, {meter.seconds:.0f} s, {common['epochs']} epochs",
            flush=True,
        )
        return Holes(cells)

    def _scored(
        self, holes: Sequence[Holes], runs: Sequence[_Run], modality: str, rate: float
    ) -> Scored:
        tests = [self.frame.iloc[run.test] for run in runs]
        return Scored(
            [h.cells[frozenset()].target for h in holes],
            [h.under(modality, rate) for h in holes],
            [self.design.labels(t) for t in tests],
            [self.design.weights(t) for t in tests],
        )

    def _curves(self, name: str, base: str) -> Iterator[dict[str, Any]]:
        own = self.found[name]
        streams = next(iter(own.values())).streams
        modalities = [*streams, BOTH] if len(streams) > 1 else []
        for modality in modalities:
            points = [self._point(name, base, modality, rate) for rate in RATES]
            values = [p["value"] for p in points]
            area = float(np.trapezoid(values, RATES))
            yield from ({**p, "area": area} for p in points)

    def _point(self, name: str, base: str, modality: str, rate: float) -> dict[str, Any]:
        own, other = self.found[name], self.found.get(base, {})
        runs = [r for r in self.runs if r.name in own]
        pairs = [r for r in runs if r.name in other and _comparable(own, other, modality)]
        evidence = OverRows(self.design.seed)
        cells = [own[r.name].cells[frozenset()] for r in runs]
        metric = cells[0].target.metric
        scored = self._scored([own[r.name] for r in runs], runs, modality, rate)
        mean = evidence.mean(scored, metric)
        line: dict[str, Any] = {
            "method": name, "modality": modality, "rate": rate, "metric": metric,
            "value": mean.difference, "low": mean.low, "high": mean.high,
            "log_loss": float(scored.of("log_loss").mean()), "against": base,
        }  # fmt: skip
        if name != base and pairs:
            two = (
                self._scored([f[r.name] for r in pairs], pairs, modality, rate)
                for f in (own, other)
            )
            gap = evidence.difference(*two, metric)
            line |= {"difference": gap.difference, "difference_low": gap.low}
            line |= {"difference_high": gap.high, "p": gap.p}
        return line | footing(cells, len(pairs))


def _comparable(own: Mapping[str, Holes], other: Mapping[str, Holes], modality: str) -> bool:
    """Whether a mask takes the same from both; one of both modalities depends on which there are."""
    theirs = _any(other).streams
    return modality in theirs if modality != BOTH else set(_any(own).streams) == set(theirs)


def _any(found: Mapping[str, Holes]) -> Holes:
    return next(iter(found.values()))


def _sets(streams: Sequence[str]) -> list[Removed]:
    """Every set of modalities but none and all."""
    return [frozenset(s) for k in range(1, len(streams)) for s in combinations(streams, k)]


def _key(key: str, gone: Removed) -> str:
    return digest(f"{key}-without", "", sorted(gone))
