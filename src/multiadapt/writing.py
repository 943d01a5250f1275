"""From a table of pictures or clips and texts to a fitted writer, and what it writes of new rows."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from multiadapt.adapted import Adapted, trained_bytes
from multiadapt.attach import resting
from multiadapt.crossmodal._adopt import Donor, adopt
from multiadapt.crossmodal._answering import AnsweringModel
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._blip import open_blip
from multiadapt.crossmodal._captioning import CaptioningModel
from multiadapt.crossmodal._pairs import Excerpt, SharedFeed, distinct
from multiadapt.crossmodal._texts import said, shares
from multiadapt.crossmodal._writing import DECODER, Decoding, WritingModel
from multiadapt.crossmodal.blip import Blip
from multiadapt.data.bad_cells import BadCell, missing_cells
from multiadapt.data.digest import table_digest
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema, guess_schema
from multiadapt.data.splits import holdout
from multiadapt.errors import CellError, SchemaError, SpecError
from multiadapt.feed import Feed
from multiadapt.methods._base import Method, Training
from multiadapt.methods._pretrained import check_method
from multiadapt.scoring import scores
from multiadapt.stopwatch import NoWatch, Watch
from multiadapt.tasks._answer_metrics import Answered, normalised
from multiadapt.tasks._caption_metrics import Captioned
from multiadapt.tasks._grouped import warn_worse
from multiadapt.training import Data, Session, train
from multiadapt.types import Inputs, Kind

__all__ = [
    "RECIPE",
    "Base",
    "FittedWriter",
    "WritingPlan",
    "blip_of",
    "demand",
    "fit_texts",
    "frames_note",
    "model_of",
    "schema_of",
    "table_of",
    "warn_outside",
]

RECIPE = Training(learning_rate=1e-4, weight_decay=0.05, epochs=30, batch_size=16, patience=5)
"""UniAdapter's, but for the learning rate of its video half, and an end by patience."""
Base: TypeAlias = Literal["same", "other"]
_RESERVED = {"fusion", DECODER}

_log = logging.getLogger("multiadapt")


@dataclass(frozen=True)
class WritingPlan:
    """Everything about a fit that is not rows."""

    method: Method
    backbone: BackboneSpec
    training: Training
    schema: Schema
    """Of the column that is looked at and, for answers, the question's."""
    shown: str
    """The column of pictures or clips."""
    question: str | None
    """None: captions are written."""
    text: str
    """The column of what is to be written."""
    prompt: str
    """What every caption begins with."""
    smoothing: float
    answers: tuple[str, ...] | None
    """Those that are ranked; None: there is no list."""
    root: Path | None
    seed: int
    validation: float
    """Share of pictures or clips that are held out where no validation rows are given."""
    on_error: Literal["raise", "missing"]
    device: torch.device
    memory: float

    @property
    def kind(self) -> Literal["image", "video"]:
        """What the column that is looked at holds."""
        kinds: dict[str, Any] = {column.name: column.kind for column in self.schema.columns}
        return kinds[self.shown]

    @property
    def roles(self) -> dict[str, str]:
        """The columns that are read, and what each is for."""
        read: dict[str, str] = {self.shown: self.kind}
        return read if self.question is None else {**read, self.question: "question"}

    def options(self) -> dict[str, Any]:
        """What an estimator of either kind was given."""
        kept = ("method", "backbone", "training", "seed", "validation", "on_error", "memory")
        return {**{n: getattr(self, n) for n in kept}, "max_files": self.schema.max_files}

    def check(self) -> None:
        """SpecError, SchemaError: an option is out of its range, a column has a name that is taken."""
        check_method(self.method, "an answerer's or a captioner's")
        if not 0 <= self.validation < 1:
            raise SpecError(f"validation must be in 0..1, below 1, got {self.validation}")
        if not 0 <= self.smoothing < 1:
            raise SpecError(f"smoothing must be in 0..1, below 1, got {self.smoothing}")
        columns = [c for c in (self.shown, self.question, self.text) if c is not None]
        if len(set(columns)) < len(columns):
            raise SpecError(f"each role needs a column of its own, got {columns}")
        if taken := sorted(_RESERVED & set(columns)):
            raise SchemaError(
                f"columns must not be called {taken}, as parts of the network are: rename them"
            )

    @property
    def several(self) -> bool:
        """Whether a cell may hold the texts of several people."""
        return self.question is not None


