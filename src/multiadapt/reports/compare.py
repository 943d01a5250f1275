"""Several methods on the same rows: metrics with intervals, paired tests, and what each one costs."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier

from multiadapt.data.digest import table_digest
from multiadapt.data.splits import folds
from multiadapt.data.tables import did_you_mean
from multiadapt.errors import SchemaError, SpecError
from multiadapt.fitted import Fitted
from multiadapt.reports._cells import Cell, Store, digest
from multiadapt.reports.evidence import Evidence, OverFolds, OverRows, Scored
from multiadapt.reports.meter import Meter
from multiadapt.tasks._metrics import LOWER

__all__ = ["Compared", "Design", "compare"]


@dataclass(frozen=True)
class Design:
    """On which rows methods are compared."""

    label: str | tuple[str, ...]
    """A column, or several columns of zeros and ones."""
    folds: int | None = None
    """Number of folds; every row is tested once."""
    split_column: str | None = None
    """In place of folds: a column that marks rows train, val (if any) and test."""
    seeds: int = 1
    """With a split column: how many seeds each method runs with."""
    groups: str | None = None
    sample_weight: str | None = None
    root: Path | None = None
    """Folder that file paths are relative to."""
    seed: int = 0
    """The first seed; run i has seed + i."""

    def __post_init__(self) -> None:
        if (self.folds is None) == (self.split_column is None):
            raise SpecError("a comparison takes either folds or a split column, and not both")
        if self.folds is not None and self.seeds != 1:
            raise SpecError(
                f"seeds go with a split column, got seeds={self.seeds} and folds={self.folds}"
            )
        if self.seeds < 1:
            raise SpecError(f"seeds must be at least 1, got {self.seeds}")

    def check(self, frame: pd.DataFrame) -> None:
        named = [*self._labels(), self.split_column, self.groups, self.sample_weight]
        absent = [c for c in named if c is not None and c not in frame]
        if absent:
            meant = did_you_mean(absent, [c for c in frame if c not in named])
            raise SchemaError(
                f"columns {absent} are named but absent; the table has {list(frame)}{meant}"
            )

    def labels(self, frame: pd.DataFrame) -> pd.Series | pd.DataFrame:
        return frame[self.label if isinstance(self.label, str) else list(self.label)]

    def weights(self, frame: pd.DataFrame) -> np.ndarray:
        if self.sample_weight is None:
            return np.ones(len(frame))
        return frame[self.sample_weight].to_numpy(np.float64)

    def options(self) -> dict[str, Any]:
        """What `fit` is told beside the rows."""
        return {
            "label": self.label if isinstance(self.label, str) else list(self.label),
            "split_column": self.split_column,
            "groups": self.groups,
            "sample_weight": self.sample_weight,
            "root": self.root,
        }

    def _labels(self) -> tuple[str, ...]:
        return (self.label,) if isinstance(self.label, str) else self.label


@dataclass(frozen=True)
class Compared:
    """The result of `compare`."""

    table: pd.DataFrame
    """A row for each method: every metric with `_low` and `_high`; `difference` of `metric` from the
    method `against`, with its interval and p-value; trainable, seconds (of a fit), peak_mb, runs."""
    runs: pd.DataFrame
    """A row for each method and run: seed, rows, costs and metrics."""
    metric: str
    against: str

    @property
    def lower_is_better(self) -> bool:
        return self.metric in LOWER

    def save(self, folder: str | Path) -> None:
        """Write `compare.csv` and `runs.csv`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.table.to_csv(folder / "compare.csv")
        self.runs.to_csv(folder / "runs.csv", index=False)

    def plot(self, path: str | Path) -> None:
        """Draw it. ExtraError: matplotlib is not installed."""
        from multiadapt.reports.plot import draw

        draw(self, Path(path))


