"""What a missing modality costs: a metric against the rate at which each modality is removed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from urllib.parse import quote

import numpy as np
import pandas as pd
from jaxtyping import Float

from multiadapt.data.masks import BOTH, Mask, check_left, draw, opened, present
from multiadapt.errors import SpecError
from multiadapt.fitted import Fitted
from multiadapt.reports._coalitions import Coalitions, Sample, bootstrap, measured
from multiadapt.tasks._metrics import LOWER, Metric, of_draws

__all__ = ["EACH_AND_BOTH", "RATES", "Grid", "Robustness", "robustness"]

_log = logging.getLogger("multiadapt")

EACH_AND_BOTH = "each and both"
RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@dataclass(frozen=True)
class Grid:
    """Which holes are made."""

    rates: Sequence[float] = RATES
    """Shares of rows in 0..1."""
    modalities: str | Sequence[str] = EACH_AND_BOTH
    """"each and both", "each", "both" (exactly one of a row's, chosen evenly), or names."""
    seed: int = 0
    """Of the masks, and of the bootstrap."""
    folder: Path | None = None
    """Where the masks are kept as files; one that is there is taken, if it is for these rows."""

    def check(self) -> None:
        """SpecError: no rates, or some that are not in 0..1."""
        if not len(self.rates) or not all(0 <= rate <= 1 for rate in self.rates):
            raise SpecError(f"rates must be at least one number in 0..1, got {list(self.rates)}")

    def named(self, streams: Sequence[str]) -> list[str]:
        """The modalities whose curves are drawn."""
        words = {EACH_AND_BOTH: [*streams, BOTH], "each": [*streams], BOTH: [BOTH]}
        if isinstance(self.modalities, str) and self.modalities in words:
            return words[self.modalities]
        chosen = [self.modalities] if isinstance(self.modalities, str) else [*self.modalities]
        if not chosen or not set(chosen) <= {*streams, BOTH}:
            raise SpecError(
                f"modalities must be 'each and both', 'each', 'both' or some of {list(streams)}, got "
                f"{self.modalities!r}"
            )
        return list(dict.fromkeys(chosen))

    def mask(self, there: pd.DataFrame, modality: str, rate: float) -> Mask:
        """Drawn anew, or the file in the folder."""
        if self.folder is None:
            return draw(there, rate, modality, self.seed)
        path = self.folder / f"{quote(modality, safe='')}-{rate:g}-seed{self.seed}.parquet"
        if path.exists():
            kept = opened(path)
            _check_kept(kept, path, (modality, float(rate), self.seed))
            return kept
        mask = draw(there, rate, modality, self.seed)
        mask.save(path)
        return mask


def _check_kept(mask: Mask, path: Path, wanted: tuple[str, float, int]) -> None:
    """SpecError: a kept mask says that it was drawn otherwise. One that says nothing is taken."""
    drawn = (mask.modality, mask.rate, mask.seed)
    if any(own is not None and own != other for own, other in zip(drawn, wanted, strict=True)):
        raise SpecError(
            f"{path} must hold the mask of modality, rate and seed {wanted}, as its name says; it was "
            f"drawn with {drawn}: delete it, or name another folder"
        )


@dataclass(frozen=True, eq=False)
class Robustness:
    """The result of `robustness`."""

    table: pd.DataFrame
    """A row for each modality, rate and model: reached (the share of rows that lost something), value, low
    and high of `metric` with its 95 % bootstrap interval over rows, rows, and area, the area under this
    model's curve."""
    metric: str
    seed: int

    @property
    def lower_is_better(self) -> bool:
        return self.metric in LOWER

    @property
    def areas(self) -> pd.DataFrame:
        """A row for each modality and a column for each model: the area under its curve, divided by the
        range of the rates, in the metric's unit; nan where there is one rate alone."""
        first = self.table.drop_duplicates(["modality", "model"])
        wide = first.pivot(index="modality", columns="model", values="area")
        return wide.loc[first["modality"].unique(), first["model"].unique()]

    @property
    def definition(self) -> str:
        """What the rates mean, in a sentence to print beside the numbers."""
        better = "lower" if self.lower_is_better else "higher"
        return (
            f"{self.metric} ({better} is better); a rate is the share of rows, drawn once with seed "
            f"{self.seed}, that lose the modality; {BOTH!r}: that lose exactly one of theirs, evenly"
        )

    def to_csv(self, path: str | Path) -> None:
        """Write the table with the metric's name in a column of its own."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.table.assign(metric=self.metric, seed=self.seed).to_csv(path, index=False)

    def plot(self, path: str | Path) -> None:
        """Draw the curves of each modality, all models on the same axes. ExtraError: no matplotlib."""
        from multiadapt.reports.plot import draw_curves

        draw_curves(self, Path(path))


def robustness(
    models: Mapping[str, Fitted],
    rows: Sample,
    labels: pd.Series | pd.DataFrame,
    weight: Float[np.ndarray, " n"],
    grid: Grid,
    metric: str | None = None,
) -> Robustness:
    """Score the models under the same masks; the first one says what the modalities are.

    Args:
        models: by the name to show.
        rows: the rows to score; the table is not written to. Their memory is shared by the models.
        labels: theirs.
        weight: how much each row counts.
        grid: rates, modalities, seed.
        metric: None: the one that the first model was trained to show.

    Raises:
        SpecError: models of different tasks, an unknown metric or modality, a rate out of range, or
            missing="error".
    """
    grid.check()
    first = next(iter(models.values()))
    kinds = {name: fitted.target.kind for name, fitted in models.items()}
    if len(set(kinds.values())) > 1:
        raise SpecError(f"models must have the same task to share axes, got {kinds}")
    metric = metric or first.target.metric
    part = replace(rows, memory=rows.memory / len(models))
    passes = {name: Coalitions(f, part, first.schema) for name, f in models.items()}
    there = present(rows.frame, first.schema).filter([*first.model.streams])
    points = _points(passes, there.set_axis(rows.frame.index), labels, grid, metric)
    table = _estimated(points, weight, grid.seed)
    return Robustness(_with_areas(table), metric, grid.seed)


@dataclass(frozen=True)
class _Point:
    modality: str
    rate: float
    reached: float
    model: str
    metric: Metric


def _points(
    passes: Mapping[str, Coalitions],
    there: pd.DataFrame,
    labels: pd.Series | pd.DataFrame,
    grid: Grid,
    metric: str,
) -> list[_Point]:
    found: list[_Point] = []
    for modality in grid.named(list(there)):
        for rate in sorted({float(r) for r in grid.rates}):
            mask = grid.mask(there, modality, rate)
            _check_rows(mask, there)
            reached = _reached(mask, there)
            if mask.remark:
                _log.warning("%s", mask.remark)
            for name, one in passes.items():
                function = measured(one.fitted, one.under(mask), labels, metric)
                found.append(_Point(modality, rate, reached, name, function))
    return found


def _reached(mask: Mask, there: pd.DataFrame) -> float:
    """Share of rows that lose something they have; a kept mask may be of other rows."""
    taken = mask.removed.to_numpy(bool) & there.to_numpy(bool)
    return float(taken.any(1).mean()) if len(taken) else 0.0


def _check_rows(mask: Mask, there: pd.DataFrame) -> None:
    """SpecError, SchemaError: a mask from the folder is of another table."""
    if len(mask) != len(there) or mask.modalities != tuple(there):
        raise SpecError(
            f"the folder of masks holds one of {len(mask)} rows and {list(mask.modalities)}; the table "
            f"has {len(there)} rows and {list(there)}: name another folder for it"
        )
    check_left(there.reset_index(drop=True), mask.removed, there.index)


def _estimated(
    points: Sequence[_Point], weight: Float[np.ndarray, " n"], seed: int
) -> pd.DataFrame:
    """Values with their intervals; all points meet the same resamples."""
    draws = bootstrap([p.metric for p in points], weight, seed)
    lines: list[dict[str, object]] = []
    for point, own in zip(points, draws, strict=True):
        found = of_draws(float(point.metric(weight[None])[0]), own)
        lines.append({
            "modality": point.modality, "rate": point.rate, "reached": point.reached,
            "model": point.model, "value": found.difference, "low": found.low, "high": found.high,
            "rows": len(weight),
        })  # fmt: skip
    return pd.DataFrame(lines)


def _with_areas(table: pd.DataFrame) -> pd.DataFrame:
    areas = {
        key: _area(curve["rate"].to_numpy(float), curve["value"].to_numpy(float))
        for key, curve in table.groupby(["modality", "model"], sort=False)
    }
    keys = zip(table["modality"], table["model"], strict=True)
    return table.assign(area=[areas[cast("tuple[str, str]", key)] for key in keys])


def _area(rates: Float[np.ndarray, " r"], values: Float[np.ndarray, " r"]) -> float:
    """By trapezoids, divided by the range: the mean of the metric over the rates."""
    return float(np.trapezoid(values, rates) / (rates[-1] - rates[0])) if len(rates) > 1 else np.nan
