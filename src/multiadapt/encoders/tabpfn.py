"""TabPFN as a frozen feature extractor, by name only: its weights are non-commercial and gated.

Hollmann et al., "Accurate predictions on small data with a tabular foundation model",
https://doi.org/10.1038/s41586-024-08328-6. Written against the public interface of tabpfn 9.2, as
read in its source (`get_embeddings` of its estimators, which exists since 2.0), and run only against
a stand-in for it: the weights need an account. Two things differ from the TabICL encoder. TabPFN
fits its preprocessing again for every context, and so for every fold: members are matched by their
seed, which is not certain where a column is constant or a class absent in one fold. And it runs its
context again for every block of rows.
"""

import importlib
import logging
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiadapt.encoders._base import Encoder, EncoderSpec, Learned, Origin, at_least
from multiadapt.encoders._fingerprint import fingerprint
from multiadapt.encoders._in_context import Context, InContext, grouped, standardised
from multiadapt.encoders._table import Vocabulary
from multiadapt.errors import EncoderError, ExtraError
from multiadapt.types import Stream

__all__ = ["TabPFNEncoder"]

_log = logging.getLogger("multiadapt")

_LICENCE = "Prior Labs: non-commercial, gated"

_CLASSES = 10  # what its published classifiers take


@dataclass(frozen=True)
class TabPFNEncoder(EncoderSpec):
    """A pretrained TabPFN, frozen. Needs `multiadapt[tabpfn]` and its licence accepted."""

    modality: ClassVar[str] = "tabular"

    source: str = "auto"
    """"auto" (the package's newest weights, from the hub) or the path of a checkpoint."""
    members: int = 8
    """Members of the ensemble, at least 1."""
    folds: int = 5
    """Parts of the training rows, at least 2: a row is embedded without the labels of its part."""
    max_context: int = 10_000
    """Training rows that are kept as context, at least 2; more are sampled evenly over the labels."""

    def check(self) -> None:
        at_least(self, members=1, folds=2, max_context=2)

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module:
        try:
            tabpfn: Any = importlib.import_module("tabpfn")
        except ImportError as error:
            raise ExtraError(
                "the tabpfn encoder needs its package: pip install multiadapt[tabpfn]"
            ) from error
        _log.warning(
            "TabPFN's weights are not free: recent ones are for non-commercial use only and gated "
            "behind an account at ux.priorlabs.ai; see huggingface.co/Prior-Labs for their licences"
        )
        if kind == "regression":
            return _TabPFN(tabpfn.TabPFNRegressor, self.source, np.float64)
        return _TabPFN(tabpfn.TabPFNClassifier, self.source, np.int64)

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return _TabPFNEncoder(self, stream, cast(_TabPFN, network), name)


class _TabPFN(nn.Module):
    """The estimator's class. tabpfn loads its network at each fit and keeps it itself."""

    def __init__(self, estimator: Any, source: str, labels: type[np.generic]) -> None:
        super().__init__()
        self.estimator, self.source, self.labels = estimator, source, labels


class _TabPFNEncoder(InContext):
    def __init__(self, spec: TabPFNEncoder, stream: Stream, backbone: _TabPFN, name: str) -> None:
        super().__init__(stream, name, spec.folds, spec.max_context)
        self.spec, self.backbone = spec, backbone
        self.context: Context | None = None
        self.whole: Any = None
        self.whole_device: torch.device | None = None
        self.sha256 = ""

    def take(self, kind: str, order: np.ndarray, rows: Float[np.ndarray, "n k"]) -> str:
        """Above ten classes, and for several labels a row, labels are taken in groups."""
        y = standardised(order) if kind == "regression" else grouped(order, _CLASSES)
        self._set_context(Context(rows, y))
        made = f"{self.spec.members} members, width {self.width} in all"
        labels = len(np.unique(order))
        if kind == "regression" or (kind == "classification" and labels <= _CLASSES):
            return made
        groups = min(_CLASSES, labels)
        return f"{made}; {labels} different labels in {groups} groups of like frequency"

    def look(
        self, rows: Float[np.ndarray, "b k"], seen: Int[np.ndarray, " c"] | None
    ) -> Float[Tensor, "b d"]:
        device = self.pooled.mean.device
        if seen is None and self.whole_device != device:
            self.whole, self.whole_device = self._fit(None), device
        estimator = self.whole if seen is None else self._fit(seen)
        found = torch.as_tensor(estimator.get_embeddings(rows, data_source="test"))
        if found.ndim != 3 or found.shape[1] != len(rows):
            raise EncoderError(
                f"TabPFN's embeddings must have shape (members, {len(rows)} rows, width), got "
                f"{tuple(found.shape)}; this version of tabpfn is not known"
            )
        # (E, N, D) -> (N, E, D) -> (N, E*D): without the transpose rows would mix.
        return found.float().transpose(0, 1).reshape(len(rows), -1).to(device)

    def origin(self) -> Origin:
        return Origin(self.spec.source, self.sha256, licence=_LICENCE)

    def learned(self) -> Learned:
        values = {"vocabulary": self.vocabulary.to_values(), "seed": self.seed}
        context = cast(Context, self.context)
        tensors = {"rows": torch.tensor(context.rows), "y": torch.tensor(context.y)}
        return Learned(values, tensors, holds_rows=True)

    def restore(self, learned: Learned) -> None:
        self.vocabulary = Vocabulary.from_values(learned.values["vocabulary"])
        self.seed = learned.values["seed"]
        rows, y = learned.tensors["rows"].numpy(), learned.tensors["y"].numpy()
        self._set_context(Context(rows, y))

    def _set_context(self, context: Context) -> None:
        """Fits the whole context and looks at one row of it: only then is the width known."""
        self.context, self.whole, self.whole_device = context, None, None
        self.set_width(self.look(context.rows[:1], None).shape[1])
        self.sha256 = fingerprint(nn.ModuleList(self.whole.models_))

    def _fit(self, seen: Int[np.ndarray, " c"] | None) -> Any:
        """An estimator that has the context, or the part of it that is seen."""
        context = cast(Context, self.context)
        rows, y = context.rows, context.y
        if seen is not None:
            rows, y = rows[seen], y[seen]
        estimator = self.backbone.estimator(
            n_estimators=self.spec.members,
            model_path=self.backbone.source,
            categorical_features_indices=list(range(len(self.vocabulary.categories))),
            device=str(self.pooled.mean.device),
            random_state=self.seed,
            ignore_pretraining_limits=True,
        )
        return estimator.fit(rows, y.astype(self.backbone.labels))
