"""From a model's answer to what the caller of an estimator sees."""

from typing import Any

import numpy as np
import pandas as pd

from multiadapt.errors import SpecError
from multiadapt.fitted import Answer, Fitted
from multiadapt.gather import Source, is_table

__all__ = ["check_empty", "detailed", "like", "numbered"]


def check_empty(empty: str, other: str = "prior") -> None:
    """SpecError where it is neither way of answering for a row without anything."""
    if empty not in ("raise", other):
        raise SpecError(f"empty must be 'raise' or {other!r}, got {empty!r}")


def like(source: Source, fitted: Fitted, values: np.ndarray, index: pd.Index) -> Any:
    """Predictions as the caller's table is: an array, or a Series or DataFrame with its index."""
    if not is_table(source):
        return values
    name = fitted.info["label"]
    if values.ndim == 2:
        return pd.DataFrame(values, index=index, columns=fitted.target.state()["names"])
    return pd.Series(values, index=index, name=name if isinstance(name, str) else None)


def detailed(predicted: Any, answer: Answer, index: pd.Index) -> pd.DataFrame:
    """Predictions with what each row had. SpecError: a label is called like one of these columns."""
    columns = (
        predicted
        if isinstance(predicted, pd.DataFrame)
        else pd.DataFrame({"prediction": np.asarray(predicted)}, index=index)
    )
    had = {f"has {stream}": there for stream, there in answer.present.items()}
    details = {**had, "prior": answer.empty}
    if both := [name for name in columns if name in details]:
        raise SpecError(
            f"details=True adds the columns {list(details)}, and labels are called {both} too: rename "
            "these labels before fit, or leave details=True out"
        )
    return columns.assign(**details)


def numbered(source: Source, vectors: np.ndarray, index: pd.Index) -> Any:
    """Vectors as the caller's table is: an array, or a DataFrame with its index and a column a number."""
    if not is_table(source):
        return vectors
    names = [f"vector_{i}" for i in range(vectors.shape[1])]
    return pd.DataFrame(vectors, index=index, columns=names)