@dataclass
class FittedWriter:
    """A fitted writer with everything it needs to read new rows."""

    plan: WritingPlan
    model: WritingModel
    info: dict[str, Any] = field(default_factory=dict)
    watch: Watch = field(default_factory=NoWatch)
    """Told where the time of the fit goes."""

    def feed(
        self, rows: Excerpt, root: Path | None, texts: list[list[str]] | None = None
    ) -> SharedFeed:
        """Rows read and checked: CellError names those that lack what is looked at or asked."""
        reading = Reading(root, self.plan.schema.max_files, self.plan.on_error)
        sides = [self._side(rows, stream, reading) for stream in self.model.reads]
        for feed, _ in sides:
            feed.keep()
        reading.finish()
        for feed, _ in sides:
            (name,) = feed.encoders
            demand(name, feed.reader.missing(name))
            feed.reader.say_remarks()
        return SharedFeed(sides, None if texts is None else {DECODER: self._texts(texts)})

    def _side(
        self, rows: Excerpt, stream: str, reading: Reading
    ) -> tuple[Feed, Int[np.ndarray, " b"]]:
        first, which = distinct(rows.frame[stream])
        feed = Feed(
            {stream: self.model.reads[stream]}, rows.frame.filter([stream]).iloc[first], reading,
            self.model.cuts(), self.plan.device, {}, int(self.plan.memory * 1e9), rows.places[first],
            watch=self.watch,
        )  # fmt: skip
        return feed, which

    def _texts(self, rows: list[list[str]]) -> Inputs:
        found = self.model.writer.prepare(*shares(rows))
        for what, items in found.notes:
            _log.warning("%s: %d %s", self.plan.text, items, what)
        return found

    def losses(
        self, frame: pd.DataFrame, root: Path | None, texts: list[list[str]]
    ) -> Float[np.ndarray, " b"]:
        """How unlikely each row's texts are."""
        return scores(self.model, self.feed(Excerpt.whole(frame), root, texts), self.plan.training)[
            :, 0
        ]

    def written(self, frame: pd.DataFrame, root: Path | None, decoding: Decoding) -> list[str]:
        """A text of each row; with nucleus every batch of rows draws anew from the seed."""
        decoding.fit_into(self.model.writer.room)
        if len(frame) == 0:
            return []
        feed = self.feed(Excerpt.whole(frame), root)
        self.model.eval()
        found: list[str] = []
        for i, batch in enumerate(feed.batches(feed.in_order())):
            with torch.no_grad():
                seen = self.model.sight(batch)
            found += self.model.writer.written(seen, replace(decoding, seed=decoding.seed + i))
        return found

    def ranked(
        self, frame: pd.DataFrame, root: Path | None, most: int
    ) -> tuple[Int[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
        """Which answers of the list are likeliest, best first, and their log-likelihoods."""
        known = self.plan.answers or ()
        if most < 1:
            raise SpecError(f"k must be at least 1, got {most}")
        if len(frame) == 0:
            return np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32)
        feed = self.feed(Excerpt.whole(frame), root)
        answers = self.model.writer.prepare([[a] for a in known]).to(self.plan.device)
        self.model.eval()
        found: list[tuple[np.ndarray, np.ndarray]] = []
        with torch.inference_mode():
            for batch in feed.batches(feed.in_order()):
                which, likely = self.model.writer.ranked(self.model.sight(batch), answers, most)
                found.append((which.cpu().numpy(), likely.cpu().numpy()))
        return np.concatenate([w for w, _ in found]), np.concatenate([s for _, s in found])

    @contextmanager
    def base(self) -> Iterator["FittedWriter"]:
        """Inside, the same network as it was before training; opened anew only where training changed its own
        parameters. It has no heads: adapters that rest are all the difference."""
        if self.model.reversible:
            with resting():
                yield self
        else:
            yield FittedWriter(self.plan, model_of(self.plan), self.info)


def fit_texts(
    plan: WritingPlan,
    rows: Excerpt,
    held: Excerpt | None,
    *,
    session: Session,
    donor: Donor | None = None,
    base: Base = "same",
) -> FittedWriter:
    """Train to write each row's texts; some pictures or clips are held out to stop early on where no rows are
    given.

    `donor`: a saved adapter, which training begins from.
    """
    if len(rows) < 2:
        raise SchemaError(f"a table to fit must have at least 2 rows, got {len(rows)}")
    if held is None and plan.validation > 0:
        looked = distinct(rows.frame[plan.shown])[1]
        kept, apart = holdout(len(rows), fraction=plan.validation, seed=plan.seed, groups=looked)
        rows, held = rows.take(kept), rows.take(apart) if len(apart) else None
    parts = [part for part in (rows, held) if part is not None]
    texts = [said(cast(pd.Series, p.frame[plan.text]), several=plan.several) for p in parts]
    if plan.answers is not None:
        warn_outside(plan.answers, [row for part in texts for row in part])
    with session.watch.stage("before", sum(map(len, parts))):
        with session.watch.part("opening"):
            model = model_of(plan)
        _say_alike(plan, model)
        taken = adopt(model, donor, plan.method.to_dict(), base) if donor is not None else 0
        fitted = FittedWriter(plan, model, watch=session.watch)
        feeds = [fitted.feed(p, plan.root, t) for p, t in zip(parts, texts, strict=True)]
    data = [Data(f, torch.arange(len(f)), torch.ones(len(f))) for f in feeds]
    history = train(
        model,
        data[0],
        data[1] if held is not None else None,
        plan.training,
        seed=plan.seed,
        session=replace(session, identity=_identity(plan, model, [part.frame for part in parts])),
    )
    model.eval()
    fitted.watch = NoWatch()
    fitted.info = {
        "rows": len(rows),
        "validation_rows": 0 if held is None else len(held),
        "taken_over": taken,
        "history": {**asdict(history), "epochs": list(history.epochs)},
    }
    return fitted


def model_of(plan: WritingPlan) -> WritingModel:
    """The network of a plan, its adapters as they begin."""
    streams = {s.name: s for s in plan.schema.streams()}
    backbone = blip_of(plan.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        task = "captioning" if plan.question is None else "answering"
        weighs = task == "answering" and plan.kind == "video" and backbone.frame_aware
        parts = open_blip(backbone.source, task, backbone.size, backbone.revision, weighs=weighs)
        shown = backbone.encoder(streams[plan.shown], parts)
        if plan.question is None:
            model: WritingModel = CaptioningModel(
                parts, shown, plan.prompt, plan.method, plan.smoothing
            )
        else:
            question = backbone.encoder(streams[plan.question], parts)
            opening = backbone.opening(parts)
            model = AnsweringModel(parts, shown, question, opening, plan.method, plan.smoothing)
    return model.to(plan.device).eval()


def _say_alike(plan: WritingPlan, model: WritingModel) -> None:
    """Tell that questions do not weigh frames as is asked for."""
    asked = blip_of(plan.backbone)
    several = plan.kind == "video" and asked.frames > 1
    if several and plan.question is not None and asked.frame_aware and not model.weighs_by:
        _log.info(
            "%s: all frames count alike, since %s holds no projections by which a question could weigh "
            "them", plan.shown, asked.source,
        )  # fmt: skip


def blip_of(choice: object) -> Blip:
    """The network by its source or spec. SpecError: a backbone without a decoder."""
    if isinstance(choice, Blip):
        return choice
    if isinstance(choice, (str, PathLike)):
        return Blip(fspath(choice))
    raise SpecError(f"writing needs a network with a decoder, such as Blip(...), got {choice!r}")


def schema_of(
    frame: pd.DataFrame, kinds: dict[str, Kind], root: Path | None, max_files: int
) -> Schema:
    """Of the columns that are read, whose kinds are known by their roles."""
    own = cast(pd.DataFrame, frame[list(kinds)])
    return guess_schema(own, root=root, column_types=kinds, max_files=max_files)


def table_of(
    found: Mapping[str, Answered | Captioned], metric: str, note: str = ""
) -> pd.DataFrame:
    """Every number of each model with its interval; a warning where `metric` became worse by training.

    `note` is added to the protocol.
    """
    rows = [
        {
            "metric": name,
            "model": model,
            **asdict(estimate),
            "rows": of.rows,
            "protocol": of.protocol + note,
        }
        for model, of in found.items()
        for name, estimate in of.estimates.items()
    ]
    if "zero-shot" in found:
        now, was = (found[m].estimates[metric].value for m in ("adapted", "zero-shot"))
        warn_worse(metric, now, was)
    return pd.DataFrame(rows).set_index(["metric", "model"])


def frames_note(model: Adapted, shown: str) -> str:
    """What a protocol says of clips; "": pictures are shown."""
    sampling = model.encoder(shown).stream.sampling
    if sampling is None:
        return ""
    weighed = isinstance(model, WritingModel) and model.weighs_by
    return f"; {sampling.frames} frames of each clip" + (", weighed" if weighed else "")


def demand(name: str, bad: Sequence[BadCell]) -> None:
    """CellError where these cells of a column that every row must have are missing."""
    if bad:
        raise CellError(
            f"every row must have its {name!r}, {len(bad)} are missing:\n{missing_cells(bad)}\n"
            "Leave these rows out"
        )


def warn_outside(answers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Tell how many answers no answer of the list equals, in the form in which answers are compared."""
    rows = list(rows)
    forms = {text: normalised(text) for text in {*answers, *(a for row in rows for a in row)}}
    known = {forms[text] for text in answers}
    outside = [text for row in rows for text in row if forms[text] not in known]
    if outside:
        _log.warning(
            "%d of %d answers, %d different ones, are outside the list of %d and can never be ranked, "
            "such as %r", len(outside), sum(map(len, rows)), len(set(outside)), len(answers), outside[0],
        )  # fmt: skip


def _identity(plan: WritingPlan, model: WritingModel, parts: Sequence[pd.DataFrame]) -> str:
    told: list[Any] = [plan.method.to_dict(), plan.backbone.to_dict(), plan.schema.to_dict()]
    told += [plan.shown, plan.question, plan.text, plan.prompt, plan.smoothing]
    told += [model.encoder(s).origin().sha256 for s in model.streams] + [model.weighs_by]
    told += [table_digest(part) for part in parts]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    for part in trained_bytes(model):  # a donor's are others
        digest.update(part)
    return digest.hexdigest()
