"""scikit-learn faces of multiadapt: MultimodalClassifier and MultimodalRegressor."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, check_array

from multiadapt import artifact
from multiadapt.data import masks
from multiadapt.data.tables import Table, read_table
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.fitted import Answer, Fitted
from multiadapt.fitting import Plan, Rows, fit
from multiadapt.folding import folded
from multiadapt.gather import PerRow, Roles, rows_of
from multiadapt.methods._base import Method, Training
from multiadapt.peft_files.reading import import_peft
from multiadapt.peft_files.writing import export_peft
from multiadapt.reports._coalitions import Sample
from multiadapt.reports.contributions import Contributions, contributions, explain
from multiadapt.reports.progress import showing
from multiadapt.reports.robustness import EACH_AND_BOTH, RATES, Grid, Robustness, robustness
from multiadapt.spec import Spec, resolve
from multiadapt.tasks._base import TaskSpec
from multiadapt.tasks.classification import Classification
from multiadapt.tasks.multilabel import Multilabel
from multiadapt.tasks.regression import Regression
from multiadapt.training import Session
from multiadapt.types import Kind

__all__ = ["MultimodalClassifier", "MultimodalRegressor", "from_pretrained", "load"]

Source: TypeAlias = Any
"""A pandas or polars DataFrame, an Arrow table, a path to CSV, Parquet or Arrow, or an array."""


class _Multimodal(BaseEstimator, ABC):
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
    ) -> "_Multimodal":
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
        """
        if (y is None) == (label is None):
            given = "neither" if y is None else "both"
            note = ": it requires y to be passed, but the target y is None" if y is None else ""
            raise SpecError(f"fit takes exactly one of y and label=, got {given}{note}")
        names = label if label is None or isinstance(label, str) else list(label)
        roles = Roles(names, split_column, groups, sample_weight)
        table = self._table(X, root)
        roles.check(table.frame)
        if table.root is not None and not table.root.is_dir():
            raise SpecError(f"root must be an existing folder, got {str(table.root)!r}")
        rows, held = roles.split(table, y)
        if val_data is not None:
            held = self._given(val_data, roles, held, table.root, root)
        plan = self._plan(table.root, roles, self._task(rows.labels))
        with showing(verbose=self.verbose) as tell:
            session = Session(time_limit, Path(resume) if resume else None, tell=tell)
            self.fitted_ = fit(plan, rows, held, session=session)
        features = [c for c in table.frame.columns if c not in roles.columns()]
        self.fitted_.info |= {
            "label": roles.label,
            "root": None if table.root is None else str(table.root.resolve()),
            "features": features,
            "named": _is_table(X),
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
        predicted = self._like(X, self._fit().target.predict(answer.scores), index)
        return _detailed(predicted, answer, index) if details else predicted

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
        _check_empty(empty)
        fitted = self._fit()
        table = self._table(X, root, where)
        roles = Roles(fitted.info["label"] if y is None else None, sample_weight=sample_weight)
        roles.check(table.frame)
        rows = rows_of(table.frame, y, roles)
        frame = self._masked(table.frame, mask)
        answer = fitted.answer(frame, self._root(table, root), self.on_error, empty)
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
        against: Mapping[str, "_Multimodal"] | None = None,
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
        table = self._table(_one_row(X), root)
        return explain(self._fit(), self._sample(table, root), of)

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
        model = self._fit().model
        for stream, folder in folders.items():
            if stream not in model.streams:
                raise SpecError(
                    f"no stream is named {stream!r}; this model has {list(model.streams)}"
                )
            import_peft(folder, model.encoder(stream)).fill(model.placed)

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Inside, LoRA and its kin are part of the frozen weights, so that predicting costs no more than
        the bare encoders; afterwards the same weights are back, bit for bit. For one thread at a time."""
        model = self._fit().model
        with folded({s: model.encoder(s) for s in model.streams}, model.placed):
            yield

    def set_params(self, **params: Any) -> "_Multimodal":
        """scikit-learn's; a nested name such as `method__image__variant` replaces the frozen spec."""
        nested: dict[str, dict[str, Any]] = {}
        for key in [k for k in params if "__" in k]:
            head, _, rest = key.partition("__")
            nested.setdefault(head, {})[rest] = params.pop(key)
        super().set_params(**params)
        for head, changes in nested.items():
            spec = self._method() if head == "method" else getattr(self, head, None)
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

    def _method(self) -> Method:
        return self.method if isinstance(self.method, Method) else resolve("methods", self.method)()

    def _given(
        self,
        val_data: Source,
        roles: Roles,
        held: Rows | None,
        root: Path | None,
        given: str | Path | None,
    ) -> Rows:
        """The rows of `val_data`, whose files are relative to the training table's `root` too."""
        if held is not None:
            raise SpecError(
                f"both val_data and 'val' rows of {roles.split_column!r} are given; give one"
            )
        pair = isinstance(val_data, tuple)
        if pair != (roles.label is None):
            raise SpecError("val_data is a pair (X, y) when y is given, and a table when label= is")
        source, y = val_data if pair else (val_data, None)
        weight = roles.sample_weight if isinstance(roles.sample_weight, str) else None
        groups = roles.groups if isinstance(roles.groups, str) else None
        table = self._table(source, given)
        if table.root is not None and table.root != root:
            raise SpecError(
                f"files of val_data must be relative to the training table's folder {root}, but it lies "
                f"in {table.root}; pass root= with a folder that holds both"
            )
        own = Roles(roles.label, None, groups, weight)
        own.check(table.frame)
        return rows_of(table.frame, y, own)

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
            method=self._method(),
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
            device=_device(self.device),
            memory=self.memory,
        )

    def _table(self, X: Source, root: str | Path | None, where: str | None = None) -> Table:
        return read_table(_framed(X), root=None if root is None else Path(root), where=where)

    def _root(self, table: Table, root: str | Path | None) -> Path | None:
        if root is not None or table.root is not None:
            return table.root if root is None else Path(root)
        saved = self._fit().info.get("root")
        return None if saved is None else Path(saved)

    def _labelled(
        self, X: Source, y: Any, sample_weight: PerRow, root: str | Path | None
    ) -> tuple[Sample, Rows]:
        table = self._table(X, root)
        label = self._fit().info["label"] if y is None else None
        roles = Roles(label, sample_weight=sample_weight)
        roles.check(table.frame)
        return self._sample(table, root), rows_of(table.frame, y, roles)

    def _sample(self, table: Table, root: str | Path | None) -> Sample:
        return Sample(table.frame, self._root(table, root), self.on_error)

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
        fitted = self._fit()
        table = self._table(X, root)
        if not _is_table(X) and table.frame.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {table.frame.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        _check_empty(empty)
        where, frame = self._root(table, root), self._masked(table.frame, mask)
        return fitted.answer(frame, where, self.on_error, empty), table.frame.index

    def _like(self, X: Source, values: np.ndarray, index: pd.Index) -> Any:
        if not _is_table(X):
            return values
        name = self._fit().info["label"]
        if values.ndim == 2:
            return pd.DataFrame(values, index=index, columns=self._fit().target.state()["names"])
        return pd.Series(values, index=index, name=name if isinstance(name, str) else None)

    def _set_names(self) -> None:
        info = self._fit().info
        self.n_features_in_ = len(info["features"])
        if info["named"]:
            self.feature_names_in_ = np.asarray(info["features"], dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_


def _check_empty(empty: str) -> None:
    if empty not in ("raise", "prior"):
        raise SpecError(f"empty must be 'raise' or 'prior', got {empty!r}")


def _detailed(predicted: Any, answer: Answer, index: pd.Index) -> pd.DataFrame:
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


_SPECS = ("method", "encoders", "training", "device", "seed")
"""Options that an artifact keeps as specs, or that belong to the machine."""


class MultimodalClassifier(ClassifierMixin, _Multimodal):
    """Classes, or several labels a row, from a table with files.

    Args:
        method: what is trained; a spec, or a name such as "ti-adapter", "frozen", "full", "trees".
        encoders: by modality or column: a hub name, a folder, "starter" or a spec. What is not
            named is the hub's default where there is a network, else the starter encoder.
        training: the recipe; None is the method's own.
        column_types: kinds of columns that are not to be guessed.
        class_weight: a weight by class; "balanced" takes the inverse of their frequency.
        separator: the label cells hold several labels with this between them.
        metric: the one shown while training and used to compare.
        validation: share of rows held out for early stopping where none are given; 0: none.
        on_error: "missing" treats an unreadable cell as missing and lists it.
        max_files: most files in one cell.
        join_text: all text columns are read as one text, with their names; else each on its own.
        device: "cpu", "cuda" ...; None picks a GPU where there is one.
        memory: gigabytes of frozen computation that may be kept during a fit.
    """

    def __init__(
        self,
        method: str | Method = "ti-adapter",
        *,
        encoders: Mapping[str, str | EncoderSpec] | None = None,
        training: Training | None = None,
        column_types: Mapping[str, Kind] | None = None,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        separator: str | None = None,
        metric: str | None = None,
        seed: int = 0,
        validation: float = 0.2,
        on_error: Literal["raise", "missing"] = "raise",
        max_files: int = 8,
        join_text: bool = False,
        device: str | None = None,
        memory: float = 4.0,
        verbose: bool = True,
    ) -> None:
        self.method = method
        self.encoders = encoders
        self.training = training
        self.column_types = column_types
        self.class_weight = class_weight
        self.separator = separator
        self.metric = metric
        self.seed = seed
        self.validation = validation
        self.on_error = on_error
        self.max_files = max_files
        self.join_text = join_text
        self.device = device
        self.memory = memory
        self.verbose = verbose

    def predict_proba(
        self,
        X: Source,
        *,
        root: str | Path | None = None,
        empty: Literal["raise", "prior"] = "raise",
        mask: masks.Source | None = None,
    ) -> Any:
        """Probabilities: a DataFrame with a column for each class (or label); an array when `X` is one.
        `empty` and `mask` are as in `predict`."""
        answer, index = self._answer(X, root, empty, mask)
        values = self._fit().target.probabilities(answer.scores)
        return pd.DataFrame(values, index=index, columns=self.classes_) if _is_table(X) else values

    @property
    def classes_(self) -> np.ndarray:
        """The classes, sorted; the labels' names where rows have several."""
        state = self._fit().target.state()
        return np.asarray(state["names"] if "names" in state else state["classes"])

    def _task(self, labels: pd.Series | pd.DataFrame) -> TaskSpec:
        chosen: dict[str, Any] = {"metric": self.metric} if self.metric else {}
        several = isinstance(labels, pd.DataFrame) or self.separator is not None
        first = None if isinstance(labels, pd.DataFrame) or len(labels) == 0 else labels.iloc[0]
        if several or isinstance(first, (list, tuple, set, np.ndarray)):
            if self.class_weight is not None:
                raise SpecError("class_weight is for one label per row; these rows have several")
            return Multilabel(separator=self.separator, **chosen)
        weight: Any = self.class_weight
        if isinstance(weight, Mapping):
            weight = tuple(weight.items())
        return Classification(class_weight=weight, **chosen)


class MultimodalRegressor(RegressorMixin, _Multimodal):
    """A number from a table with files.

    Args:
        target: "log" learns the logarithm of a positive target.
        method, encoders, training, column_types, metric, seed, validation, on_error, max_files, join_text,
            device, memory, verbose: as in `MultimodalClassifier`.
    """

    def __init__(
        self,
        method: str | Method = "ti-adapter",
        *,
        encoders: Mapping[str, str | EncoderSpec] | None = None,
        training: Training | None = None,
        column_types: Mapping[str, Kind] | None = None,
        target: Literal["identity", "log"] = "identity",
        metric: str | None = None,
        seed: int = 0,
        validation: float = 0.2,
        on_error: Literal["raise", "missing"] = "raise",
        max_files: int = 8,
        join_text: bool = False,
        device: str | None = None,
        memory: float = 4.0,
        verbose: bool = True,
    ) -> None:
        self.method = method
        self.encoders = encoders
        self.training = training
        self.column_types = column_types
        self.target: Literal["identity", "log"] = target
        self.metric = metric
        self.seed = seed
        self.validation = validation
        self.on_error = on_error
        self.max_files = max_files
        self.join_text = join_text
        self.device = device
        self.memory = memory
        self.verbose = verbose

    def _task(self, labels: pd.Series | pd.DataFrame) -> TaskSpec:
        chosen: dict[str, Any] = {"metric": self.metric} if self.metric else {}
        return Regression(target=self.target, **chosen)


def load(
    folder: str | Path,
    *,
    encoders: Mapping[str, str | EncoderSpec] | None = None,
    device: str | None = None,
) -> MultimodalClassifier | MultimodalRegressor:
    """A saved model, checked on its golden rows, ready to predict.

    `encoders` names another place for frozen weights that have moved; their hash must be the saved
    one. ArtifactError: a file is missing, altered, or of another format.
    """
    fitted = artifact.load(folder, encoders=encoders, device=str(_device(device)))
    kind = MultimodalRegressor if fitted.target.kind == "regression" else MultimodalClassifier
    model = kind(
        method=fitted.method,
        training=fitted.training,
        encoders=dict(fitted.specs),
        seed=fitted.seed,
        device=device,
        **fitted.info["options"],
    )
    model.fitted_ = fitted
    model._set_names()
    return model


def from_pretrained(
    repo_id: str, *, revision: str | None = None, **options: Any
) -> MultimodalClassifier | MultimodalRegressor:
    """A model from a Hugging Face repository, or from a local folder of that name."""
    return load(artifact.fetch(repo_id, revision), **options)


def _framed(X: Source) -> Source:
    """Arrays, lists of lists and the like become a DataFrame with columns x0, x1 ..."""
    if _is_table(X):
        return X
    values = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=0)  # type: ignore[arg-type]
    return pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])


def _one_row(X: Source) -> Source:
    """A Series or a mapping as a table of one row."""
    if isinstance(X, pd.Series):
        return X.to_frame().T
    return pd.DataFrame([X]) if isinstance(X, Mapping) else X


def _is_table(X: Source) -> bool:
    """Whether X has named columns, or is a file that has."""
    return isinstance(X, (str, Path, pd.DataFrame)) or type(X).__module__.startswith(
        ("polars", "pyarrow")
    )


def _device(name: str | None) -> torch.device:
    if name is not None and name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError(
            f"device {name!r} needs a GPU that torch sees, and there is none; use 'cpu'"
        )
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise SpecError(
            f"device must be one that torch knows, such as 'cpu' or 'cuda:0', got {name!r}"
        ) from error
