"""From a table of pairs to a fitted retriever, and what it says of cells of either side."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._pairs import Excerpt, PairFeed, Pairs, paired
from multiadapt.crossmodal._retrieval import Contrast, RetrievalModel
from multiadapt.data.bad_cells import missing_cells
from multiadapt.data.digest import table_digest
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema
from multiadapt.data.splits import holdout
from multiadapt.errors import CellError, SchemaError, SpecError
from multiadapt.feed import Feed
from multiadapt.methods._base import Method, Training
from multiadapt.tasks._retrieval_metrics import (
    Retrieved,
    best_ranks,
    measured,
    ranks_both_ways,
    relevance,
)
from multiadapt.training import Data, Session, train

_log = logging.getLogger("multiadapt")

__all__ = ["FittedRetriever", "PairPlan", "Protocol", "fit_pairs", "model_of"]


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


@dataclass
class FittedRetriever:
    """A fitted retriever with everything it needs to read new cells."""

    plan: PairPlan
    model: RetrievalModel
    info: dict[str, Any] = field(default_factory=dict)

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
            int(self.plan.memory * 1e9 / 2), places,
        )  # fmt: skip

    def paired(self, pairs: Pairs, reading: Reading) -> PairFeed:
        """Both sides, read and as far computed as they are frozen."""
        feeds = (
            self.feed(pairs.queries, "query", reading, pairs.places[0]),
            self.feed(pairs.targets, "target", reading, pairs.places[1]),
        )
        for feed in feeds:
            feed.keep()
            feed.say_remarks()
        return PairFeed(*feeds, pairs)

    def vectors(
        self, frame: pd.DataFrame, side: str, root: Path | None
    ) -> Float[np.ndarray, "b e"]:
        """A vector of length 1 of every row's cell."""
        reading = Reading(root, self.plan.schema.max_files, self.plan.on_error)
        feed = self.feed(frame, side, reading)
        found = _vectors(self.model, feed)
        reading.finish()
        _check_side(feed)
        return found

    def measure(
        self, frame: pd.DataFrame, root: Path | None, protocol: Protocol, seed: int
    ) -> tuple[Retrieved, Retrieved]:
        """How well queries find their targets in this table, and targets their queries."""
        if len(frame) == 0:
            raise SchemaError("there must be at least one pair to measure retrieval on, got none")
        reading = Reading(root, self.plan.schema.max_files, self.plan.on_error)
        feeds = self.paired(self.plan.paired(Excerpt.whole(frame)), reading)
        reading.finish()
        _check_whole(feeds)
        return self._measured(feeds, protocol, seed)

    def _measured(
        self, feeds: PairFeed, protocol: Protocol, seed: int
    ) -> tuple[Retrieved, Retrieved]:
        pairs = feeds.pairs
        near = _vectors(self.model, feeds.queries) @ _vectors(self.model, feeds.targets).T
        forward, backward, note = near, near.T, "cosine similarity"
        if self.model.matches and protocol.k > 0:
            forward = _matched(self.model, feeds, near, protocol, turned=False)
            backward = _matched(self.model, feeds, near, protocol, turned=True)
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

    def base(self) -> "FittedRetriever":
        """The same network as it was before training."""
        return FittedRetriever(self.plan, model_of(self.plan, self.model.rows), self.info)

    @property
    def made_by(self) -> str:
        """A hash of network and adapter, by which an index knows whose vectors it holds."""
        told = hashlib.sha256()
        for stream in self.model.streams:
            told.update(self.model.encoder(stream).origin().sha256.encode())
        for name, tensor in sorted(self.model.trained_state().items()):
            told.update(name.encode())
            told.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return told.hexdigest()


def fit_pairs(
    plan: PairPlan, rows: Excerpt, held: Excerpt | None, *, session: Session
) -> FittedRetriever:
    """Train on pairs; some targets are held out to stop early on where no rows for that are given."""
    _check_several(rows, plan, "to fit")
    if held is not None:
        _check_several(held, plan, "to stop early on")
    elif plan.validation > 0:
        rows, held = _divided(plan, rows)
    model = model_of(plan, len(rows))
    fitted = FittedRetriever(plan, model)
    reading = Reading(plan.root, plan.schema.max_files, plan.on_error)
    parts = [rows] if held is None else [rows, held]
    feeds = [fitted.paired(plan.paired(part), reading) for part in parts]
    reading.finish()
    for feed in feeds:
        _check_whole(feed)
    if plan.training.normalize and model.new:
        _standardize(feeds[0])
    data = [Data(f, f.pairs.ids, torch.ones(len(f))) for f in feeds]
    identity = _identity(plan, model, [part.frame for part in parts])
    history = train(
        model,
        data[0],
        data[1] if held is not None else None,
        plan.training,
        seed=plan.seed,
        measure=_recall(feeds[1].pairs) if held is not None else None,
        session=replace(session, identity=identity),
    )
    model.eval()
    fitted.info = {
        "rows": len(rows),
        "validation_rows": 0 if held is None else len(held),
        "history": {**asdict(history), "epochs": list(history.epochs)},
    }
    return fitted


