"""A hash of a table, to know it again."""

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd
from pandas import util

__all__ = ["table_digest"]


def _shown(cell: object) -> str:
    if (
        isinstance(cell, np.ndarray) and cell.dtype != object
    ):  # repr leaves out the middle of long ones
        return f"{cell.dtype}{cell.shape}{hashlib.sha256(cell.tobytes()).hexdigest()}"
    return repr(cell)


def table_digest(frame: pd.DataFrame) -> str:
    """A hash of the cells and the column names, not of what files hold."""
    hashing: Any = util  # its names are not typed
    total = hashlib.sha256(json.dumps(list(frame)).encode())
    for name in frame:
        cells = frame[name]
        if cells.dtype == object:
            cells = cells.map(_shown)  # lists and arrays have no hash
        values: Any = cells.to_numpy()
        total.update(np.asarray(hashing.hash_array(values)).tobytes())
    return total.hexdigest()
