"""Rows of a table to what each encoder prepares. Order in is order out."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from multiadapt.data.images import read_image
from multiadapt.data.reading import Read, Reading
from multiadapt.data.sounds import read_sound
from multiadapt.data.texts import texts
from multiadapt.data.values import converted, side_by_side
from multiadapt.data.vectors import is_vector, read_vector
from multiadapt.data.videos import clips
from multiadapt.types import Cells, Sampling, Stream

__all__ = ["calendar_names", "cells", "tabular_cells"]

EPOCH = pd.Timestamp("1970-01-01")
CALENDAR: Mapping[str, Callable[[pd.Series], pd.Series]] = {
    "year": lambda moments: moments.dt.year,
    "month": lambda moments: moments.dt.month,
    "day": lambda moments: moments.dt.day,
    "weekday": lambda moments: moments.dt.day_of_week,
    "hour": lambda moments: (moments - moments.dt.normalize()) / pd.Timedelta(hours=1),
    "days": lambda moments: (moments - EPOCH) / pd.Timedelta(days=1),
}
"""`hour` is there even if all are midnight: the columns may not depend on the rows of a batch."""


def cells(
    frame: pd.DataFrame,
    stream: Stream,
    reading: Reading,
    positions: Sequence[int] | np.ndarray | None = None,
) -> Cells:
    """The cells of one stream, one per row of the frame.

    `positions` tells where each row stands in the caller's table, for the report of bad cells.
    """
    if stream.modality == "tabular":
        return tabular_cells(frame, stream)
    if stream.modality == "text":
        return texts(frame, stream, positions, reading)
    found: Any = frame[stream.columns[0].name]
    if stream.modality == "video":
        return clips(found, stream.sampling or Sampling(), reading, positions)
    readers: Mapping[str, Read[Any]] = {
        "image": partial(read_image, least=stream.pixels),
        "audio": read_sound,
        "vector": read_vector,
    }
    if stream.modality == "vector":  # a list of numbers is one vector, not several files
        found = found.astype(object).map(lambda v: [v] if is_vector(v) else v)
    return reading.items(found, readers[stream.modality], positions)


def tabular_cells(frame: pd.DataFrame, stream: Stream) -> pd.DataFrame:
    """The stream's columns alone, in its order, under the frame's index.

    numeric: float64, NaN where missing. categorical: str, None where missing. datetime: six float64
    columns (year, month, day, weekday with Monday 0, hour with its fraction, days since 1970), in UTC.
    SchemaError: cells that are of no use as what their columns hold, with row, column and value.
    """
    parts: list[pd.Series] = []
    for column, values in zip(stream.columns, converted(frame, stream.columns), strict=True):
        parts += _calendar(values) if column.kind == "datetime" else [values]
    return side_by_side(parts, frame.index)


def calendar_names(name: str) -> list[str]:
    """What the columns are called that `tabular_cells` makes of a datetime column."""
    return [f"{name}.{part}" for part in CALENDAR]


def _calendar(moments: pd.Series) -> list[pd.Series]:
    names = calendar_names(str(moments.name))
    parts = (part(moments).astype("float64") for part in CALENDAR.values())
    return [part.rename(name) for name, part in zip(names, parts, strict=True)]
