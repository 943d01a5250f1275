"""The tables of the missing-aware-prompts line of work: rows with their pictures, and who lacks what.

Lee et al., "Multimodal Prompting with Missing Modalities for Visual Recognition", CVPR 2023,
https://arxiv.org/abs/2303.03369. Format: https://github.com/YiLunLee/missing_aware_prompts, `vilt/utils/write_*.py`
(NAME_SPLIT.arrow, an Arrow file) and `vilt/datasets/*_dataset.py` (NAME_SPLIT_missing_TYPE_RATE.pt, a tensor
with a number for each row: 0 complete, 1 without text, 2 without picture).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd

from multiadapt.data.tables import read_table
from multiadapt.datasets._base import DataSet
from multiadapt.datasets._files import home
from multiadapt.datasets._genres import joined
from multiadapt.errors import SchemaError, SpecError

__all__ = ["missing_aware_prompts", "with_holes"]

VALIDATION = {"mmimdb": "dev", "food101": "val", "hatememes": "dev"}
TEXTS = ("plots", "text")
LABELS = {"mmimdb": "genres", "food101": "dish", "hatememes": "label"}
EXPECTED = {
    "mmimdb": {"train": 15_552, "val": 2_608, "test": 7_799},
    "food101": {"train": 61_142, "val": 6_846, "test": 22_716},
    "hatememes": {},  # of its releases, which differ
}
CONVERT = (
    "In the environment that wrote it: numpy.save('table.npy', numpy.asarray(torch.load(path), "
    "dtype=numpy.int64))"
)
NO_TEXT, NO_PICTURE = 1, 2


def missing_aware_prompts(folder: str | Path, name: str = "mmimdb") -> DataSet:
    """Read NAME_train.arrow, NAME_dev.arrow (food101: NAME_val.arrow) and NAME_test.arrow.

    The pictures are bytes in the cells, all in memory. Of several texts of a row the first is read.
    """
    if name not in VALIDATION:
        raise SpecError(f"name must be one of {list(VALIDATION)}, got {name!r}")
    marks = {"train": "train", VALIDATION[name]: "val", "test": "test"}
    needed = {f"{name}_{mark}.arrow": f"the {split} rows" for mark, split in marks.items()}
    root = home(folder, needed, "Write them with make_arrow.py of the repository")
    parts = [
        _part(root / file, name, split) for file, split in zip(needed, marks.values(), strict=True)
    ]
    return DataSet(
        name=f"missing_aware_prompts/{name}",
        frame=pd.concat(parts, ignore_index=True),
        root=root,
        label=LABELS[name],
        separator="|" if name == "mmimdb" else None,
        column_types={"image_id": "ignore", "image": "image", "text": "text"},
        expected=EXPECTED[name],
        source="https://github.com/YiLunLee/missing_aware_prompts",
        citation='Lee et al., "Multimodal Prompting with Missing Modalities for Visual Recognition", 2023',
        licence="that of the data set that the tables were written from",
    ).counted()


def _part(path: Path, name: str, split: str) -> pd.DataFrame:
    held = read_table(path).frame
    text = next((column for column in TEXTS if column in held), TEXTS[0])
    label = {"mmimdb": "genres", "food101": "image_id", "hatememes": "label"}[name]
    named = () if name == "hatememes" else ("image_id",)
    lacking = [column for column in ("image", text, label, *named) if column not in held]
    if lacking:
        raise SchemaError(
            f"{path}: columns {lacking} are absent, it has {list(held)}: write it again"
        )
    ids = held["image_id"].tolist() if name != "hatememes" else held.index.tolist()
    return pd.DataFrame({
        "image_id": [str(i) for i in ids],
        "image": pd.Series(held["image"].tolist(), dtype=object),
        "text": pd.Series([_first(texts) for texts in held[text]], dtype=object),
        LABELS[name]: [_label(name, value) for value in held[label]],
        "split": split,
    })  # fmt: skip


def _first(texts: Any) -> str | None:
    """The text of a cell, or the first of its list; None where that is blank."""
    told = texts if isinstance(texts, str) else next(iter(texts), "")
    return told if told and told.strip() else None


def _label(name: str, value: Any) -> Any:
    if name == "mmimdb":
        return joined(value)
    return str(value).rpartition("_")[0] if name == "food101" else int(value)


def with_holes(data: DataSet, tables: Mapping[str, str | Path]) -> DataSet:
    """The data set with cells emptied as these missing tables say, a file for each split that has one.

    A table has a number for each row of its split, in the rows' order: 0 complete, 1 without text, 2
    without picture. It is the .pt file of the repository, of which tensors alone are read and nothing
    else is run, or the same numbers as .npy, or as the one column of a .csv or .parquet file.

    Raises:
        SchemaError: a table has another number of rows, other numbers, or is a pickle.
    """
    frame = data.frame.copy()
    kinds = {
        kind: column for column, kind in data.column_types.items() if kind in ("text", "image")
    }
    if len(kinds) != 2:
        raise SpecError(
            f"{data.name}: missing tables are about a text and a picture, it has {kinds}"
        )
    for mark, path in tables.items():
        rows = frame.index.get_indexer(data.part(mark).index)
        lack = _lack(Path(path).expanduser())
        if len(lack) != len(rows):
            raise SchemaError(
                f"{path}: a missing table must have one number for each of the {len(rows)} rows of "
                f"{mark!r}, got {len(lack)}: it is of another split, or of another version of the data"
            )
        for number, kind in ((NO_TEXT, "text"), (NO_PICTURE, "image")):
            frame.iloc[rows[lack == number], frame.columns.get_loc(kinds[kind])] = None  # type: ignore[index]
    return replace(data, frame=frame)


def _lack(path: Path) -> np.ndarray:
    if not path.is_file():
        raise SchemaError(
            f"{path}: there is no such missing table (the current folder is {Path.cwd()})"
        )
    numbers = _numbers(path)
    allowed = (
        np.isin(numbers, (0, NO_TEXT, NO_PICTURE)) if numbers.dtype.kind in "biuf" else np.False_
    )
    if numbers.ndim != 1 or not np.all(allowed):
        raise SchemaError(
            f"{path}: a missing table must be a list of 0 (complete), 1 (no text) and 2 (no picture), got "
            f"{numbers.dtype} of shape {numbers.shape}"
        )
    return numbers.astype(np.int64)


def _numbers(path: Path) -> np.ndarray:
    kind = path.suffix.lower()
    if kind in (".csv", ".parquet"):
        held = read_table(path).frame
        return held.to_numpy()[:, 0] if held.shape[1] == 1 else held.to_numpy()
    try:
        if kind == ".npy":
            return np.load(path, allow_pickle=False)
        if kind == ".pt":
            return _tensor(path)
    except (ValueError, OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise SchemaError(f"{path}: no table of numbers alone: {error}. {CONVERT}") from error
    raise SchemaError(
        f"{path}: a missing table is read from .pt, .npy, .csv or .parquet, got {kind!r}; a pickle is never "
        f"opened, for it may run any program. {CONVERT}"
    )


def _tensor(path: Path) -> np.ndarray:
    import torch

    held = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(held, torch.Tensor):
        raise ValueError(f"it holds {type(held).__name__}, not a tensor")
    return held.numpy()
