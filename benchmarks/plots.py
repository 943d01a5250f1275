"""A bar chart of each measurement of speed and memory, drawn from its CSV.

    python benchmarks/plots.py

Writes `docs/figures/NAME.svg`. The dashed line is what was aimed at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

HERE = Path(__file__).parent
FIGURES = HERE.parent / "docs/figures"


@dataclass(frozen=True)
class Bars:
    """A bar for each row of the CSV that has these values."""

    labels: tuple[str, ...]
    """Columns that name a row."""
    value: str
    axis: str
    targets: Mapping[str, float] = field(default_factory=dict)
    """By label; "" is that of all others."""
    only: Mapping[str, object] = field(default_factory=dict)
    log: bool = False


EVERY = {
    "epochs": Bars(
        ("source", "variant"),
        "again_over_kept",
        "times as fast as computing everything again",
        {
            "random:resnet-50 embedding": 100, "random:resnet-50 bc1": 3.5, "random:resnet-50 bc2": 1.4,
            "resnet50-trunk bc1": 1.6, "resnet50-trunk bc2": 1.12,
        },
        log=True,
    ),
    "cache": Bars(
        ("variant",), "again_over_first", "times as fast, whole fit", {"embedding": 10, "bc1": 2.2}
    ),
    "folds": Bars(("cache",), "singles_over_compare", "times as fast as single fits", {"": 5}),
    "step_time": Bars(("variant",), "step_ratio", "step, over one by hand", {"": 1.05}),
    "memory": Bars(
        ("variant",),
        "step_percent_of_full",
        "memory of a step, % of full fine-tuning",
        {"bc1": 15, "bc2": 33, "bc3": 60, "bc4": 95},
        {"network": "resnet-50", "batch": 64},
    ),
    "scoring": Bars(
        ("network", "method"), "over_bare", "rows a second, over the bare encoder", {"": 0.95}
    ),
    "half_precision": Bars(
        ("network", "method"), "bf16_over_fp32", "scoring, bf16 over fp32", {"": 1.7}
    ),
    "memory_predict": Bars(
        ("cache", "rows"), "peak_over_first", "peak memory, over the shorter table", {"": 1.05}
    ),
    "many": Bars(
        ("network", "method", "numbers"), "throughput", "100 models mixed, over one", {"": 0.8}
    ),
    "processes": Bars(("variant",), "ratio", "two processes, over one", {"": 1.7}),
}  # fmt: skip
FILES = {"half_precision": "scoring"}
"""Where the CSV has another name."""


def shown(value: object) -> str:
    """A row's value as its label has it; whether there are numbers, as their name."""
    return ("with numbers" if value else "") if isinstance(value, bool) else str(value)


def draw(name: str, bars: Bars) -> None:
    table = pd.read_csv(HERE / "results" / f"{FILES.get(name, name)}.csv")
    for column, value in bars.only.items():
        table = table[table[column] == value]
    labels = [" ".join(map(shown, row[list(bars.labels)])) for _, row in table.iterrows()]
    figure = Figure(figsize=(6, 0.8 + 0.35 * len(table)), layout="constrained")
    axes = figure.subplots()
    drawn = axes.barh(range(len(table)), table[bars.value], color="#4878a8")
    axes.bar_label(drawn, fmt="{:.3g}", padding=3)
    for i, label in enumerate(labels):
        if (target := bars.targets.get(label, bars.targets.get(""))) is not None:
            axes.plot([target, target], [i - 0.45, i + 0.45], "--", color="black")
    axes.set_yticks(range(len(table)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(bars.axis)
    axes.set_xscale("log" if bars.log else "linear")
    axes.margins(x=0.12)
    FIGURES.mkdir(exist_ok=True)
    # Without a date, so that the same numbers give the same file.
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})


def main() -> None:
    import matplotlib

    matplotlib.rcParams |= {"svg.hashsalt": "multiadapt", "svg.fonttype": "none"}
    for name, bars in EVERY.items():
        if (HERE / "results" / f"{FILES.get(name, name)}.csv").exists():
            draw(name, bars)


if __name__ == "__main__":
    main()
