"""scikit-learn face of retrieval: find the picture to a sentence, the sentence to a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from multiadapt import processes
from multiadapt.crossmodal._blip import usual_blip
from multiadapt.crossmodal._choice import Backbone, backbone_of
from multiadapt.crossmodal._pairs import Excerpt, distinct
from multiadapt.crossmodal._retrieval import Contrast
from multiadapt.data.schema import Schema, guess_schema
from multiadapt.data.tables import Table
from multiadapt.errors import SchemaError, SpecError
from multiadapt.gather import Source, check_columns, home_of, opened, parted
from multiadapt.methods._base import Method, Training, completed, method_of
from multiadapt.methods._pretrained import check_method
from multiadapt.pair_files import load_retriever, save_retriever
from multiadapt.reports.profile import profiled
from multiadapt.reports.progress import showing
from multiadapt.reranking import candidates, searched, sources_of
from multiadapt.retrieving import FittedRetriever, PairPlan, Protocol, check_beta, fit_pairs
from multiadapt.scoring import device_of
from multiadapt.search import (
    Id,
    VectorIndex,
    build_index,
    check_index,
    open_index,
    plain_id,
    plain_ids,
)
from multiadapt.stopwatch import watching
from multiadapt.tasks._grouped import warn_worse
from multiadapt.training import Session
from multiadapt.types import Column, Kind

__all__ = ["CrossModalRetriever"]

RECIPE = Training(learning_rate=1e-4, weight_decay=0.05, epochs=30, patience=5)
"""UniAdapter's, but for the learning rate of its video half, and an end by patience."""


_COMPARED = ("text", "image", "audio", "video", "vector")
"""Kinds of columns that can find each other."""


