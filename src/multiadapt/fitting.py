"""From a plan and the rows of a table to a fitted model."""

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from multiadapt import __version__, processes
from multiadapt.cache import Store
from multiadapt.data.batches import cells
from multiadapt.data.digest import table_digest
from multiadapt.data.reading import Reading
from multiadapt.data.schema import Schema, guess_schema
from multiadapt.data.splits import holdout, warn_straddling
from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.encoders._families._open import hub_reached
from multiadapt.errors import SchemaError, SpecError
from multiadapt.feed import Feed
from multiadapt.fitted import Fitted
from multiadapt.learning import learned
from multiadapt.methods._base import Method, Training, completed
from multiadapt.model import AdaptedModel, build_encoders, encoder_spec
from multiadapt.scoring import scores
from multiadapt.stopwatch import Watch
from multiadapt.tasks._base import Target, TaskSpec
from multiadapt.training import Data, History, Session, train
from multiadapt.types import Inputs, Kind, Stream

__all__ = ["Plan", "Rows", "fit"]

_log = logging.getLogger("multiadapt")

_MODALITIES = ("image", "text", "audio", "video", "vector")


@dataclass(frozen=True)
class Rows:
    """Rows with their labels; all in one order."""

    frame: pd.DataFrame
    labels: pd.Series | pd.DataFrame
    weight: np.ndarray
    groups: np.ndarray | None
    positions: np.ndarray
    """Where each row stands in the caller's table, for reports."""

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, at: np.ndarray) -> "Rows":
        groups = None if self.groups is None else self.groups[at]
        frame, labels = self.frame.iloc[at], self.labels.iloc[at]
        return Rows(frame, labels, self.weight[at], groups, self.positions[at])


@dataclass(frozen=True)
class Plan:
    """Everything about a fit that is not rows."""

    method: Method
    task: TaskSpec
    encoders: Mapping[str, str | EncoderSpec]
    training: Training | None
    column_types: Mapping[str, Kind] | None
    reserved: Mapping[str, str]
    """Columns that are no features, and why."""
    groups: str | None
    """The column of groups, where it is one."""
    root: Path | None
    seed: int
    validation: float
    on_error: Literal["raise", "missing"]
    max_files: int
    join_text: bool
    device: torch.device
    memory: float
    """Gigabytes of frozen prefixes that may be kept."""


def fit(
    plan: Plan,
    rows: Rows,
    validation: Rows | None,
    *,
    session: Session,
) -> Fitted:
    """Look at the columns, build the encoders, train, and keep what a prediction needs."""
    started = time.monotonic()
    if len(rows) < 2:
        samples = "1 sample" if len(rows) else "none"
        raise SchemaError(f"a table to fit must have at least 2 rows, got {samples}")
    schema = _schema(plan, rows)
    rows, validation = _divided(plan, schema, rows, validation)
    target = plan.task.learn(rows.labels)
    specs = _encoder_specs(plan, schema)
    training = completed(plan.training, plan.method.training)
    with session.watch.stage("before", len(rows) + len(validation or ())):
        with session.watch.part("opening"):
            model, given = _built(plan, schema, specs, rows, target)
        feeds = _feeds(plan, model, training, rows, validation, given, session.watch)
        views = _views(feeds, training, plan.memory)
    held = None if validation is None else _data(feeds[1], validation, target)
    if session.time_limit is not None:
        left = session.time_limit - (time.monotonic() - started)
        session = replace(session, time_limit=max(left, 0.0))
    lengths = feeds[0].reader.lengths if training.group_by_length else None
    history = train(
        model,
        replace(_data(feeds[0], rows, target), views=views, lengths=lengths),
        held,
        training,
        seed=plan.seed,
        measure=_measure(target, validation) if validation is not None else None,
        session=replace(session, identity=_identity(plan, schema, specs, model, rows, validation)),
    )
    if plan.on_error == "raise":
        with processes.agreed():
            feeds[0].reading.finish()  # a file that broke while it trained
    _say_end(history, training)
    model.eval()
    info = _info(rows, validation, history)
    info |= {"prior": _prior(target, rows), "unseen": _unseen(feeds[0])}
    if held is not None and validation is not None:
        found = scores(model, held.feed, training)
        metrics = target.measure(found, validation.labels, validation.weight, plan.seed)
        info["validation"] = {name: asdict(value) for name, value in metrics.items()}
    return Fitted(schema, plan.task, target, plan.method, training, specs, model, plan.seed, info)


def _schema(plan: Plan, rows: Rows) -> Schema:
    schema = guess_schema(
        rows.frame,
        root=plan.root,
        reserved=plan.reserved,
        column_types=plan.column_types,
        max_files=plan.max_files,
        join_text=plan.join_text,
    )
    for line in schema.lines():
        _log.info("%s", line)
    return schema


