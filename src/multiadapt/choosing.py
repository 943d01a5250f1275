"""Answers by networks without a decoder: a head over a list of them, on an encoder of pictures
or clips and one of questions."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from multiadapt import artifact
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._choice import Backbone
from multiadapt.crossmodal._pairs import Excerpt, distinct
from multiadapt.crossmodal._texts import said
from multiadapt.crossmodal._writing import Decoding
from multiadapt.crossmodal.dual import Dual
from multiadapt.data.bad_cells import BadCell
from multiadapt.data.values import absent
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SchemaError, SpecError
from multiadapt.fitted import Fitted
from multiadapt.fitting import Plan, Rows, fit
from multiadapt.folders import damaged, read_config
from multiadapt.methods._base import Training
from multiadapt.missing.error import Refuse
from multiadapt.model import AdaptedModel
from multiadapt.tasks.answering import Answering
from multiadapt.training import Session
from multiadapt.types import Kind
from multiadapt.writing import RECIPE as WRITING
from multiadapt.writing import WritingPlan, demand, warn_outside

__all__ = [
    "FittedChooser",
    "chooses",
    "fit_choices",
    "load_chooser",
    "recipe_of",
    "save_chooser",
]

RECIPE = WRITING.with_params(learning_rate=1e-3)
"""A new head wants larger steps than a network that could answer before."""
_KIND = "answering"


@dataclass
class FittedChooser:
    """A fitted head over answers, asked as a writer is."""

    plan: WritingPlan
    fitted: Fitted

    @property
    def model(self) -> AdaptedModel:
        return self.fitted.model

    @property
    def info(self) -> dict[str, Any]:
        return self.fitted.info

    def written(self, frame: pd.DataFrame, root: Path | None, decoding: Decoding) -> list[str]:
        """SpecError: there is no decoder."""
        raise SpecError(
            f"to write answers by {decoding.how} needs a network with a decoder such as BLIP; this one "
            f"chooses among {len(self.plan.answers or ())} answers: leave how out"
        )

    def ranked(
        self, frame: pd.DataFrame, root: Path | None, most: int
    ) -> tuple[Int[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
        """Which answers of the list are likeliest, best first, and the logarithms of their probabilities."""
        if most < 1:
            raise SpecError(f"k must be at least 1, got {most}")
        if len(frame) == 0:
            return np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32)
        _demand(self.plan, frame, np.arange(len(frame)))
        scores = self.fitted.scores(frame, root, self.plan.on_error)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :most]
        likely = -np.logaddexp(0.0, -np.take_along_axis(scores, order, axis=1))
        return order, likely


def recipe_of(backbone: BackboneSpec) -> Training:
    """How texts over this network are learned, unless one says otherwise."""
    return RECIPE if isinstance(backbone, Dual) else WRITING


def fit_choices(
    plan: WritingPlan, rows: Excerpt, held: Excerpt | None, *, session: Session
) -> FittedChooser:
    """Train adapters in both encoders and a head over the list of answers.

    Some pictures or clips are held out to stop early on where no rows are given. A row must have its picture
    or clip and its question, whatever the method says of missing ones.
    """
    if len(rows) < 2:
        raise SchemaError(f"a table to fit must have at least 2 rows, got {len(rows)}")
    if plan.question is None or plan.answers is None:
        raise SpecError(
            "answers that stand on no list are written, which needs a network with a decoder such as BLIP; "
            'give answers="auto" or a list'
        )
    every = _encoders(plan.backbone)
    kinds: dict[str, Kind] = {plan.shown: plan.kind, plan.question: "text"}
    # One network sees pictures and clips, and is named for both.
    towers = {n for n in ("image", "video") if n in every and every[n].modality == n}
    named = {n: s for n, s in every.items() if n not in towers - {*kinds.values()}}
    for column, kind in kinds.items():
        if not {column, kind} & named.keys():
            raise SpecError(
                f"column {column!r} holds {kind}, for which no encoder is named; named are {sorted(every)}"
            )
    method = replace(plan.method, missing=Refuse())
    told = Plan(
        method, Answering(plan.answers), named, plan.training,
        kinds, {}, None, plan.root, plan.seed, plan.validation, plan.on_error, plan.schema.max_files, False,
        plan.device, plan.memory,
    )  # fmt: skip
    parts = [_rows(plan, part) for part in (rows, held) if part is not None]
    warn_outside(plan.answers, [row for part in parts for row in part.labels])
    found = fit(told, parts[0], parts[1] if held is not None else None, session=session)
    # Answers that differ in nothing the challenge looks at are one.
    listed = tuple(found.target.state()["names"])
    return FittedChooser(replace(plan, answers=listed), found)


def save_chooser(chooser: FittedChooser, folder: str | Path) -> None:
    """Write the artifact as models of tables are written, with the roles of the columns."""
    plan = chooser.plan
    info = {
        **chooser.info,
        "label": plan.text,
        "roles": {"image": plan.shown, "question": plan.question, "text": plan.text},
        "options": {n: getattr(plan, n) for n in ("validation", "on_error", "memory")},
    }
    artifact.save(replace(chooser.fitted, info=info), folder, _KIND)


def chooses(folder: str | Path) -> bool:
    """Whether a saved answerer is a head over answers."""
    config = read_config(Path(folder))
    return config.get("kind") == _KIND and "task" in config


def load_chooser(
    folder: str | Path,
    device: torch.device,
    backbone: Backbone | None = None,
) -> FittedChooser:
    """A saved head, checked on its golden rows; `backbone` says where the encoders have moved to."""
    moved = _encoders(backbone) if isinstance(backbone, BackboneSpec) else backbone
    fitted = artifact.load(folder, encoders=moved, device=str(device), kind=_KIND)
    with damaged(Path(folder)):
        return FittedChooser(_plan(fitted, device), fitted)


def _plan(fitted: Fitted, device: torch.device) -> WritingPlan:
    """What it was fitted by."""
    info, roles = fitted.info, fitted.info["roles"]
    specs = {s.modality: fitted.specs[s.name] for s in fitted.schema.streams()}
    return WritingPlan(
        method=fitted.method,
        backbone=Dual(specs),
        training=fitted.training,
        schema=fitted.schema,
        shown=roles["image"],
        question=roles["question"],
        text=roles["text"],
        prompt="",
        smoothing=0.0,
        answers=tuple(fitted.target.state()["names"]),
        root=None,
        seed=fitted.seed,
        device=device,
        **info["options"],
    )


def _encoders(backbone: BackboneSpec) -> Mapping[str, EncoderSpec]:
    """Of both sides. SpecError: an option of comparing them, which is not done here."""
    if not isinstance(backbone, Dual):
        raise SpecError(
            f"a head over answers stands on two encoders, such as {{'image': ..., 'text': ...}}, got {backbone!r}"
        )
    plain = Dual(backbone.encoders)
    if idle := [
        f.name for f in fields(plain) if getattr(plain, f.name) != getattr(backbone, f.name)
    ]:
        raise SpecError(f"answering compares no vectors, and has no use for {idle}: leave it out")
    return backbone.encoders


def _rows(plan: WritingPlan, part: Excerpt) -> Rows:
    """With the answers as lists. CellError, TargetError: a row lacks what is looked at, asked or answered."""
    _demand(plan, part.frame, part.places)
    cells: Any = part.frame[plan.text]
    labels = pd.Series(said(cells, several=True), index=part.frame.index, name=plan.text)
    looked = distinct(part.frame[plan.shown])[1]
    own = part.frame.filter(list(plan.roles))
    return Rows(own, labels, np.ones(len(part)), looked, part.places)


def _demand(plan: WritingPlan, frame: pd.DataFrame, places: Int[np.ndarray, " b"]) -> None:
    for column in plan.roles:
        cells: Any = frame[column]
        bad = [
            BadCell(frame.index[i], int(places[i]), column, "", "missing")
            for i in np.flatnonzero(absent(cells)).tolist()
        ]
        demand(column, bad)