def compare(
    estimators: Mapping[str, Any],
    frame: pd.DataFrame,
    design: Design,
    *,
    folder: str | Path | None = None,
    against: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Compared:
    """Fit and score every estimator on the same splits.

    Args:
        estimators: unfitted MultimodalClassifiers, or MultimodalRegressors, by the name to show.
        frame: the table; it is not written to.
        design: on which rows.
        folder: keeps each finished run under `cells/`; a later call with it does what is missing.
        against: the method that others are tested against, or "best"; None: the first.
        tell: is given a line after each run.

    Raises:
        KeyboardInterrupt: also where training was interrupted; finished runs are kept.
    """
    if not estimators:
        raise SpecError("a comparison needs at least one method, got none")
    if against not in (None, "best", *estimators):
        raise SpecError(f"against must be best or one of {list(estimators)}, got {against!r}")
    design.check(frame)
    runs = _runs(design, frame, classes=all(map(is_classifier, estimators.values())))
    work = _Work(frame, design, Store(None if folder is None else Path(folder) / "cells"), tell)
    cells = work.all(estimators, runs)
    return _compared(cells, runs, frame, design, against)


@dataclass(frozen=True)
class _Run:
    name: str
    seed: int
    train: np.ndarray
    """Positions of training rows, and of validation rows where a split column marks them."""
    test: np.ndarray


def _runs(design: Design, frame: pd.DataFrame, *, classes: bool) -> list[_Run]:
    if design.folds is not None:
        labels = design.labels(frame)
        strata = (
            labels.astype(str).to_numpy() if classes and isinstance(labels, pd.Series) else None
        )
        groups = None if design.groups is None else frame[design.groups].to_numpy()
        split = folds(len(frame), design.folds, seed=design.seed, strata=strata, groups=groups)
        return [_Run(f"fold{i}", design.seed + i, *parts) for i, parts in enumerate(split)]
    marks = frame[design.split_column].astype(str).to_numpy()
    test = np.flatnonzero(marks == "test")
    train = np.flatnonzero(np.isin(marks, ["train", "val", "validation"]))
    if len(test) == 0:
        raise SchemaError(
            f"split column {design.split_column!r} must mark the rows to test on 'test'; it holds "
            f"{sorted(set(marks))[:10]}"
        )
    return [
        _Run(f"seed{design.seed + i}", design.seed + i, train, test) for i in range(design.seeds)
    ]


class _Work:
    """Fits and scores what is not on disk yet."""

    def __init__(
        self, frame: pd.DataFrame, design: Design, store: Store, tell: Callable[[str], None]
    ) -> None:
        self.frame, self.design, self.store, self.tell = frame, design, store, tell
        self.table = table_digest(frame)

    def all(self, estimators: Mapping[str, Any], runs: Sequence[_Run]) -> dict[str, list[Cell]]:
        """Run by run, so that what an interruption leaves can be compared."""
        cells: dict[str, list[Cell]] = {name: [] for name in estimators}
        done, of = 0, len(estimators) * len(runs)
        for run in runs:
            for name, estimator in estimators.items():
                done += 1
                cells[name].append(self._cell(name, estimator, run, f"[{done}/{of}]"))
        return cells

    def _cell(self, name: str, estimator: Any, run: _Run, at: str) -> Cell:
        options = {k: v for k, v in estimator.get_params(deep=False).items() if k not in _SPARED}
        places = [p.tolist() for p in (run.train, run.test)]
        key = digest(name, run.name, options, run.seed, places, self.design.options(), self.table)
        cell = self.store.read(key)
        found = cell is not None
        if cell is None:
            cell = self._fit(name, estimator, run)
            self.store.write(key, cell)
        cost = "found in the folder" if found else f"{cell.record['seconds']:.1f} s"
        self.tell(f"{at} {name} {run.name}: {self._value(cell, run)}, {cost}")
        return cell

    def _value(self, cell: Cell, run: _Run) -> str:
        test, target = self.frame.iloc[run.test], cell.target
        values = target.values(cell.scores, self.design.labels(test), self.design.weights(test))
        return f"{target.metric} {values[target.metric]:.4f}"

    def _fit(self, name: str, estimator: Any, run: _Run) -> Cell:
        model: Any = clone(estimator)
        model.set_params(seed=run.seed)
        with Meter(model.device) as meter:
            model.fit(self.frame.iloc[run.train], **self.design.options())
        fitted: Fitted = model.fitted_
        if fitted.info["history"]["stopped"] == "interrupt":
            raise KeyboardInterrupt  # half a training is no result
        started = time.perf_counter()
        scores = fitted.scores(self.frame.iloc[run.test], self.design.root, model.on_error)
        record = {
            "method": name,
            "run": run.name,
            "seed": run.seed,
            "train_rows": len(run.train),
            "test_rows": len(run.test),
            "seconds": meter.seconds,
            "scoring_seconds": time.perf_counter() - started,
            "peak_mb": meter.peak_mb,
        }
        return Cell(record | _described(fitted), scores)


def _described(fitted: Fitted) -> dict[str, Any]:
    """What was fitted: enough to read its scores again, and to know later what they are of."""
    return {
        "task": fitted.task.to_dict(),
        "target": fitted.target.state(),
        "spec": fitted.method.to_dict(),
        "training": fitted.training.to_dict(),
        "encoders": {s: spec.to_dict() for s, spec in fitted.specs.items()},
        "epochs": len(fitted.info["history"]["epochs"]),
        "trainable": sum(p.trainable for p in fitted.model.parts()),
        "versions": fitted.info["versions"],
    }


_SPARED = ("seed", "verbose", "memory")
"""Options that change no score; a run has its own seed."""

_COSTS = ("trainable", "seconds", "peak_mb")


def _compared(
    cells: Mapping[str, Sequence[Cell]],
    runs: Sequence[_Run],
    frame: pd.DataFrame,
    design: Design,
    against: str | None,
) -> Compared:
    tests = [frame.iloc[run.test] for run in runs]
    labels, weights = [design.labels(t) for t in tests], [design.weights(t) for t in tests]
    scored = {
        name: Scored([c.target for c in own], [c.scores for c in own], labels, weights)
        for name, own in cells.items()
    }
    metric = next(iter(cells.values()))[0].target.metric
    base = _base(scored, metric, against)
    evidence = _evidence(design, runs)
    table = [
        {
            "method": name,
            **_line(one, scored[base], metric, evidence, same=name == base),
            **_costs(cells[name]),
        }
        for name, one in scored.items()
    ]
    return Compared(
        pd.DataFrame(table).set_index("method"), _run_table(cells, scored), metric, base
    )


def _evidence(design: Design, runs: Sequence[_Run]) -> Evidence:
    if design.folds is None:
        return OverRows(design.seed)
    return OverFolds(sum(len(r.train) for r in runs), sum(len(r.test) for r in runs))


def _base(scored: Mapping[str, Scored], metric: str, against: str | None) -> str:
    if against != "best":
        return against or next(iter(scored))
    means = {name: float(one.of(metric).mean()) for name, one in scored.items()}
    better = min if metric in LOWER else max
    return better(means, key=lambda name: means[name])


def _line(
    one: Scored, base: Scored, metric: str, evidence: Evidence, *, same: bool
) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for name in one.values[0]:
        mean = evidence.mean(one, name)
        line |= {name: mean.difference, f"{name}_low": mean.low, f"{name}_high": mean.high}
    gap = None if same else evidence.difference(one, base, metric)
    line["difference"] = np.nan if gap is None else gap.difference
    line["difference_low"] = np.nan if gap is None else gap.low
    line["difference_high"] = np.nan if gap is None else gap.high
    line["p"] = np.nan if gap is None else gap.p
    return line


def _costs(cells: Sequence[Cell]) -> dict[str, Any]:
    """Parameters of the first run, mean seconds, median memory: a process's first run loads libraries."""
    records = [c.record for c in cells]
    return {
        "trainable": cast(int, records[0]["trainable"]),
        "seconds": float(np.mean([r["seconds"] for r in records])),
        "peak_mb": float(np.median([r["peak_mb"] for r in records])),
        "runs": len(records),
    }


def _run_table(cells: Mapping[str, Sequence[Cell]], scored: Mapping[str, Scored]) -> pd.DataFrame:
    kept = ("method", "run", "seed", "train_rows", "test_rows", "epochs", *_COSTS)
    lines = [
        {**{k: cell.record[k] for k in kept}, **values}
        for name, own in cells.items()
        for cell, values in zip(own, scored[name].values, strict=True)
    ]
    return pd.DataFrame(lines)
