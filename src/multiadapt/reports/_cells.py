"""Finished runs on disk, so that a comparison continues where it stopped."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from multiadapt import __version__
from multiadapt.errors import ArtifactError
from multiadapt.spec import Spec
from multiadapt.tasks._base import TaskSpec
from multiadapt.tasks._metrics import Measured

__all__ = ["Cell", "Store", "digest"]


@dataclass(frozen=True)
class Cell:
    """One method fitted and scored once."""

    record: Mapping[str, Any]
    """JSON values: method, run, seed, task, target, rows, trainable, seconds, peak_mb, ..."""
    scores: np.ndarray
    """(test rows, outputs), as the head gives them."""

    @property
    def target(self) -> Measured:
        task = cast(TaskSpec, TaskSpec.from_dict(self.record["task"]))
        return cast(Measured, task.restore(self.record["target"]))


class Store:
    """A folder with a `.json` and a `.parquet` for each finished cell; None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def read(self, key: str) -> Cell | None:
        if self.folder is None or not (path := self.folder / f"{key}.json").exists():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            scores = pd.read_parquet(path.with_suffix(".parquet")).to_numpy(np.float32)
        except (ValueError, OSError) as error:
            raise ArtifactError(
                f"{path} cannot be read: {error}; delete it to run it again"
            ) from error
        return Cell(record, scores)

    def write(self, key: str, cell: Cell) -> None:
        """The JSON file comes last: where it is, the cell is whole."""
        if self.folder is None:
            return
        path = self.folder / f"{key}.json"
        columns = [f"score_{i}" for i in range(cell.scores.shape[1])]
        pd.DataFrame(cell.scores, columns=columns).to_parquet(path.with_suffix(".parquet"))
        part = path.with_suffix(".part")
        part.write_text(json.dumps(cell.record, indent=1) + "\n", encoding="utf-8")
        part.replace(path)


def digest(method: str, run: str, *what: object) -> str:
    """A file name for a cell, which differs where options, rows or encoders' names differ; not where the
    bytes of a picture or of an encoder's weights do."""
    text = json.dumps([method, run, __version__, *what], default=_plain, sort_keys=True)
    short = re.sub(r"[^\w.=-]+", "-", method)[:60].strip("-")
    return f"{short}-{run}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, Spec) else str(value)
