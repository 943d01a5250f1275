"""What answerers and captioners of pictures and clips share: fitting on a table, and saving."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from multiadapt import processes
from multiadapt.choosing import FittedChooser, fit_choices, recipe_of, save_chooser
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._choice import Backbone
from multiadapt.crossmodal.dual import Dual
from multiadapt.data.guess import FILMS
from multiadapt.data.reading import files
from multiadapt.data.tables import Table
from multiadapt.errors import SchemaError, SpecError
from multiadapt.gather import Source, check_columns, home_of, opened, parted
from multiadapt.methods._base import Method, Training, completed, method_of
from multiadapt.reports.profile import profiled
from multiadapt.reports.progress import showing
from multiadapt.scoring import device_of
from multiadapt.stopwatch import watching
from multiadapt.training import Session
from multiadapt.types import Kind
from multiadapt.writing import (
    Base,
    FittedWriter,
    WritingPlan,
    fit_texts,
    schema_of,
)
from multiadapt.writing_files import read_donor, save_writer

__all__ = ["PictureToText", "Run", "Wanted"]


@dataclass(frozen=True)
class Wanted:
    """The columns that are read, and the one of what is to be said."""

    shown: str
    kind: Literal["image", "video"]
    question: str | None
    text: str

    @staticmethod
    def of(image: str | None, video: str | None, question: str | None, text: str) -> "Wanted":
        """SpecError: both pictures and clips are named, or neither."""
        if (image is None) == (video is None):
            raise SpecError(
                "name one column that is looked at, of pictures with image=... or of clips with video=..., "
                f"got image={image!r} and video={video!r}"
            )
        shown, kind = (cast(str, video), "video") if image is None else (image, "image")
        return Wanted(shown, kind, question, text)

    @property
    def kinds(self) -> dict[str, Kind]:
        kinds: dict[str, Kind] = {self.shown: self.kind}
        return kinds if self.question is None else {**kinds, self.question: "text"}

    def check(self, frame: pd.DataFrame, split_column: str | None = None) -> None:
        """SchemaError: a column is absent, or that of pictures holds films."""
        named = {self.shown: str(self.kind)}
        if self.question is not None:
            named[self.question] = "question"
        named[self.text] = "caption" if self.question is None else "answer"
        check_columns(frame, named if split_column is None else {**named, split_column: "split"})
        if self.kind == "image" and (film := _film(frame[self.shown])):
            raise SchemaError(
                f"column {self.shown!r} must hold pictures, as image= says, and holds films such as {film!r}: "
                f"name it with video={self.shown!r}"
            )


def _film(cells: Iterable[Any]) -> str | None:
    """The first file that is named, where it is a film."""
    named = (part for cell in cells for part in files(cell) if isinstance(part, (str, Path)))
    first = next(named, "")
    return str(first) if Path(first).suffix.lower() in FILMS else None


@dataclass(frozen=True)
class Run:
    """Rows beside the table, and how a fit is watched, ended and begun; as in the estimators' `fit`."""

    val_data: Source
    split_column: str | None
    root: str | Path | None
    time_limit: float | None
    resume: str | Path | None
    init_from: str | Path | None
    base: Base
    profile: bool


class PictureToText(BaseEstimator, ABC):
    """Says something about pictures or clips."""

    method: str | Method
    backbone: Backbone | None
    training: Training | None
    seed: int
    validation: float
    on_error: Literal["raise", "missing"]
    max_files: int
    device: str | None
    memory: float
    verbose: bool
    profile_: pd.DataFrame | None = None
    """As `MultimodalClassifier` has it."""

    @abstractmethod
    def _own(self, cells: pd.Series) -> Mapping[str, Any]:
        """The plan's options of one estimator alone, `cells` are the texts of the training rows."""

    @abstractmethod
    def _network(self) -> BackboneSpec:
        """What `backbone` names."""

    def save(self, folder: str | Path) -> None:
        """Write the trained tensors and what is needed to use them; the frozen network is named, not copied."""
        fitted = self._fit()
        if isinstance(fitted, FittedChooser):
            save_chooser(fitted, folder)
        else:
            save_writer(fitted, folder)

    def _train(self, source: Source, wanted: Wanted, run: Run) -> None:
        if run.base != "same" and run.init_from is None:
            raise SpecError(f"base={run.base!r} goes with init_from: leave it out")
        table = opened(source, run.root)
        wanted.check(table.frame, run.split_column)
        train, held = parted(table, run.split_column, run.val_data, run.root)
        if held is not None:
            wanted.check(held.frame)
        plan = self._plan(train.frame, table.root, wanted)
        donor = None if run.init_from is None else read_donor(run.init_from)
        if donor is not None and isinstance(plan.backbone, Dual):
            raise SpecError("init_from begins with adapters of a BLIP network: leave it out")
        with processes.together(plan.device), showing(verbose=self.verbose) as tell:
            resume = Path(run.resume) if run.resume else None
            watch = watching(plan.device, wanted=run.profile)
            session = Session(run.time_limit, resume, tell=tell, watch=watch)
            if isinstance(plan.backbone, Dual):
                self.fitted_ = fit_choices(plan, train, held, session=session)
            else:
                self.fitted_ = fit_texts(
                    plan, train, held, session=session, donor=donor, base=run.base
                )
            self.profile_ = profiled(watch, plan.device, plan.training.precision)
        self.fitted_.info["root"] = home_of(table.root)

    def _plan(self, frame: pd.DataFrame, root: Path | None, wanted: Wanted) -> WritingPlan:
        network = self._network()
        plan = WritingPlan(
            method=method_of(self.method),
            backbone=network,
            training=completed(self.training, recipe_of(network)),
            schema=schema_of(frame, wanted.kinds, root, self.max_files),
            shown=wanted.shown,
            question=wanted.question,
            text=wanted.text,
            **self._own(frame[wanted.text]),  # type: ignore[arg-type]
            root=root,
            seed=self.seed,
            validation=self.validation,
            on_error=self.on_error,
            device=device_of(self.device),
            memory=self.memory,
        )
        plan.check()
        return plan

    def _opened(self, source: Source, root: str | Path | None, where: str | None = None) -> Table:
        return opened(source, root, where, self._fit().info.get("root"))

    def _fit(self) -> FittedWriter | FittedChooser:
        if not hasattr(self, "fitted_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet; call fit or load first"
            )
        return self.fitted_
