"""From a table of pairs to a fitted retriever, and what it says of cells of either side."""

import hashlib
import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from multiadapt.adapted import trained_bytes
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._frames import middle
from multiadapt.crossmodal._known import Known
from multiadapt.crossmodal._matching import all_near, logits, near_of, points_of, two_stage
from multiadapt.crossmodal._pairs import CellFeed, Excerpt, PairFeed, Pairs, paired
from multiadapt.crossmodal._retrieval import Contrast, RetrievalModel
from multiadapt.data.bad_cells import missing_cells
from multiadapt.data.digest import table_digest
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema
from multiadapt.data.splits import holdout
from multiadapt.errors import CellError, SchemaError, SpecError
from multiadapt.feed import Feed
from multiadapt.methods._base import Method, Training
from multiadapt.stopwatch import NoWatch, Watch
from multiadapt.tasks._retrieval_metrics import (
    Retrieved,
    Scores,
    best_ranks,
    measured,
    ranks_both_ways,
    relevance,
)
from multiadapt.training import Data, Session, train

_log = logging.getLogger("multiadapt")

__all__ = ["FittedRetriever", "PairPlan", "Protocol", "check_beta", "fit_pairs", "model_of"]


@dataclass(frozen=True)
class Protocol:
    """How retrieval is measured."""

    k: int = 128
    """So many of the nearest are told apart by the cross-modal pass, where there is one; 0: none."""
    beta: float = 1.0
    """Weight of the similarity beside the cross-modal pass's logit of a match."""

    def __post_init__(self) -> None:
        if self.k < 0:
            raise SpecError(f"k must be at least 0, got {self.k}")
        check_beta(self.beta)


def check_beta(beta: float) -> None:
    """SpecError: no number that scores could be made with."""
    if not math.isfinite(beta):
        raise SpecError(f"beta must be finite, got {beta}")


@dataclass(frozen=True)
class PairPlan:
    """Everything about a fit of pairs that is not rows."""

    method: Method
    backbone: BackboneSpec
    contrast: Contrast
    training: Training
    schema: Schema
    """Of the query's and the target's column alone."""
    query: str
    target: str
    root: Path | None
    seed: int
    validation: float
    """Share of targets that are held out where no validation rows are given."""
    on_error: Literal["raise", "missing"]
    device: torch.device
    memory: float

    def paired(self, rows: Excerpt) -> Pairs:
        return paired(rows, self.query, self.target)


_Asked: TypeAlias = tuple[Feed, Int[np.ndarray, " p"], Any]
"""Rows of one side, which of them each pair asks for, and what all are compared by."""


