"""Where the time of a fit went, and what share of the machine's arithmetic it used."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd
import torch

from multiadapt.stopwatch import OTHER, Lap, Stopwatch, Watch

__all__ = ["lines", "peak", "profiled"]

_log = logging.getLogger("multiadapt")

_PARTS = {
    "opening": "networks opened, columns learned",
    "waiting": "waiting for cells to be read",
    "disk": "frozen part from and to the disk",
    "prefix": "prefix: frozen part computed",
    "batch": "batch: from memory to the device",
    "adapters forward": "adapters, forward",
    "adapters backward": "adapters, backward",
    "head forward": "head, forward",
    "head backward": "head, backward",
    "optimizer": "optimizer",
    "validation": "validation",
    OTHER: "other",
}
"""Parts of the training thread, in the order and the words in which they are told."""
_BESIDE = {"decode": "decode, in threads beside"}
_STEP = ("adapters forward", "adapters backward", "head forward", "head backward", "optimizer")
_COLUMNS = (
    "stage", "part", "thread", "epochs", "batches", "seconds", "share", "rows_per_second", "gflop",
    "gflop_per_second", "of_peak",
)  # fmt: skip
_MACHINE = "machine"
_LONG, _RUNS, _LARGEST = 0.02, 5, 8192
"""Seconds that a product is to take, how many are timed, and the most rows of a matrix."""


def profiled(watch: Watch, device: torch.device, precision: str) -> pd.DataFrame | None:
    """What a watch saw, beside the machine's peak in this precision, and told in log lines; None: nobody looked.

    A row for each part of each stage: seconds of an epoch (of the later ones the mean), their share of the
    stage, rows of the stage per second, and operations of its rows as the first batch counted them. Parts of
    the thread "training" are the whole stage; those of "workers" are summed over threads that run beside it.
    """
    if not isinstance(watch, Stopwatch):
        return None
    rows = [row for stage, laps in _stages(watch.laps).items() for row in _rows(stage, laps, watch)]
    rows.append(_machine(device, torch.bfloat16 if precision == "bf16" else torch.float32))
    found = pd.DataFrame(rows, columns=pd.Index(_COLUMNS))
    found["gflop_per_second"] = found["gflop"] / found["seconds"]
    found["of_peak"] = found["gflop_per_second"] / found["gflop_per_second"].iloc[-1]
    for line in lines(found):
        _log.info("%s", line)
    return found


def peak(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Floating-point operations of a product of two square matrices, and its seconds: the median of a few runs,
    with the threads that torch has, of matrices so large that one takes a fiftieth of a second."""
    size = 128
    seconds: list[float] = [0.0]
    while median(seconds) < _LONG and size < _LARGEST:
        size *= 2
        multiply = _product(device, dtype, size)
        multiply()  # the first of a size is slower
        seconds = [multiply() for _ in range(_RUNS)]
    return 2.0 * size**3, median(seconds)


def _product(device: torch.device, dtype: torch.dtype, size: int) -> Callable[[], float]:
    """Takes the time of one. Numbers that differ: of equal ones, some devices multiply faster."""
    x = torch.linspace(-1, 1, size * size, device=device).view(size, size).to(dtype)

    def wait() -> float:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter()

    def multiply() -> float:
        started = wait()
        with torch.inference_mode():
            torch.mm(x, x)
        return wait() - started

    return multiply


def _stages(laps: Sequence[Lap]) -> dict[str, list[Lap]]:
    """The first epoch apart: it may compute what later ones find."""
    epochs = [lap for lap in laps if lap.stage == "epoch"]
    before = [lap for lap in laps if lap.stage != "epoch"]
    found = {"before": before, "first epoch": epochs[:1], "later epochs": epochs[1:]}
    return {stage: some for stage, some in found.items() if some}