def _divided(
    plan: Plan, schema: Schema, rows: Rows, validation: Rows | None
) -> tuple[Rows, Rows | None]:
    """Training and validation rows with the schema's columns; leaks between them are warned of."""
    if validation is None and plan.validation > 0 and plan.method.validates:
        kept, held = _held_out(plan, rows)
        rows, validation = rows.take(kept), rows.take(held)
    if validation is None:
        return replace(rows, frame=schema.conform(rows.frame)), None
    if len(validation) == 0:
        raise SchemaError(
            "validation rows are asked for, but there are none; give val_data, or validation=0 to "
            "train on all rows"
        )
    parts = {"train": rows.frame, "val": validation.frame}
    known = plan.groups is not None and all(plan.groups in part for part in parts.values())
    warn_straddling(parts, schema, plan.root, plan.groups if known else None)
    frames = [schema.conform(part) for part in parts.values()]
    return replace(rows, frame=frames[0]), replace(validation, frame=frames[1])


def _held_out(plan: Plan, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and to validate on; rows that weigh nothing cannot validate."""
    target, counted = plan.task.learn(rows.labels), np.flatnonzero(rows.weight > 0)
    strata = target.encode(rows.labels)[counted] if target.kind == "classification" else None
    kept, held = holdout(
        len(counted),
        fraction=plan.validation,
        seed=plan.seed,
        strata=strata,
        groups=None if rows.groups is None else rows.groups[counted],
    )
    spare = np.flatnonzero(rows.weight == 0)
    return np.sort(np.concatenate([counted[kept], spare])), counted[held]


def _encoder_specs(plan: Plan, schema: Schema) -> dict[str, EncoderSpec]:
    """An encoder for every stream that the method reads."""
    streams = schema.streams()
    known = {s.name for s in streams} | {s.modality for s in streams} | {"tabular", *_MODALITIES}
    unknown = [k for k in plan.encoders if k not in known]
    if unknown:
        raise SpecError(
            f"encoders are named by modality or column; {unknown} are none of {sorted(known)}"
        )
    for modality in _MODALITIES:
        if modality in plan.encoders and not any(s.modality == modality for s in streams):
            raise SchemaError(
                f"an encoder of {modality} columns is named, but no column is one:\n"
                + "\n".join(f"  {line}" for line in schema.lines())
                + f"\nSet root= to the folder of the files, or column_types={{'column': '{modality}'}}"
            )
    used = [s for s in streams if plan.method.uses(s)]
    if not used:
        kinds = ", ".join(sorted({s.modality for s in streams})) or "none"
        raise SchemaError(
            f"method {plan.method.name!r} finds no column that it reads; usable columns are: {kinds}. "
            "Override a kind with column_types={'column': 'image'}"
        )
    online = hub_reached() if any(_choice(plan, s) is None for s in used) else False
    return {s.name: _spec_of(plan, s, online=online) for s in used}


def _choice(plan: Plan, stream: Stream) -> str | EncoderSpec | None:
    own = plan.method.encoder(stream)
    return (
        own
        if own is not None
        else plan.encoders.get(stream.name, plan.encoders.get(stream.modality))
    )


def _spec_of(plan: Plan, stream: Stream, *, online: bool) -> EncoderSpec:
    choice = _choice(plan, stream)
    if choice is None and stream.modality == "vector":
        choice = "vector"  # nothing to open
    if choice is None:
        choice = _HUB[stream.modality] if online else "starter"
        _log.info(
            "%s: no encoder was named, so %s is used%s",
            stream.name,
            f"{choice!r} from the hub" if online else "the small starter encoder",
            ""
            if online
            else " (no network); name a pretrained one with encoders={...} for real work",
        )
    return encoder_spec(stream.modality, choice)


_HUB = {
    "image": "microsoft/resnet-50",
    "tabular": "tabicl",
    "text": "sentence-transformers/all-MiniLM-L6-v2",
    "audio": "MIT/ast-finetuned-audioset-10-10-0.4593",
    "video": "microsoft/resnet-50",  # frame by frame; VideoMAE's weights are not for commercial use
}


def _built(
    plan: Plan, schema: Schema, specs: Mapping[str, EncoderSpec], rows: Rows, target: Target
) -> tuple[AdaptedModel, dict[str, Inputs]]:
    """The model, and the inputs that in-context encoders made for the training rows."""
    streams = [s for s in schema.streams() if s.name in specs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        encoders = build_encoders(streams, specs, target.kind)
        for encoder in encoders.values():
            encoder.to(plan.device)
        given = _learned(plan, encoders, rows, target)
        model = AdaptedModel(encoders, plan.method, target).to(plan.device)
    return model, given


def _learned(
    plan: Plan, encoders: Mapping[str, Encoder], rows: Rows, target: Target
) -> dict[str, Inputs]:
    labels = target.labels(target.encode(rows.labels), rows.groups)
    weight = rows.weight if labels.weight is None else rows.weight * labels.weight
    labels = replace(labels, weight=weight)
    given: dict[str, Inputs] = {}
    for name, encoder in encoders.items():
        if not encoder.learns:
            continue  # a pretrained network; its cells are not read for nothing
        own = cells(rows.frame, encoder.stream, _reading(plan))
        inputs = learned(encoder, own, labels, plan.seed, Store.usual())
        if inputs is not None:
            given[name] = inputs
    return given


def _reading(plan: Plan) -> Reading:
    return Reading(plan.root, plan.max_files, plan.on_error)


def _feeds(
    plan: Plan,
    model: AdaptedModel,
    training: Training,
    rows: Rows,
    validation: Rows | None,
    given: Mapping[str, Inputs],
    watch: Watch,
) -> list[Feed]:
    """Of the training rows and of the validation rows, if there are any: all cells found readable, embeddings
    standardised."""
    encoders = {s: model.encoder(s) for s in model.streams}
    reading, budget = _reading(plan), int(plan.memory * 1e9)
    found: list[Feed] = []
    for part, inputs in ((rows, given), (validation, {})):
        if part is not None:
            feed = Feed(
                encoders, part.frame, reading, model.cuts(), plan.device,
                inputs, budget, part.positions, watch=watch,
            )  # fmt: skip
            feed.keep()
            feed.reader.say_remarks()
            budget -= feed.kept_bytes
            found.append(feed)
    reading.finish()  # first: an unreadable file is the better reason
    for feed in found:
        feed.reader.demand(plan.method.missing.demands)
    if training.normalize:
        _standardize(found[0])
    return found


def _views(feeds: Sequence[Feed], training: Training, memory: float) -> list[Feed]:
    """Further views of the training rows, computed as far as they are frozen."""
    modalities = {encoder.stream.modality for encoder in feeds[0].encoders.values()}
    if training.views > 1 and "image" not in modalities:
        raise SpecError(
            f"training.views is of pictures, got {training.views}, and the method reads no column of any: "
            "leave it out"
        )
    left = int(memory * 1e9) - sum(feed.kept_bytes for feed in feeds)
    found: list[Feed] = []
    for view in range(1, training.views):
        other = feeds[0].seen_as(view, left)
        other.keep()
        left -= other.kept_bytes - sum(inputs.nbytes for inputs in other.given.values())
        found.append(other)
    return found


def _unseen(feed: Feed) -> list[str]:
    """Streams that no training row has: nothing is learned of them, and a line says so."""
    found = [stream for stream, there in feed.reader.present.items() if not there.any()]
    if found:
        _log.warning(
            "no training row has %s: it will be taken as missing in every prediction",
            ", ".join(found),
        )
    return found


def _standardize(feed: Feed) -> None:
    for name, encoder in feed.encoders.items():
        if not encoder.trained and any(s.role == "pooled" for s in encoder.sites()):
            encoder.pooled.fit(feed.pooled(name).to(feed.device))


def _data(feed: Feed, rows: Rows, target: Target) -> Data:
    weight = torch.tensor(rows.weight, dtype=torch.float32)  # a copy: pandas' arrays are read-only
    return Data(feed, torch.tensor(target.encode(rows.labels)), weight)


def _identity(
    plan: Plan,
    schema: Schema,
    specs: Mapping[str, EncoderSpec],
    model: AdaptedModel,
    rows: Rows,
    validation: Rows | None,
) -> str:
    """A hash of what a run's weights depend on, but for the epochs and the bytes of the pictures."""
    told: list[Any] = [plan.method.to_dict(), plan.task.to_dict(), plan.on_error, schema.to_dict()]
    told += [[model.encoder(s).origin().sha256, specs[s].to_dict()] for s in model.streams]
    for part in (rows, validation):
        if part is not None:
            told += [table_digest(part.frame), table_digest(pd.DataFrame(part.labels))]
            told.append(hashlib.sha256(part.weight.tobytes()).hexdigest())
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _measure(target: Target, validation: Rows) -> Callable[[np.ndarray], float]:
    return lambda scores: target.values(scores, validation.labels, validation.weight)[target.metric]


def _say_end(history: History, training: Training) -> None:
    if history.epochs:
        _log.info(
            "trained %d of %d epochs in %.1f s (stopped by: %s); the weights of epoch %d are kept",
            len(history.epochs), training.epochs, history.seconds, history.stopped, history.best_epoch,
        )  # fmt: skip


def _prior(target: Target, rows: Rows) -> list[float]:
    """The scores of a row of which nothing is known: what the training labels are on the whole."""
    y, weight = target.encode(rows.labels), rows.weight
    if target.kind == "regression":
        return [float(np.average(y, weights=weight))]
    if target.kind == "multilabel" or target.outputs == 1:
        share = np.atleast_1d(np.average(y, axis=0, weights=weight)).clip(1e-6, 1 - 1e-6)
        return np.log(share / (1 - share)).tolist()
    share = np.bincount(y.astype(int), weights=weight, minlength=target.outputs) / weight.sum()
    return np.log(share.clip(1e-6)).tolist()


def _info(rows: Rows, validation: Rows | None, history: History) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "validation_rows": 0 if validation is None else len(validation),
        "history": {**asdict(history), "epochs": list(history.epochs)},
        "versions": {
            "multiadapt": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
