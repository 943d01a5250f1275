"""Cells of precomputed vectors to arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from multiadapt.data.reading import locate
from multiadapt.errors import CellError

__all__ = ["is_vector", "read_vector"]


def read_vector(part: object, root: Path) -> Float32[np.ndarray, " d"]:
    """A list or array of numbers, or the path of an .npy file of them. CellError where it is neither."""
    if isinstance(part, (str, Path)):
        part = _loaded(part, root)
    # What the list misses is a number that is not finite; an object array would hide which.
    found = _with_nan(part) if is_vector(part) else np.asarray(part)
    if found.ndim != 1 or found.dtype.kind not in "biuf" or len(found) == 0:
        raise CellError(
            f"expected a vector of numbers, got shape {found.shape} of {found.dtype}: give a list, a "
            "1-d array or the path of an .npy file"
        )
    if not np.isfinite(found).all():
        raise CellError(
            f"a vector must hold finite numbers, {int((~np.isfinite(found)).sum())} are not"
        )
    return found.astype(np.float32)


def is_vector(value: object) -> bool:
    """Whether a cell is itself a vector: a list, tuple or 1-d array of numbers, some perhaps missing."""
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return value.ndim == 1 and value.dtype.kind in "biuf" and len(value) > 0
    if not isinstance(value, (list, tuple, np.ndarray)) or getattr(value, "ndim", 1) != 1:
        return False
    numbers = [v for v in value if v is not None and v is not pd.NA]
    return len(numbers) > 0 and all(
        isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in numbers
    )


def _with_nan(cell: Any) -> np.ndarray:
    if isinstance(cell, np.ndarray) and cell.dtype.kind != "O":
        return cell
    return np.asarray([np.nan if v is None or v is pd.NA else v for v in cell])


def _loaded(part: str | Path, root: Path) -> np.ndarray:
    path = locate(part, root)
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise CellError(f"the file is no .npy file of numbers: {error}") from error
