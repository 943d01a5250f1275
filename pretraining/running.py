"""What the pretraining commands share: their options, their log, their checkpoints."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["begin", "keep", "options_of", "take_up", "tell"]


def options_of(page: str, out: str) -> argparse.ArgumentParser:
    """A parser of what every command takes; `page` is its docstring, `out` what --out receives."""
    parser = argparse.ArgumentParser(description=page.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help=out)
    parser.add_argument("--log", type=Path, help="file that lines are appended to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--float32", action="store_true", help="no bfloat16 (older processors)")
    return parser


def begin(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)


def tell(lines: Iterable[str], log: Path | None) -> None:
    """Print every line as it comes, and append it to the log."""
    for line in lines:
        print(line, flush=True)
        if log:
            with log.open("a") as file:
                file.write(line + "\n")


def keep(out: Path, parts: Mapping[str, Any], clock: Mapping[str, float]) -> None:
    """Write a checkpoint beside and move it into place: a kill leaves the last whole one."""
    path = out / "checkpoint.pt"
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**state, **clock}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def take_up(
    out: Path, parts: Mapping[str, Any], device: torch.device | None = None
) -> Mapping[str, Any]:
    """Give the parts their state of the checkpoint in `out` and return all it holds; {}: there is none."""
    path = out / "checkpoint.pt"
    if not path.exists():
        return {}
    state = torch.load(path, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state