def _rows(stage: str, laps: Sequence[Lap], watch: Stopwatch) -> list[dict[str, Any]]:
    rows, batches = (sum(getattr(lap, n) for lap in laps) / len(laps) for n in ("rows", "batches"))
    whole = sum(sum(lap.parts.values()) for lap in laps) / len(laps)
    counted = watch.operations or {}
    found: list[dict[str, Any]] = []
    for thread, kind, names in (("training", "parts", _PARTS), ("workers", "beside", _BESIDE)):
        for part in names:
            seconds = sum(getattr(lap, kind).get(part, 0.0) for lap in laps) / len(laps)
            if seconds <= 0:
                continue
            row = {"stage": stage, "part": part, "thread": thread, "seconds": seconds}
            row |= {"epochs": 0 if stage == "before" else len(laps), "batches": batches}
            row |= {"share": seconds / whole if thread == "training" else None}
            row |= {"rows_per_second": rows / seconds}
            if stage != "before" and part in counted:
                row["gflop"] = counted[part] * rows / 1e9
            found.append(row)
    return found


def _machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    operations, seconds = peak(device, dtype)
    threads = torch.get_num_threads()
    where = str(device) if device.type != "cpu" else f"{threads} thread{'s' * (threads > 1)}"
    name = f"matrix product ({str(dtype).removeprefix('torch.')}, {where})"
    row = {"stage": _MACHINE, "part": name, "epochs": 0, "batches": 0.0}
    return row | {"seconds": seconds, "gflop": operations / 1e9}


def lines(profile: pd.DataFrame) -> list[str]:
    """What `profiled` found, for a person to read; the last columns are of the last stage."""
    stages = {s: part.set_index("part") for s, part in profile.groupby("stage", sort=False)}
    machine = stages.pop(_MACHINE)
    *_, last = stages.values()
    later = f"each of {last['epochs'].iloc[0]} later"
    names = [later if s == "later epochs" else str(s) for s in stages]
    table = [["seconds", *names, "share", "rows/s", "of peak"]]
    table += _told(_PARTS, stages.values(), last)
    sums = [s.loc[s["thread"] == "training", "seconds"].sum() for s in stages.values()]
    table.append(["all", *(f"{seconds:,.3f}" for seconds in sums), "", "", ""])
    table += _told(_BESIDE, stages.values(), last)
    return [*_aligned(table), _sentence(last, machine)]


def _told(
    names: Mapping[str, str], stages: Collection[pd.DataFrame], last: pd.DataFrame
) -> list[list[str]]:
    """A line of cells for each part that any stage has."""
    found: list[list[str]] = []
    for part, name in names.items():
        seconds = [f"{s.at[part, 'seconds']:,.3f}" if part in s.index else "" for s in stages]
        if any(seconds):
            found.append([name, *seconds, *_rates(last, part)])
    return found


def _rates(stage: pd.DataFrame, part: str) -> list[str]:
    forms = {"share": _percent, "rows_per_second": "{:,.0f}".format, "of_peak": _percent}
    if part not in stage.index:
        return [""] * len(forms)
    own: Any = stage.loc[part]
    return ["" if pd.isna(own[name]) else form(own[name]) for name, form in forms.items()]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Words to the left, numbers to the right."""
    first, *widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    found: list[str] = []
    for name, *cells in table:
        told = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        found.append("  ".join([name.ljust(first), *told]).rstrip())
    return found


def _sentence(last: pd.DataFrame, machine: pd.DataFrame) -> str:
    """How near a step comes to the peak."""
    own = machine.iloc[0]
    best = f"{own['gflop_per_second']:,.0f} GFLOP/s that this machine does in a {machine.index[0]}"
    step: Any = last[last.index.isin(_STEP)]
    gflop, seconds = step["gflop"].sum(), step["seconds"].sum()
    if not gflop:
        return f"no operations were counted, to be compared with the {best}"
    batches, share = step["batches"].iloc[0], gflop / seconds / own["gflop_per_second"]
    took = f"a step does {gflop / batches:.3g} GFLOP in {1000 * seconds / batches:.3g} ms"
    return f"{took}: {_percent(share)} of the {best}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
