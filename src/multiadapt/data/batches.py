"""Rows of a table to what each encoder prepares. Order in is order out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from multiadapt.data.images import Reading
from multiadapt.data.values import categories, dates, numbers, side_by_side
from multiadapt.errors import SchemaError
from multiadapt.types import Cells, Stream

__all__ = ["cells", "tabular_cells"]

EPOCH = pd.Timestamp("1970-01-01")


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
    if stream.modality == "image":
        found: Any = frame[stream.columns[0].name]
        return reading.images(found, positions)
    raise SchemaError(f"stream {stream.name!r}: {stream.modality} cells are not supported yet")


def tabular_cells(frame: pd.DataFrame, stream: Stream) -> pd.DataFrame:
    """The stream's columns alone, in its order, under the frame's index.

    numeric: float64, NaN where missing. categorical: str, None where missing. datetime: six float64
    columns (year, month, day, weekday with Monday 0, hour with its fraction, days since 1970), in UTC.
    SchemaError: a cell that is of no use as what its column holds, with row, column and value.
    """
    parts: list[pd.Series] = []
    for column in stream.columns:
        values: Any = frame[column.name]
        if column.kind == "numeric":
            parts.append(numbers(values))
        elif column.kind == "categorical":
            parts.append(categories(values))
        else:
            parts.extend(_calendar(dates(values)))
    return side_by_side(parts, frame.index)


def _calendar(moments: pd.Series) -> list[pd.Series]:
    """`hour` is there even if all are midnight: the columns may not depend on the rows of a batch."""
    days = (moments - EPOCH) / pd.Timedelta(days=1)
    hour = (moments - moments.dt.normalize()) / pd.Timedelta(hours=1)
    parts = {
        "year": moments.dt.year,
        "month": moments.dt.month,
        "day": moments.dt.day,
        "weekday": moments.dt.day_of_week,
        "hour": hour,
        "days": days,
    }
    return [part.astype("float64").rename(f"{moments.name}.{key}") for key, part in parts.items()]
