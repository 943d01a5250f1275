"""A comparison as a picture: the metric with its interval, and what each method costs. And curves of a
metric against the rate at which a modality is missing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multiadapt.data.masks import BOTH
from multiadapt.errors import ExtraError

if TYPE_CHECKING:
    from multiadapt.reports.compare import Compared
    from multiadapt.reports.robustness import Robustness

__all__ = ["draw", "draw_curves"]

_DOT, _BAR = "#1f4e79", "#9db8d2"


def draw(compared: "Compared", path: Path) -> None:
    """Write a picture, its kind by the suffix. ExtraError: matplotlib is not installed."""
    table = compared.table
    figure = _figure(11.0, 1.2 + 0.45 * len(table))
    metric, *costs = figure.subplots(1, 4, sharey=True, width_ratios=(3, 1, 1, 1))
    _metric(metric, table, compared)
    for axis, (column, title) in zip(costs, _COSTS.items(), strict=True):
        _cost(axis, table[column].to_numpy(float), title)
    _save(figure, path)


def draw_curves(found: "Robustness", path: Path) -> None:
    """Write a picture with an axis for each modality. ExtraError: matplotlib is not installed."""
    parts = list(found.table.groupby("modality", sort=False))
    figure = _figure(1 + 3.4 * len(parts), 3.6)
    axes = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axis, (modality, part) in zip(axes, parts, strict=True):
        for model, curve in part.groupby("model", sort=False):
            label = f"{model} (area {curve['area'].iloc[0]:.3g})"
            line = axis.plot(curve["rate"], curve["value"], "o-", markersize=3, label=label)[0]
            axis.fill_between(
                curve["rate"], curve["low"], curve["high"], color=line.get_color(), alpha=0.12
            )
        axis.set_title(
            f"{modality} missing" if modality != BOTH else "one of them missing", fontsize=9
        )
        axis.set_xlabel("share of rows", fontsize=8)
        axis.legend(fontsize=7, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    better = "lower" if found.lower_is_better else "higher"
    axes[0].set_ylabel(f"{found.metric}, 95 % interval ({better} is better)", fontsize=8)
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExtraError("a picture needs matplotlib: pip install multiadapt[report]") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


_COSTS = {
    "trainable": "trained parameters",
    "seconds": "seconds of a fit",
    "peak_mb": "peak memory, MB",
}


def _metric(axis: Any, table: pd.DataFrame, compared: "Compared") -> None:
    name, places = compared.metric, range(len(table))
    low, high = table[f"{name}_low"], table[f"{name}_high"]
    axis.hlines(places, low, high, color=_DOT, linewidth=1.5)
    axis.plot(table[name], places, "o", color=_DOT)
    axis.axvline(
        table[name][compared.against], color="0.7", linewidth=0.8, linestyle="--", zorder=0
    )
    for place, value in zip(places, table[name], strict=True):
        axis.annotate(
            f"{value:.3g}", (value, place), xytext=(0, 6), textcoords="offset points",
            ha="center", fontsize=8,
        )  # fmt: skip
    axis.set_yticks(list(places), [str(method) for method in table.index])
    axis.set_ylim(len(table) - 0.4, -0.6)
    better = "lower" if compared.lower_is_better else "higher"
    axis.set_title(f"{name} with 95 % interval ({better} is better)", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def _cost(axis: Any, values: np.ndarray, title: str) -> None:
    places = range(len(values))
    axis.barh(places, values, color=_BAR, height=0.5)
    for place, value in zip(places, values, strict=True):
        axis.annotate(
            f" {_short(value)}", (value, place), va="center", fontsize=8, annotation_clip=False
        )
    axis.set_xlim(0, max(float(values.max()) * 1.45, 1e-9))  # room for the numbers
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"
