"""The rows of one table, each scored by the model that it names."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multiadapt.data.reading import Reading
from multiadapt.data.tables import did_you_mean
from multiadapt.errors import SchemaError, SpecError
from multiadapt.feed import Feed, ahead
from multiadapt.fitted import Fitted
from multiadapt.joint import Part, joint_scores
from multiadapt.scoring import precision
from multiadapt.types import Inputs

__all__ = ["Group", "Names", "groups_of", "read", "rows_by_name", "score"]

Names: TypeAlias = str | Sequence[Any] | np.ndarray | pd.Series
"""A model's name, a column that holds names, or a name for each row."""


@dataclass
class Group:
    """The rows of a table that are one model's."""

    name: str
    rows: np.ndarray
    """(b,) where they stand in the table."""
    feed: Feed
    scores: list[Tensor] = field(default_factory=list)


_Block: TypeAlias = list[tuple[Group, np.ndarray]]
"""Groups, and which of their own rows."""
Ready: TypeAlias = tuple[Group, Mapping[str, Inputs]]
"""Some rows of a group, read and prepared."""


def rows_by_name(
    adapter: Names, frame: pd.DataFrame, known: Sequence[str]
) -> dict[str, np.ndarray]:
    """The positions of each model's rows, in order; models without rows are left out."""
    names = _names(adapter, frame, known)
    codes = pd.Index(known, dtype=object).get_indexer(
        pd.Index(names, dtype=object, tupleize_cols=False)
    )
    if (codes < 0).any():
        wrong = np.flatnonzero(codes < 0)
        shown = ", ".join(f"row {frame.index[i]!r}: {names[i]!r}" for i in wrong[:10])
        guess = did_you_mean([n for n in dict.fromkeys(names[wrong]) if isinstance(n, str)], known)
        raise SpecError(
            f"every row must name a model that is served, {len(wrong)} of {len(names)} do not ({shown}); "
            f"there are {list(known)}{guess}"
        )
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(known) + 1))
    parts = {name: order[starts[i] : starts[i + 1]] for i, name in enumerate(known)}
    return {name: rows for name, rows in parts.items() if len(rows)}


def _names(adapter: Names, frame: pd.DataFrame, known: Sequence[str]) -> np.ndarray:
    """(b,) A name for each row, whoever it may be."""
    if isinstance(adapter, str):
        model, column = adapter in known, adapter in frame.columns
        if model and column:
            raise SpecError(
                f"{adapter!r} is both a model and a column of the table: pass table[{adapter!r}] for the "
                "column, or a list of names"
            )
        if column:
            return frame[adapter].to_numpy(dtype=object)
        if not model:
            raise SpecError(
                f"adapter must name a model or a column; {adapter!r} is neither of the models "
                f"{list(known)} nor of the columns {list(frame.columns)}"
                f"{did_you_mean([adapter], [*known, *map(str, frame.columns)])}"
            )
        return np.full(len(frame), adapter, dtype=object)
    names = np.empty(len(adapter), dtype=object)
    names[:] = list(adapter)
    if len(names) != len(frame):
        raise SpecError(
            f"adapter must have one name for each of the {len(frame)} rows, got {len(names)}"
        )
    return names


def _by_schema(
    served: Mapping[str, Fitted], rows: Mapping[str, np.ndarray]
) -> dict[Hashable, list[str]]:
    """Models whose tables have the same form: their rows are brought into it together."""
    alike: dict[Hashable, list[str]] = {}
    for name in rows:
        schema = served[name].schema
        form = (tuple((c.name, c.kind) for c in schema.columns), schema.join_text)
        alike.setdefault(form, []).append(name)
    return alike


def groups_of(
    served: Mapping[str, Fitted],
    frame: pd.DataFrame,
    rows: Mapping[str, np.ndarray],
    root: Path | None,
) -> list[Group]:
    """The rows of every model; of tables all that is frozen is computed. Files are relative to `root`, else to what the
    model was trained with."""
    found = {
        group.name: group
        for names in _by_schema(served, rows).values()
        for group in _opened(names, frame, served, rows, root)
    }
    return [found[name] for name in rows]


def _opened(
    names: Sequence[str],
    frame: pd.DataFrame,
    served: Mapping[str, Fitted],
    rows: Mapping[str, np.ndarray],
    root: Path | None,
) -> list[Group]:
    """The groups of these models, whose schemas take the table for the same; tables' frozen part is computed."""
    every = np.sort(np.concatenate([rows[name] for name in names]))
    whole = len(every) == len(frame)
    try:
        formed = served[names[0]].schema.conform(frame if whole else frame.iloc[every])
    except SchemaError as error:
        if whole:
            raise
        raise SchemaError(
            f"among the {len(every)} rows of {list(names)}, where positions are counted: {error}"
        ) from error
    groups: list[Group] = []
    for name in names:
        fitted, own = served[name], rows[name]
        home = fitted.info.get("root") if root is None else root
        on_error = fitted.info.get("options", {}).get("on_error", "raise")
        reading = Reading(None if home is None else Path(home), fitted.schema.max_files, on_error)
        some = formed.iloc[np.searchsorted(every, own)]
        groups.append(Group(name, own, fitted.feed(some, reading, own)))
    return groups


def _blocks(groups: Sequence[Group]) -> Iterator[_Block]:
    """All rows of all groups, side by side: a block has rows of as few models as may be."""
    block: _Block = []
    free = size = min((group.feed.block for group in groups), default=1)
    for group in groups:
        start = 0
        while start < len(group.rows):
            end = min(start + free, len(group.rows))
            block.append((group, np.arange(start, end)))
            free, start = free - (end - start), end
            if free == 0:
                yield block
                block, free = [], size
    if block:
        yield block


def read(groups: Sequence[Group]) -> Iterator[list[Ready]]:
    """All rows in blocks, read and prepared, those to come in threads."""

    def prepared(block: _Block) -> list[Ready]:
        return [(group, group.feed.read(rows)) for group, rows in block]

    return ahead(prepared, _blocks(groups))


def score(
    served: Mapping[str, Fitted],
    block: Sequence[Ready],
    device: torch.device,
) -> None:
    """Scores of a block's rows, put down at their groups; models of one precision run together."""
    recipes = {served[g.name].training.precision: served[g.name].training for g, _ in block}
    for name, recipe in recipes.items():
        some = [(g, batch) for g, batch in block if served[g.name].training.precision == name]
        parts = [
            Part(served[g.name].model, {s: inputs.to(device) for s, inputs in batch.items()})
            for g, batch in some
        ]
        with precision(recipe, device):
            found = joint_scores(parts)
        for (group, _), scores in zip(some, found, strict=True):
            group.scores.append(scores.cpu())