@dataclass
class FittedRetriever:
    """A fitted retriever with everything it needs to read new cells."""

    plan: PairPlan
    model: RetrievalModel
    info: dict[str, Any] = field(default_factory=dict)
    watch: Watch = field(default_factory=NoWatch)
    """Told where the time of the fit goes."""

    def columns(self, side: str) -> str:
        if side not in ("query", "target"):
            raise SpecError(
                f"side must be 'query' ({self.plan.query!r}) or 'target' ({self.plan.target!r}), got "
                f"{side!r}"
            )
        return self.plan.query if side == "query" else self.plan.target

    def feed(
        self,
        frame: pd.DataFrame,
        side: str,
        reading: Reading,
        places: Int[np.ndarray, " b"] | None = None,
    ) -> Feed:
        """Of one side's column; `places` tell where the rows stand in the caller's table."""
        column = self.columns(side)
        encoder = {column: self.model.encoder(column)}
        return Feed(
            encoder, frame, reading, self.model.cuts(), self.plan.device, {},
            int(self.plan.memory * 1e9 / 2), places, watch=self.watch,
        )  # fmt: skip

    def paired(self, pairs: Pairs, reading: Reading) -> PairFeed:
        """Both sides, read and as far computed as they are frozen."""
        feeds = (
            self.feed(pairs.queries, "query", reading, pairs.places[0]),
            self.feed(pairs.targets, "target", reading, pairs.places[1]),
        )
        for feed in feeds:
            feed.keep()
            feed.reader.say_remarks()
        return PairFeed(*feeds, pairs)

    def vectors(
        self, frame: pd.DataFrame, side: str, root: Path | None
    ) -> Float[np.ndarray, "b e"]:
        """A vector of length 1 of every row's cell; of a clip that of its frames' mean."""
        reading = Reading(root, self.plan.schema.max_files, self.plan.on_error)
        feed = self.feed(frame, side, reading)
        found = middle(points_of(self.model, feed)).numpy()
        reading.finish()
        _check_side(feed)
        return found

    def kept(self, frame: pd.DataFrame, side: str, root: Path | None) -> Feed:
        """Cells of one side, none missing, as far computed as they are frozen: to be read repeatedly."""
        reading = Reading(root, self.plan.schema.max_files, self.plan.on_error)
        feed = self.feed(frame, side, reading)
        feed.keep()
        reading.finish()
        _check_side(feed)
        return feed

    def told_apart(
        self, asked: _Asked, cells: Feed, cell: Int[np.ndarray, " p"], near: Float[np.ndarray, " p"],
        beta: float,
    ) -> Float[np.ndarray, " p"]:  # fmt: skip
        """How well pairs of rows of both sides fit, `near` being the similarities of their vectors: match
        logit + beta x near; or, where nothing looks at a clip, the similarity of its weighed frames."""
        if not self.model.matches:
            return near_of(asked[2], asked[1], points_of(self.model, cells), cell)
        looked = self.model.texts in asked[0].encoders
        other: _Asked = (cells, cell, None)
        return self._logits(*((asked, other) if looked else (other, asked))) + beta * near

    def measured(
        self,
        frame: pd.DataFrame,
        root: Path | None,
        protocol: Protocol,
        seed: int,
        *,
        zero_shot: bool,
    ) -> dict[str, tuple[Retrieved, Retrieved]]:
        """How well queries find their targets in this table, and targets their queries: "adapted" and, if
        wanted, as it was before training. One network that is both reads and computes its frozen part once."""
        feeds: PairFeed | None = self._read(frame, root)
        found = {"adapted": self._measured(feeds, protocol, seed)}
        if zero_shot:
            feeds = feeds if self.model.reversible else None  # memory for those of another network
            with self.base() as base:
                found["zero-shot"] = base._measured(
                    feeds or base._read(frame, root), protocol, seed
                )
        return found

    def _read(self, frame: pd.DataFrame, root: Path | None) -> PairFeed:
        """Pairs to measure on, all whole."""
        if len(frame) == 0:
            raise SchemaError("there must be at least one pair to measure retrieval on, got none")
        reading = Reading(root, self.plan.schema.max_files, self.plan.on_error)
        feeds = self.paired(self.plan.paired(Excerpt.whole(frame)), reading)
        reading.finish()
        _check_whole(feeds)
        return feeds

    def _measured(
        self, feeds: PairFeed, protocol: Protocol, seed: int
    ) -> tuple[Retrieved, Retrieved]:
        pairs = feeds.pairs
        points = [points_of(self.model, feed) for feed in (feeds.queries, feeds.targets)]
        near = all_near(*points)
        forward: Scores = near
        backward: Scores = near.T
        weighed = self.model.clips is not None and not self.model.matches
        note = "cosine similarity" + (", frames weighed" if weighed else "")
        if self.model.matches and protocol.k > 0:
            feed = (feeds.queries, feeds.targets)
            first = self.model.streams.index(self.model.texts)

            def tell(*pair: np.ndarray) -> np.ndarray:
                sides = [(feed[i], pair[i], points[i]) for i in (first, 1 - first)]
                return self._logits(*sides)

            forward, backward = two_stage(near, protocol.k, protocol.beta, tell)
            k = min(protocol.k, max(near.shape))
            note = f"the nearest {k} by match logit + {protocol.beta:g} x cosine similarity"
        there = relevance(pairs.relevant, len(pairs.targets))
        back = there.turned()
        words = (self.plan.query, self.plan.target)
        return (
            measured(
                best_ranks(forward, there), there.pool, way=" to ".join(words),
                groups=pairs.of_side[0].tolist(), note=note, seed=seed,
            ),
            measured(
                best_ranks(backward, back), back.pool, way=" to ".join(words[::-1]),
                groups=pairs.of_side[1].tolist(), note=note, seed=seed,
            ),
        )  # fmt: skip

    def _logits(self, texts: _Asked, pictures: _Asked) -> Float[np.ndarray, " p"]:
        return logits(self.model, texts[0], pictures[0], texts[1], pictures[1], texts[2])

    @contextmanager
    def base(self) -> Iterator["FittedRetriever"]:
        """Inside, the same network as it was before training; opened anew only where training changed its own
        parameters."""
        if self.model.reversible and not self.model.new:
            with self.model.before() as model:
                yield FittedRetriever(self.plan, model, self.info)
        else:
            yield FittedRetriever(self.plan, model_of(self.plan, self.model.rows), self.info)

    @cached_property
    def made_by(self) -> str:
        """A hash of network and adapter, by which an index knows whose vectors it holds. Taken once: a
        fitted retriever stays as it is."""
        told = hashlib.sha256()
        for stream in self.model.streams:
            told.update(self.model.encoder(stream).origin().sha256.encode())
        for part in trained_bytes(self.model):
            told.update(part)
        return told.hexdigest()


