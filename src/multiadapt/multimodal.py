"""What the scikit-learn faces share: options, fitting, prediction, reports, files."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags

from multiadapt import artifact, processes
from multiadapt.answers import check_empty, detailed, like, numbered
from multiadapt.data import masks
from multiadapt.data.tables import Table
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.fitted import Answer, Fitted
from multiadapt.fitting import Plan, Rows, fit
from multiadapt.folding import folded
from multiadapt.gather import (
    PerRow,
    Roles,
    Source,
    given_rows,
    home_of,
    is_table,
    one_row,
    opened,
    rows_of,
)
from multiadapt.methods._base import Method, Training, method_of
from multiadapt.peft_files.reading import import_into
from multiadapt.peft_files.writing import export_peft
from multiadapt.reports._coalitions import Sample
from multiadapt.reports.contributions import Contributions, contributions, explain
from multiadapt.reports.profile import profiled
from multiadapt.reports.progress import showing
from multiadapt.reports.robustness import EACH_AND_BOTH, RATES, Grid, Robustness, robustness
from multiadapt.scoring import device_of
from multiadapt.spec import Spec
from multiadapt.stopwatch import watching
from multiadapt.tasks._base import TaskSpec
from multiadapt.training import Session
from multiadapt.types import Kind

__all__ = ["Multimodal"]

_SPECS = ("method", "encoders", "training", "device", "seed")
"""Options that an artifact keeps as specs, or that belong to the machine."""


class Multimodal(BaseEstimator, ABC):
    """What both estimators share: options, fitting, prediction, files."""

    method: str | Method
    encoders: Mapping[str, str | EncoderSpec] | None
    training: Training | None
    column_types: Mapping[str, Kind] | None
    seed: int
    validation: float
    on_error: Literal["raise", "missing"]
    max_files: int
    join_text: bool
    device: str | None
    memory: float
    verbose: bool
    profile_: pd.DataFrame | None = None
    """Where the time of the last fit went, if it was asked to look; see `multiadapt.reports.profile`."""

    @abstractmethod
    def _task(self, labels: pd.Series | pd.DataFrame) -> TaskSpec:
        """The task for these labels."""

    def fit(
        self,
        X: Source,
        y: Any = None,
        *,
        label: str | Sequence[str] | None = None,
        val_data: Source = None,
        split_column: str | None = None,
        groups: PerRow = None,
        sample_weight: PerRow = None,
        root: str | Path | None = None,
        time_limit: float | None = None,
        resume: str | Path | None = None,
        profile: bool = False,
    ) -> "Multimodal":
        """Train on a table. Give either `y` or `label`, a column (or 0/1 columns) of `X`.

        Args:
            val_data: rows to stop early on, with the label column, or a pair (X, y).
            split_column: a column whose rows "train" are trained on and "val" validated on; all
                other rows, and their files, are never read. Without "val" rows, some of the
                training rows are held out.
            groups: a column, or an array: equal values stay on one side of every split.
            sample_weight: a column, or an array, of weights of at least 0.
            root: folder that file paths are relative to; default the table's own.
            time_limit: seconds after which training ends and the best so far is kept.
            resume: file to continue from, written while training.
            profile: tell where the time went, and keep it as `profile_`.
        """
        if (y is None) == (label is None):
            given = "neither" if y is None else "both"
            note = ": it requires y to be passed, but the target y is None" if y is None else ""
            raise SpecError(f"fit takes exactly one of y and label=, got {given}{note}")
        names = label if label is None or isinstance(label, str) else list(label)
        roles = Roles(names, split_column, groups, sample_weight)
        table = opened(X, root)
        roles.check(table.frame)
        if table.root is not None and not table.root.is_dir():
            raise SpecError(f"root must be an existing folder, got {str(table.root)!r}")
        rows, held = roles.split(table, y)
        if val_data is not None:
            held = given_rows(val_data, roles, held, table.root, root)
        plan = self._plan(table.root, roles, self._task(rows.labels))
        with processes.together(plan.device), showing(verbose=self.verbose) as tell:
            watch = watching(plan.device, wanted=profile)
            file = Path(resume) if resume else None
            session = Session(time_limit, file, tell=tell, watch=watch)
            self.fitted_ = fit(plan, rows, held, session=session)
            self.profile_ = profiled(watch, plan.device, self.fitted_.training.precision)
        features = [c for c in table.frame.columns if c not in roles.columns()]
        self.fitted_.info |= {
            "label": roles.label,
            "root": home_of(table.root),
            "features": features,
            "named": is_table(X),
            "options": {k: v for k, v in self.get_params(deep=False).items() if k not in _SPECS},
        }
        self._set_names()
        return self

    def predict(
        self,
        X: Source,
        *,
        root: str | Path | None = None,
        empty: Literal["raise", "prior"] = "raise",
        details: bool = False,
        mask: masks.Source | None = None,
    ) -> Any:
        """Class labels or values: a Series with the caller's index, in the caller's order; a DataFrame
        of zeros and ones for several labels; an array when `X` is one.

        Args:
            root: folder that file paths are relative to; default the table's own.
            empty: what a row gets that has none of its modalities. prior: what the training labels
                are on the whole. raise: CellError, where the method asks for at least one.
            details: a DataFrame that has beside the prediction one column `has NAME` per modality, and
                `prior`, True where a row had none.
            mask: takes modalities away from rows: a mask, a frame of booleans, or the file of either.
        """
        answer, index = self._answer(X, root, empty, mask)
        fitted = self._fit()
        predicted = like(X, fitted, fitted.target.predict(answer.scores), index)
        return detailed(predicted, answer, index) if details else predicted

    def embed(
        self,
        X: Source,
        *,
        stream: str | None = None,
        root: str | Path | None = None,
        empty: Literal["raise", "missing"] = "raise",
        mask: masks.Source | None = None,
    ) -> Any:
        """(b, d) float32, the vector that the head reads of every row: a DataFrame with the caller's index,
        an array when `X` is one.

        Args:
            stream: a modality whose own vector, after its adapters, is given; nan in rows that lack it.
            empty: missing: a row that has none of its modalities is nan. raise: CellError, where the
                method asks for at least one.
            root, mask: as in `predict`.
        """
        check_empty(empty, "missing")
        fitted, table = self._fit(), self._checked(X, root)
        frame, reading = self._masked(table.frame, mask), fitted.reading(table.root, self.on_error)
        return numbered(X, fitted.vectors(frame, reading, stream, empty), frame.index)

    def evaluate(
        self,
        X: Source,
        y: Any = None,
        *,
        where: str | None = None,
        sample_weight: PerRow = None,
        root: str | Path | None = None,
        seed: int = 0,
        empty: Literal["raise", "prior"] = "raise",
        mask: masks.Source | None = None,
    ) -> pd.DataFrame:
        """Every metric of the task with its 95 % bootstrap interval over rows: value, low, high.

        `empty` and `mask` are as in `predict`.
        """
        check_empty(empty)
        fitted = self._fit()
        table = self._opened(X, root, where)
        roles = Roles(fitted.info["label"] if y is None else None, sample_weight=sample_weight)
        roles.check(table.frame)
        rows = rows_of(table.frame, y, roles)
        frame = self._masked(table.frame, mask)
        answer = fitted.answer(frame, table.root, self.on_error, empty)
        found = fitted.target.measure(answer.scores, rows.labels, rows.weight, seed)
        return pd.DataFrame({k: asdict(v) for k, v in found.items()}).T.rename_axis("metric")

    def robustness(
        self,
        X: Source,
        y: Any = None,
        *,
        rates: Sequence[float] = RATES,
        modalities: str | Sequence[str] = EACH_AND_BOTH,
        seed: int = 0,
        against: Mapping[str, "Multimodal"] | None = None,
        metric: str | None = None,
        masks: str | Path | None = None,
        sample_weight: PerRow = None,
        root: str | Path | None = None,
    ) -> Robustness:
        """What each missing modality costs: a metric against the share of rows that lose it.

        Args:
            rates: shares of rows in 0..1.
            modalities: "each and both", "each", "both" (exactly one of a row's, chosen evenly), or names.
            against: other fitted models by the name to show; they meet the same holes.
            metric: None: the one that training showed.
            masks: a folder for the masks; those that are there already are used.
            root: folder that file paths are relative to; default the table's own.
        """
        own = self._fit()
        models = {f"{own.method.name} ({own.method.missing.name})": own}
        for name, other in (against or {}).items():
            if name in models:
                raise SpecError(f"against must give other names than this model's own, {name!r}")
            models[name] = other._fit()
        grid = Grid(rates, modalities, seed, None if masks is None else Path(masks))
        sample, rows = self._labelled(X, y, sample_weight, root)
        return robustness(models, sample, rows.labels, rows.weight, grid, metric)

    def contributions(
        self,
        X: Source,
        y: Any = None,
        *,
        metric: str | None = None,
        seed: int = 0,
        sample_weight: PerRow = None,
        root: str | Path | None = None,
    ) -> Contributions:
        """Which modality pays: exact Shapley values of a metric (None: the one that training showed) with
        bootstrap intervals, each modality alone, all but each, and what each costs."""
        sample, rows = self._labelled(X, y, sample_weight, root)
        return contributions(self._fit(), sample, rows.labels, rows.weight, metric, seed)

    def explain(self, X: Source, *, of: Any = None, root: str | Path | None = None) -> pd.DataFrame:
        """What each modality of a row adds to its predicted score, by exact Shapley values.

        Args:
            X: a table, or one row as a Series or a mapping.
            of: the class or label whose probability is explained; None: the predicted class.
            root: folder that file paths are relative to; default the table's own.

        Returns:
            prediction, score, prior and a column for each modality, nan where the row lacks it; prior and
            modalities sum to the score.
        """
        return explain(self._fit(), self._sample(self._opened(one_row(X), root)), of)

    def parameters(self) -> pd.DataFrame:
        """Trainable and frozen parameters of each part, and each part's share of all that is trained."""
        parts = self._fit().model.parts()
        total = max(sum(p.trainable for p in parts), 1)
        rows = [{**asdict(p), "share": p.trainable / total} for p in parts]
        return pd.DataFrame(rows, columns=["part", "trainable", "frozen", "share"])

    def save(self, folder: str | Path) -> None:
        """Write the artifact: a folder of JSON and safetensors; pretrained weights are named, not copied."""
        artifact.save(self._fit(), folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload a multiadapt model",
    ) -> str:
        """Upload the artifact to a Hugging Face repository, made if absent; the commit's address."""
        return artifact.push(
            self._fit(), repo_id, private=private, token=token, commit_message=commit_message
        )

    def export_peft(self, folder: str | Path) -> dict[str, Path]:
        """Write LoRA and IA3 inside the pretrained networks as folders that PEFT opens; by stream, where.

        README.md in the folder says what else was trained. ArtifactError: there is nothing to write.
        """
        return export_peft(self._fit().model, folder)

    def import_peft(self, folders: Mapping[str, str | Path]) -> None:
        """Take the adapters of these streams from folders in PEFT's layout.

        The model must have been fitted with the same kind of adapter at the same places.
        """
        import_into(self._fit().model, folders)

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Inside, LoRA and its kin are part of the frozen weights, so that predicting costs no more than
        the bare encoders; afterwards the same weights are back, bit for bit. For one thread at a time."""
        model = self._fit().model
        with folded({s: model.encoder(s) for s in model.streams}, model.placed):
            yield

    def set_params(self, **params: Any) -> "Multimodal":
        """scikit-learn's; a nested name such as `method__image__variant` replaces the frozen spec."""
        nested: dict[str, dict[str, Any]] = {}
        for key in [k for k in params if "__" in k]:
            head, _, rest = key.partition("__")
            nested.setdefault(head, {})[rest] = params.pop(key)
        super().set_params(**params)
        for head, changes in nested.items():
            spec = method_of(self.method) if head == "method" else getattr(self, head, None)
            if not isinstance(spec, Spec):
                raise ValueError(
                    f"{head!r} is no spec with options, so {sorted(changes)} cannot be set"
                )
            setattr(self, head, spec.with_params(**changes))
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "fitted_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def _fit(self) -> Fitted:
        if not hasattr(self, "fitted_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first")
        return self.fitted_

    def _check_options(self) -> None:
        wrong = {
            "seed": self.seed < 0,
            "validation": not 0 <= self.validation < 1,
            "max_files": self.max_files < 1,
            "memory": self.memory < 0,
            "on_error": self.on_error not in ("raise", "missing"),
        }
        rules = {"seed": "at least 0", "validation": "at least 0 and below 1", "max_files": "at least 1",
                 "memory": "at least 0", "on_error": "'raise' or 'missing'"}  # fmt: skip
        for name, bad in wrong.items():
            if bad:
                raise SpecError(f"{name} must be {rules[name]}, got {getattr(self, name)!r}")

    def _plan(self, root: Path | None, roles: Roles, task: TaskSpec) -> Plan:
        self._check_options()
        return Plan(
            method=method_of(self.method),
            task=task,
            encoders=self.encoders or {},
            training=self.training,
            column_types=self.column_types,
            reserved=roles.columns(),
            groups=roles.groups if isinstance(roles.groups, str) else None,
            root=root,
            seed=self.seed,
            validation=self.validation,
            on_error=self.on_error,
            max_files=self.max_files,
            join_text=self.join_text,
            device=device_of(self.device),
            memory=self.memory,
        )

    def _opened(self, source: Source, root: str | Path | None, where: str | None = None) -> Table:
        return opened(source, root, where, self._fit().info.get("root"))

    def _labelled(
        self, X: Source, y: Any, sample_weight: PerRow, root: str | Path | None
    ) -> tuple[Sample, Rows]:
        table = self._opened(X, root)
        label = self._fit().info["label"] if y is None else None
        roles = Roles(label, sample_weight=sample_weight)
        roles.check(table.frame)
        return self._sample(table), rows_of(table.frame, y, roles)

    def _sample(self, table: Table) -> Sample:
        return Sample(table.frame, table.root, self.on_error, self.memory)

    def _masked(self, frame: pd.DataFrame, mask: masks.Source | None) -> pd.DataFrame:
        schema = self._fit().schema
        return frame if mask is None else masks.apply(frame, schema, masks.opened(mask))

    def _answer(
        self,
        X: Source,
        root: str | Path | None,
        empty: Literal["raise", "prior"],
        mask: masks.Source | None = None,
    ) -> tuple[Answer, pd.Index]:
        fitted, table = self._fit(), self._checked(X, root)
        check_empty(empty)
        frame = self._masked(table.frame, mask)
        return fitted.answer(frame, table.root, self.on_error, empty), table.frame.index

    def _checked(self, X: Source, root: str | Path | None) -> Table:
        """The table, where it is none of named columns with the training table's number of them."""
        table = self._opened(X, root)
        if not is_table(X) and table.frame.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {table.frame.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return table

    def _set_names(self) -> None:
        info = self._fit().info
        self.n_features_in_ = len(info["features"])
        if info["named"]:
            self.feature_names_in_ = np.asarray(info["features"], dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