class CrossModalRetriever(BaseEstimator):
    """Two columns of a table that find each other: texts and pictures, or any two kinds of files.

    Args:
        method: what is trained in the frozen networks; a spec, or a name such as "uniadapter", "lora",
            "frozen" (the heads alone).
        backbone: a BLIP, CLIP or SigLIP by folder or hub name; or an encoder for each side by modality or
            column, such as {"text": "...", "image": "..."}; or a spec. "starter" is the small one
            inside the package; None: the hub's usual BLIP where there is a network, else the starter.
        training: the recipe.
        contrast: teacher, queue and matching.
        column_types: kinds of the two columns, where they are not to be guessed.
        validation: share of targets held out for early stopping where no rows are given; 0: none.
        on_error: "missing" treats an unreadable file as missing, which a pair must not have: it is left out
            by you, or an error names it.
        max_files: most files in one cell.
        device: "cpu", "cuda" ...; None picks a GPU where there is one.
        memory: gigabytes of frozen computation that may be kept.
    """

    profile_: pd.DataFrame | None = None
    """As `MultimodalClassifier` has it."""

    def __init__(
        self,
        method: str | Method = "uniadapter",
        *,
        backbone: Backbone | None = None,
        training: Training | None = None,
        contrast: Contrast | None = None,
        column_types: Mapping[str, Kind] | None = None,
        seed: int = 0,
        validation: float = 0.1,
        on_error: Literal["raise", "missing"] = "raise",
        max_files: int = 8,
        device: str | None = None,
        memory: float = 4.0,
        verbose: bool = True,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.training = training
        self.contrast = contrast
        self.column_types = column_types
        self.seed = seed
        self.validation = validation
        self.on_error = on_error
        self.max_files = max_files
        self.device = device
        self.memory = memory
        self.verbose = verbose

    def fit(
        self,
        X: Source,
        y: None = None,
        *,
        query: str,
        target: str,
        val_data: Source = None,
        split_column: str | None = None,
        root: str | Path | None = None,
        time_limit: float | None = None,
        resume: str | Path | None = None,
        profile: bool = False,
    ) -> "CrossModalRetriever":
        """Train on a table with one pair a row.

        Rows with the same target, such as five captions of one picture, are each other's matches.

        Args:
            query, target: the two columns.
            val_data: pairs to stop early on.
            split_column: a column whose rows "train" are trained on and "val" validated on.
            root: folder that file paths are relative to; default the table's own.
            time_limit: seconds after which training ends and the best so far is kept.
            resume: file to continue from, written while training.
            profile: tell where the time went, and keep it as `profile_`.
        """
        table = opened(X, root)
        sides = {query: "query", target: "target"}
        split = {} if split_column is None else {split_column: "split"}
        check_columns(table.frame, sides | split)
        if query == target:
            raise SpecError(f"query and target must be two columns, got {query!r} twice")
        train, held = parted(table, split_column, val_data, root)
        if held is not None:
            check_columns(held.frame, sides)
        schema = self._schema(train.frame, query, target, table.root)
        plan = self._plan(schema, query, target, table.root)
        parts = [_conformed(schema, part) for part in (train, held)]
        with processes.together(plan.device), showing(verbose=self.verbose) as tell:
            watch = watching(plan.device, wanted=profile)
            file = Path(resume) if resume else None
            session = Session(time_limit, file, tell=tell, watch=watch)
            self.fitted_ = fit_pairs(plan, cast(Excerpt, parts[0]), parts[1], session=session)
            self.profile_ = profiled(watch, plan.device, plan.training.precision)
        self.fitted_.info["root"] = home_of(table.root)
        return self

    def embed(self, X: Source, side: str, *, root: str | Path | None = None) -> np.ndarray:
        """(b, e) float32, a vector of length 1 of each row's cell, in the rows' order.

        `X` is a table, or a list of cells; `side` is "query" or "target".
        """
        table = self._cells(X, side, root)
        return self._fit().vectors(table.frame, side, table.root)

    def evaluate(
        self,
        X: Source,
        *,
        where: str | None = None,
        k: int = 128,
        beta: float = 1.0,
        zero_shot: bool = True,
        root: str | Path | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """R@1, R@5, R@10, median and mean reciprocal rank, both ways, with 95 % bootstrap intervals.

        Every row tells the pool's size and the protocol.

        Args:
            where: such as "split=test".
            k, beta: the k nearest are ranked by match logit + beta x cosine similarity, where the network
                has a cross-modal part; 0: by similarity alone.
            zero_shot: measure the network as it was before training too; a warning says where training
                made it worse. Networks whose projections are new have no such numbers.
        """
        fitted = self._fit()
        table = opened(X, root, where, fitted.info.get("root"))
        check_columns(table.frame, {fitted.plan.query: "query", fitted.plan.target: "target"})
        frame = fitted.plan.schema.conform(table.frame)
        asked = (frame, table.root, Protocol(k, beta), seed)
        found = fitted.measured(*asked, zero_shot=zero_shot and not fitted.model.new)
        if "zero-shot" in found:
            _warn_worse(found["adapted"], found["zero-shot"])
        tables = [r.table.assign(model=name) for name, both in found.items() for r in both]
        return pd.concat(tables, ignore_index=True).set_index(["way", "metric", "model"])

    def index(
        self,
        X: Source,
        ids: Sequence[Id] | None = None,
        *,
        side: str = "target",
        kind: str = "exact",
        root: str | Path | None = None,
        **options: Any,
    ) -> VectorIndex:
        """The cells of one side in an index that `search` looks through.

        `X` is a table, or a list of cells. Each different cell is kept once, under its own text, or under
        each of its `ids`; without `ids`, cells that are no text, such as arrays, under their rows' labels.
        `kind` is exact, hnsw or ivf (FAISS) or lance (LanceDB), `options` are those of its class. Where
        `search` can rank again, the index keeps texts, or paths and their folder, to read cells again.
        """
        fitted = self._fit()
        check_index(kind, options)
        table = self._cells(X, side, root)
        if len(table.frame) == 0:
            raise SchemaError("there must be at least one cell to put into an index, got none")
        column = fitted.columns(side)
        frame, names = _once(table.frame, column, None if ids is None else list(ids))
        vectors = fitted.vectors(frame, side, table.root)
        sources = sources_of(fitted, names, frame[column], side, table.root)  # type: ignore[arg-type]
        return build_index(
            names, vectors, made_by=fitted.made_by, kind=kind, sources=sources, **options
        )

    def open_index(self, folder: str | Path, *, root: str | Path | None = None) -> VectorIndex:
        """A saved index; one that another model or adapter made is refused.

        `root`: the folder of its cells' files, where they lie in another one than when it was made.
        """
        return open_index(folder, made_by=self._fit().made_by, root=root)

    def search(
        self,
        index: VectorIndex,
        X: Any,
        k: int = 10,
        *,
        side: str = "query",
        rerank: int | None = None,
        beta: float = 1.0,
        root: str | Path | None = None,
    ) -> pd.DataFrame | list[pd.DataFrame]:
        """The k best of the index for a cell (a sentence, a picture or its path), or a frame for each of several.

        A list is several cells: a clip as a list of its pictures stands in a list of its own.

        Best first, with columns `id` and `score`, the cosine similarity. Where they were ranked again, that
        is `similarity`, and `score` is match logit + beta x similarity, or, where no network looks at a
        clip, its similarity with the frames weighed.

        Args:
            side: of which column X is a cell; "target" finds what is like it.
            rerank: so many of the nearest are read again and told apart; each costs about a pass of the
                network. 0: none. None: 32, or k where that is more, where the network can and the index
                knows its cells.
        """
        fitted = self._fit()
        if index.made_by != fitted.made_by:
            raise SpecError(
                "the index holds vectors of another model or adapter; make it again with index()"
            )
        fitted.columns(side)
        check_beta(beta)
        several = isinstance(X, pd.DataFrame) or _listed(X)
        table = self._cells(X if several else [X], side, root)
        most = (k, candidates(fitted, index, side, rerank, k))
        found = searched(fitted, index, table.frame, side, table.root, most, beta)
        return found if several else found[0]

    def save(self, folder: str | Path) -> None:
        """Write the trained tensors and what is needed to use them; frozen networks are named, not copied."""
        save_retriever(self._fit(), folder)

    @staticmethod
    def load(
        folder: str | Path,
        *,
        backbone: Backbone | None = None,
        device: str | None = None,
    ) -> "CrossModalRetriever":
        """A saved retriever; `backbone` names another place of its network, or of its encoders by modality
        or column."""
        fitted = load_retriever(folder, device_of(device), backbone)
        plan = fitted.plan
        model = CrossModalRetriever(
            plan.method,
            backbone=plan.backbone,
            training=plan.training,
            contrast=plan.contrast,
            column_types={c.name: c.kind for c in plan.schema.columns},
            seed=plan.seed,
            validation=plan.validation,
            on_error=plan.on_error,
            max_files=plan.schema.max_files,
            device=device,
            memory=plan.memory,
        )
        model.fitted_ = fitted
        return model

    def _cells(self, X: Any, side: str, root: str | Path | None) -> Table:
        """A table with one side's column; a list of cells becomes one, its files relative to the current folder."""
        column = self._fit().columns(side)
        if _listed(X):
            cells = X if isinstance(X, pd.Series) else pd.Series(list(X), dtype=object)
            home = Path.cwd() if root is None else root
            return opened(cells.rename(column).to_frame(), home)
        table = opened(X, root, home=self._fit().info.get("root"))
        check_columns(table.frame, {column: side})
        return Table(table.frame.filter([column]), table.root)

    def _schema(self, frame: pd.DataFrame, query: str, target: str, root: Path | None) -> Schema:
        """Of the two columns. What is neither a file nor a vector is read as text."""
        own = cast(pd.DataFrame, frame[[query, target]])
        types = dict(self.column_types or {})
        if unknown := sorted(types.keys() - {query, target}):
            raise SchemaError(f"column_types names {unknown}; a retriever reads {[query, target]}")
        guessed = guess_schema(own, root=root, column_types=types, max_files=self.max_files)
        columns = tuple(
            column if column.kind in _COMPARED else _as_text(column, declared=column.name in types)
            for column in guessed.columns
        )
        return replace(guessed, columns=columns)

    def _plan(self, schema: Schema, query: str, target: str, root: Path | None) -> PairPlan:
        if not 0 <= self.validation < 1:
            raise SpecError(f"validation must be in 0..1, below 1, got {self.validation}")
        method = method_of(self.method)
        check_method(method)
        on_error: Any = self.on_error
        return PairPlan(
            method,
            backbone_of(usual_blip("retrieval") if self.backbone is None else self.backbone),
            self.contrast or Contrast(),
            completed(self.training, RECIPE),
            schema,
            query,
            target,
            root,
            self.seed,
            self.validation,
            on_error,
            device_of(self.device),
            self.memory,
        )

    def _fit(self) -> FittedRetriever:
        if not hasattr(self, "fitted_"):
            raise NotFittedError("this retriever is not fitted yet; call fit or load first")
        return self.fitted_


def _once(frame: pd.DataFrame, column: str, ids: list[Id] | None) -> tuple[pd.DataFrame, list[Id]]:
    """The first rows of different cells, each id's apart, and what they are called.

    CellError: one id stands for two cells.
    """
    cells = frame[column]
    first, which = distinct(cells)
    if ids is None:
        texts = all(isinstance(cell, (str, PathLike)) for cell in cells)
        names = [fspath(cells.iloc[i]) if texts else frame.index[i] for i in first]
        return frame.iloc[first], plain_ids(names)
    if len(ids) != len(frame):
        raise SpecError(f"each cell needs an id, got {len(ids)} ids for {len(frame)} cells")
    rows: dict[tuple[Id, int], int] = {}
    for row, (name, cell) in enumerate(zip(ids, which, strict=True)):
        rows.setdefault((plain_id(name, row), cell), row)
    return frame.iloc[list(rows.values())], plain_ids([name for name, _ in rows])


def _listed(X: Any) -> bool:
    """Whether it is several cells, not a table, nor one cell such as the array of a picture."""
    if isinstance(X, np.ndarray):  # of texts or paths, as `unique()` gives them
        return X.ndim == 1 and X.dtype.kind in "OU"
    return isinstance(X, (list, tuple, pd.Series, pd.Index, pd.api.extensions.ExtensionArray))


def _as_text(column: Column, *, declared: bool) -> Column:
    if declared:
        raise SchemaError(
            f"column {column.name!r} must hold texts or files to be searched, it is declared as "
            f"{column.kind}"
        )
    return Column(column.name, "text", f"read as text; else it would be {column.kind}")


def _conformed(schema: Schema, rows: Excerpt | None) -> Excerpt | None:
    return None if rows is None else Excerpt(schema.conform(rows.frame), rows.places)


def _warn_worse(adapted: Any, before: Any) -> None:
    """A warning where training made retrieval worse."""
    for one, other in zip(adapted, before, strict=True):
        warn_worse(f"{one.way}: R@1", one.estimates["r@1"].value, other.estimates["r@1"].value)