def fit_pairs(
    plan: PairPlan, rows: Excerpt, held: Excerpt | None, *, session: Session
) -> FittedRetriever:
    """Train on pairs; some targets are held out to stop early on where no rows for that are given."""
    parts = [Part(rows, plan.paired(rows))]
    _check_several(parts[0], "to fit")
    if held is not None:
        parts.append(Part(held, plan.paired(held)))
        _check_several(parts[1], "to stop early on")
    elif plan.validation > 0:
        parts = _divided(plan, parts[0])
    watch = session.watch
    with watch.stage("before", sum(len(part.rows) for part in parts)):
        with watch.part("opening"):
            model = model_of(plan, len(parts[0].rows))
        fitted = FittedRetriever(plan, model, watch=watch)
        reading = Reading(plan.root, plan.schema.max_files, plan.on_error)
        feeds = [fitted.paired(part.pairs, reading) for part in parts]
        reading.finish()
        for feed in feeds:
            _check_whole(feed)
        if plan.training.normalize and model.new:
            _standardize(feeds[0])
    model.known = Known(feeds[0].pairs.ids).to(plan.device)
    identity = _identity(plan, model, [part.rows.frame for part in parts])
    history = train(
        model,
        _data(feeds[0], feeds[0].pairs),
        _data(CellFeed(feeds[1]), feeds[1].pairs) if feeds[1:] else None,
        plan.training,
        seed=plan.seed,
        measure=_recall(model, feeds[1].pairs) if feeds[1:] else None,
        session=replace(session, identity=identity),
    )
    model.eval()
    model.forget()
    fitted.watch = NoWatch()
    fitted.info = {
        "rows": len(parts[0].rows),
        "validation_rows": sum(len(part.rows) for part in parts[1:]),
        "history": {**asdict(history), "epochs": list(history.epochs)},
    }
    return fitted


def _data(feed: PairFeed | CellFeed, pairs: Pairs) -> Data:
    return Data(feed, pairs.ids, torch.ones(len(pairs)))


def model_of(plan: PairPlan, rows: int) -> RetrievalModel:
    streams = {s.name: s for s in plan.schema.streams()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        joint = plan.backbone.open([streams[plan.query], streams[plan.target]])
        model = RetrievalModel(joint, plan.method, plan.contrast, rows)
    return model.to(plan.device).eval()


@dataclass(frozen=True)
class Part:
    """Rows of a table, and the pairs that they are."""

    rows: Excerpt
    pairs: Pairs


def _divided(plan: PairPlan, whole: Part) -> list[Part]:
    """Rows that share a query or a target stay on one side. Nothing is held out where too few would be:
    among pairs of one target nothing can be mistaken."""
    rows, pairs = whole.rows, whole.pairs
    if len(np.unique(pairs.groups)) > 1:
        share = {"fraction": plan.validation, "seed": plan.seed, "groups": pairs.groups}
        parts = [Part(rows.take(at), pairs.take(at)) for at in holdout(len(rows), **share)]
        if all(part.pairs.several for part in parts):
            return parts
    _log.warning(
        "these %d pairs are too few to hold some out: training ends after %d epochs, whatever it has "
        "learned; give val_data",
        len(rows),
        plan.training.epochs,
    )
    return [whole]


def _check_several(part: Part, what: str) -> None:
    if not part.pairs.several:
        raise SchemaError(
            f"a table {what} must have at least 2 different queries and targets, got {len(part.rows)} rows "
            f"with {len(part.pairs.queries)} and {len(part.pairs.targets)}"
        )


def _check_whole(feeds: PairFeed) -> None:
    for feed in (feeds.queries, feeds.targets):
        _check_side(feed, "a pair must have both of its sides")


def _check_side(feed: Feed, what: str = "what is compared must not be missing") -> None:
    """CellError: cells of this side are missing, named by their rows."""
    (name,) = feed.encoders
    if bad := feed.reader.missing(name):
        raise CellError(
            f"{what}, {len(bad)} cells of {name!r} are missing:\n"
            f"{missing_cells(bad)}\nLeave these rows out"
        )


def _standardize(feed: PairFeed) -> None:
    """Every frozen vector, by statistics of the training rows' distinct cells."""
    for side in (feed.queries, feed.targets):
        for name, encoder in side.encoders.items():
            encoder.pooled.fit(side.pooled(name).to(side.device))


def _recall(model: RetrievalModel, pairs: Pairs) -> Any:
    """Mean R@1 of both ways, from what the different queries and targets of these pairs are compared by."""
    there = relevance(pairs.relevant, len(pairs.targets))

    def measure(scores: np.ndarray) -> float:
        near = model.compared(torch.from_numpy(scores), len(pairs.queries)).numpy()
        ranks = ranks_both_ways(near, there)
        return float(np.mean([(r == 1).mean() for r in ranks]))

    return measure


def _identity(plan: PairPlan, model: RetrievalModel, parts: list[pd.DataFrame]) -> str:
    told: list[Any] = [plan.method.to_dict(), plan.backbone.to_dict(), plan.contrast.to_dict()]
    told += [plan.schema.to_dict(), plan.query, plan.target]
    told += [model.encoder(s).origin().sha256 for s in model.streams]
    told += [table_digest(part) for part in parts]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
