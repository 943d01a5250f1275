"""scikit-learn faces of multiadapt: MultimodalClassifier and MultimodalRegressor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin

from multiadapt import artifact
from multiadapt.data import masks
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.gather import Source, is_table
from multiadapt.methods._base import Method, Training
from multiadapt.multimodal import Multimodal
from multiadapt.scoring import device_of
from multiadapt.tasks._base import TaskSpec
from multiadapt.tasks.classification import Classification
from multiadapt.tasks.multilabel import Multilabel
from multiadapt.tasks.regression import Regression
from multiadapt.types import Kind

__all__ = ["MultimodalClassifier", "MultimodalRegressor", "from_pretrained", "load"]


class MultimodalClassifier(ClassifierMixin, Multimodal):
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
        memory: gigabytes of frozen computation that may be kept during a fit or a report.
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
        return pd.DataFrame(values, index=index, columns=self.classes_) if is_table(X) else values

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


class MultimodalRegressor(RegressorMixin, Multimodal):
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
    fitted = artifact.load(folder, encoders=encoders, device=str(device_of(device)))
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