def model_of(plan: PairPlan, rows: int) -> RetrievalModel:
    streams = {s.name: s for s in plan.schema.streams()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        joint = plan.backbone.open([streams[plan.query], streams[plan.target]])
        model = RetrievalModel(joint, plan.method, plan.contrast, rows)
    return model.to(plan.device).eval()


def _divided(plan: PairPlan, rows: Excerpt) -> tuple[Excerpt, Excerpt | None]:
    """Rows that share a query or a target stay on one side. Nothing is held out where too few would be:
    among pairs of one target nothing can be mistaken."""
    pairs = plan.paired(rows)
    if len(np.unique(pairs.groups)) > 1:
        share = {"fraction": plan.validation, "seed": plan.seed, "groups": pairs.groups}
        kept, held = (rows.take(at) for at in holdout(len(rows), **share))
        if _several(kept, plan) and _several(held, plan):
            return kept, held
    _log.warning(
        "these %d pairs are too few to hold some out: training ends after %d epochs, whatever it has "
        "learned; give val_data",
        len(rows),
        plan.training.epochs,
    )
    return rows, None


def _several(rows: Excerpt, plan: PairPlan) -> bool:
    """Whether something can be mistaken: there are two queries and two targets."""
    pairs = plan.paired(rows)
    return min(len(pairs.queries), len(pairs.targets)) > 1


def _check_several(rows: Excerpt, plan: PairPlan, what: str) -> None:
    if not _several(rows, plan):
        pairs = plan.paired(rows)
        raise SchemaError(
            f"a table {what} must have at least 2 different queries and targets, got {len(rows)} rows with "
            f"{len(pairs.queries)} and {len(pairs.targets)}"
        )


def _check_whole(feeds: PairFeed) -> None:
    _check_side(feeds.queries)
    _check_side(feeds.targets)


def _check_side(feed: Feed) -> None:
    """CellError: cells of this side are missing, named by their rows."""
    (name,) = feed.encoders
    if bad := feed.missing(name):
        raise CellError(
            f"a pair must have both of its sides, {len(bad)} cells of {name!r} are missing:\n"
            f"{missing_cells(bad)}\nLeave these rows out"
        )


def _standardize(feed: PairFeed) -> None:
    """Every frozen vector, by statistics of the training rows' distinct cells."""
    for side in (feed.queries, feed.targets):
        for name, encoder in side.encoders.items():
            encoder.pooled.fit(side.pooled(name).to(side.device))


def _vectors(model: RetrievalModel, feed: Feed) -> Float[np.ndarray, "b e"]:
    model.eval()
    with torch.inference_mode():
        found = [
            model.vectors(model.tokens(batch))[:, 0].float().cpu()
            for batch in feed.batches(feed.in_order())
        ]
    return torch.cat(found).numpy() if found else np.zeros((0, 0), np.float32)


_PICTURES, _PAIRS = 32, 64
"""Pictures that are looked at while they are in memory, and pairs that are matched at once."""


def _matched(
    model: RetrievalModel, feeds: PairFeed, near: np.ndarray, protocol: Protocol, *, turned: bool
) -> Float[np.ndarray, "q t"]:
    """Scores that rank each one's nearest by the cross-modal pass, and all others behind, as before.

    Pictures are encoded once each, a few at a time, whoever has them among the nearest.
    """
    near = (near.T if turned else near).astype(np.float64)
    k = min(protocol.k, near.shape[1])
    nearest = np.argpartition(-near, k - 1, axis=1)[:, :k]
    asking, asked = np.repeat(np.arange(len(near)), k), nearest.ravel()
    first_is_text = (model.streams[0] == model.texts) != turned
    texts, pictures = (asking, asked) if first_is_text else (asked, asking)
    sides = {model.streams[0]: feeds.queries, model.streams[1]: feeds.targets}
    logit = _logits(model, sides[model.texts], sides[model.seen], texts, pictures).reshape(-1, k)
    told = logit + protocol.beta * np.take_along_axis(near, nearest, axis=1)
    scores = (
        near + told.min(1, keepdims=True) - near.max(1, keepdims=True) - 1
    )  # behind the matched
    np.put_along_axis(scores, nearest, told, axis=1)
    return scores


def _logits(
    model: RetrievalModel, texts: Feed, pictures: Feed, text: np.ndarray, picture: np.ndarray
) -> Float[np.ndarray, " p"]:
    """The cross-modal pass's logit of a match, of each text with its picture."""
    found = np.zeros(len(text))
    blocks = pictures.in_order(_PICTURES)
    with torch.inference_mode():
        for block, seen in zip(blocks, pictures.batches(blocks), strict=True):
            sight = model.sight(model.tokens(seen))
            own = np.flatnonzero((picture >= block[0]) & (picture <= block[-1]))
            parts = [own[i : i + _PAIRS] for i in range(0, len(own), _PAIRS)]
            for part, read in zip(parts, texts.batches([text[p] for p in parts]), strict=True):
                there = torch.from_numpy(picture[part] - block[0]).to(sight.x.device)
                pair = model.matched(read[model.texts], sight.rows(there)).float()
                found[part] = pair[:, 1].cpu().numpy()
    return found


def _recall(pairs: Pairs) -> Any:
    """Mean R@1 of both ways, from the vectors of the rows of these pairs."""
    there = relevance(pairs.relevant, len(pairs.targets))
    rows = np.arange(len(pairs))[::-1]
    first = [np.zeros(n, dtype=np.int64) for n in (len(pairs.queries), len(pairs.targets))]
    first[0][pairs.query[::-1]], first[1][pairs.target[::-1]] = rows, rows

    def measure(scores: np.ndarray) -> float:
        both = scores.reshape(len(scores), 2, -1)
        near = both[first[0], 0] @ both[first[1], 1].T
        ranks = ranks_both_ways(near, there)
        return float(np.mean([(r == 1).mean() for r in ranks]))

    return measure


def _identity(plan: PairPlan, model: RetrievalModel, parts: list[pd.DataFrame]) -> str:
    told: list[Any] = [plan.method.to_dict(), plan.backbone.to_dict(), plan.contrast.to_dict()]
    told += [plan.schema.to_dict(), plan.query, plan.target]
    told += [model.encoder(s).origin().sha256 for s in model.streams]
    told += [table_digest(part) for part in parts]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
