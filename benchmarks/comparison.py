"""Comparisons whose training rows differ from seed to seed, outside baselines among them.

It stands on the parts of `multiadapt.reports.compare`: the same fits, the same intervals and tests.
Runs are kept one by one; a method may have fewer runs than another, and its row says how many.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import record

from multiadapt.reports._cells import Cell, Store, digest
from multiadapt.reports.compare import Design, _costs, _evidence, _line, _Run, _Work
from multiadapt.reports.evidence import Scored

__all__ = ["Comparison", "drawn", "footing", "key_of", "options_of"]


def drawn(
    split: np.ndarray, seeds: int, training_rows: int, validation_rows: int | None = None
) -> list[_Run]:
    """For each seed so many of the rows marked train, so many (or all) marked val, all marked test."""
    train, val, test = (np.flatnonzero(split == part) for part in ("train", "val", "test"))
    found: list[_Run] = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rows = [rng.choice(train, training_rows, replace=False)]
        rows.append(rng.choice(val, validation_rows, replace=False) if validation_rows else val)
        found.append(_Run(f"seed{seed}", seed, np.sort(np.concatenate(rows)), test))
    return found


def options_of(estimator: Any) -> dict[str, Any]:
    """What a fit's outcome depends on beside its rows and seed."""
    options = estimator.get_params(deep=False)
    return {k: v for k, v in options.items() if k not in ("seed", "verbose", "memory")}


def key_of(name: str, options: Mapping[str, Any], run: _Run, design: Design, table: str) -> str:
    """The name under which one run of one method is kept."""
    places = [p.tolist() for p in (run.train, run.test)]
    return digest(name, run.name, dict(options), run.seed, places, design.options(), table)


def footing(cells: Sequence[Cell], pairs: int) -> dict[str, Any]:
    """What the runs of a method cost, how many are compared, and where they come from."""
    return {
        **_costs(cells),
        "pairs": pairs,
        "epochs": sum(c.record["epochs"] for c in cells) / len(cells),
        "load": round(sum(c.record["load"] for c in cells) / len(cells), 1),
        "commit": " ".join(sorted({c.record["commit"] for c in cells})),
    }


class Comparison:
    """Finished runs of one table, on disk."""

    def __init__(
        self, frame: pd.DataFrame, design: Design, runs: Sequence[_Run], folder: Path
    ) -> None:
        self.frame, self.design, self.runs = frame, design, runs
        self.store = Store(folder)
        self.work = _Work(frame, design, self.store, print)
        self.table = self.work.table
        self.cells: dict[str, dict[str, Cell]] = {}

    def estimator(self, name: str, estimator: Any, run: _Run, *, fit: bool) -> None:
        """One run of a method of multiadapt: read, or fitted if asked for."""
        make = lambda: self.work._fit(name, estimator, run)  # noqa: E731
        self.add(name, options_of(estimator), run, make, fit=fit)

    def add(
        self,
        name: str,
        options: Mapping[str, Any],
        run: _Run,
        make: Callable[[], Cell],
        *,
        fit: bool,
    ) -> None:
        """One run of anything that gives scores of the test rows."""
        key = key_of(name, options, run, self.design, self.table)
        cell = self.store.read(key)
        if cell is None and fit:
            notes = {"load": record.load(), "commit": record.commit()}
            made = make()
            cell = Cell({**made.record, **notes}, made.scores)
            self.store.write(key, cell)
            self._say(name, run, cell)
        if cell is not None:
            self.cells.setdefault(name, {})[run.name] = cell

    def rows(self, bases: Sequence[str], metric: str) -> list[dict[str, Any]]:
        """A row for each method, tested against the better of `bases`, over the runs that both have."""
        means = {
            b: float(self._scored(b, self.runs).of(metric).mean()) for b in bases if b in self.cells
        }
        if not means:
            return []
        base = max(means, key=lambda name: means[name])
        return [self._row(name, base, metric) for name in self.cells if self._common(name, base)]

    def _row(self, name: str, base: str, metric: str) -> dict[str, Any]:
        """Metrics over all runs of the method, the difference over those that the base has too."""
        runs, pairs = self._common(name, name), self._common(name, base)
        cells = [self.cells[name][r.name] for r in runs]
        one, other = self._scored(name, pairs), self._scored(base, pairs)
        line = _line(one, other, metric, _evidence(self.design, pairs), same=name == base)
        if len(runs) > len(pairs):
            whole = self._scored(name, runs)
            alone = _line(whole, whole, metric, _evidence(self.design, runs), same=True)
            line = alone | {k: v for k, v in line.items() if k == "p" or k.startswith("difference")}
        return {"method": name, "against": base, **line} | footing(cells, len(pairs))

    def _scored(self, name: str, runs: Sequence[_Run]) -> Scored:
        cells = [self.cells[name][r.name] for r in runs if r.name in self.cells[name]]
        tests = [self.frame.iloc[r.test] for r in runs if r.name in self.cells[name]]
        labels, weights = map(self.design.labels, tests), map(self.design.weights, tests)
        return Scored(
            [c.target for c in cells], [c.scores for c in cells], list(labels), list(weights)
        )

    def _common(self, name: str, base: str) -> list[_Run]:
        own, other = self.cells[name], self.cells[base]
        return [r for r in self.runs if r.name in own and r.name in other]

    def _say(self, name: str, run: _Run, cell: Cell) -> None:
        test = self.frame.iloc[run.test]
        weights = self.design.weights(test)
        values = cell.target.values(cell.scores, self.design.labels(test), weights)
        value = values[cell.target.metric]
        print(f"{name} {run.name}: {value:.4f}, {cell.record['seconds']:.0f} s", flush=True)
