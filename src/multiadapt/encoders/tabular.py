"""TabICL as a frozen feature extractor: what a table's row becomes in the context of the training rows.

Qu et al., "TabICL", https://arxiv.org/abs/2502.05564, and its second version; as the tabular branch
of TI-Adapter, https://arxiv.org/abs/2606.11682.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.attach import running
from multiadapt.encoders._base import Encoder, EncoderSpec, Learned, Origin, Standardize
from multiadapt.encoders._folds import blocks, choose_context, choose_folds, out_of_fold, strata
from multiadapt.encoders._table import Vocabulary, frame_of
from multiadapt.encoders._tabicl import Memory, TabICLNetwork, open_tabicl
from multiadapt.encoders._views import Views
from multiadapt.errors import EncoderError, SpecError
from multiadapt.types import Cells, Inputs, Labels, Site, Stream, Tokens

__all__ = ["TabularEncoder"]

_log = logging.getLogger("multiadapt")

_KEY_LIMIT = 4 * 2**30  # bytes; ten thousand rows in eight members of tabicl's own checkpoint fit


@dataclass(frozen=True)
class TabularEncoder(EncoderSpec):
    """A pretrained in-context network, frozen; training rows get out-of-fold embeddings."""

    modality: ClassVar[str] = "tabular"

    source: str = "starter"
    """"starter" (inside the package), "tabicl" (its own checkpoint, from the hub), a .ckpt file, or a
    folder with config.json and model.safetensors, or with such folders `classifier` and `regressor`."""
    members: int = 8
    """Members of the ensemble, at least 1; a narrow table delivers fewer."""
    output: Literal["icl", "row"] = "icl"
    """icl: the in-context network's last state. row: the state of the row before it sees other rows."""
    folds: int = 5
    """Parts of the training rows, at least 2: a row is embedded without the labels of its part."""
    max_context: int = 10_000
    """Training rows that are kept as context, at least 2; more are sampled evenly over the labels."""
    context: Literal["rows", "embeddings"] = "rows"
    """What a saved model holds. rows: training rows and labels. embeddings: per member a vector of each,
    larger by far; no cell is stored, but nobody promises that none can be guessed from the vectors."""

    def check(self) -> None:
        for field, least in (("members", 1), ("folds", 2), ("max_context", 2)):
            if getattr(self, field) < least:
                raise SpecError(f"{field} must be at least {least}, got {getattr(self, field)}")

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module:
        return open_tabicl(self.source, kind)

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return _Tabular(self, stream, cast(TabICLNetwork, network), name)


@dataclass(frozen=True)
class _Context:
    """The labelled rows that new rows are looked at with."""

    rows: Float[np.ndarray, "n k"]
    """Category codes, then numbers; NaN where a number is missing."""
    y: Float[np.ndarray, " n"]
    """Class or bin numbers from 0, or values of zero mean and unit deviation."""


class _Tabular(Encoder):
    """Its `width` is known after `learn` or `restore`: members times the network's width."""

    def __init__(
        self, spec: TabularEncoder, stream: Stream, backbone: TabICLNetwork, name: str
    ) -> None:
        super().__init__()
        self.spec, self.stream, self.name = spec, stream, name
        self.backbone = backbone
        self.width, self.blocks, self.trained = 0, 0, False
        self.pooled = Standardize(0)
        self.seed, self.output = 0, spec.output
        self.vocabulary = Vocabulary((), {})
        self.views: Views | None = None
        self.known: _Context | None = None
        self.memories: list[Memory] = []

    def learn(self, cells: Cells, labels: Labels, seed: int) -> Inputs | None:
        """Fits the context; gives the training rows' embeddings, none made with its own label."""
        frame, order = frame_of(cells), strata(labels.y)
        chosen = choose_context(order, self.spec.max_context, seed)
        self.vocabulary, self.seed = Vocabulary.learn(frame.iloc[chosen]), seed
        self.output, y = self._targets(labels.kind, order[chosen])
        rows = _codes(self.vocabulary, frame)
        self._set_context(rows[chosen], y)
        _log.info(
            "%s: a context of %d of %d training rows, embedded by %d members of width %d",
            self.stream.name, len(chosen), len(frame), len(self._views.members), self.backbone.width,
        )  # fmt: skip
        fold = choose_folds(order, labels.groups, chosen, self.spec.folds, seed)
        vectors = out_of_fold(fold, chosen, lambda seen, asked: self._fold(seen, rows[asked]))
        return _at_the_end(torch.from_numpy(vectors))

    def prepare(self, cells: Cells) -> Inputs:
        frame = frame_of(cells)
        rows = torch.tensor(_codes(self.vocabulary, frame))
        return Inputs({"rows": rows}, torch.ones(len(frame), dtype=torch.int64))

    @torch.no_grad()
    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        if not inputs.cut <= cut <= 1:
            raise EncoderError(f"cut must be in {inputs.cut}..1 for these inputs, got {cut}")
        if cut == inputs.cut:
            return inputs
        rows = inputs.tensors["rows"].cpu().numpy()
        return Inputs({"pooled": self._look(rows, self._remembered())}, inputs.count, 1)

    def forward(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None = None) -> Tokens:
        deep, present = self.prefix(inputs, 1), inputs.count > 0
        with running(self.stream.name):
            return Tokens.single(self.pooled(deep.tensors["pooled"], present), present)

    def sites(self) -> tuple[Site, ...]:
        return (
            Site(
                stream=self.stream.name,
                path="pooled",
                role="pooled",
                block=self.blocks,
                in_width=self.width,
                out_width=self.width,
                network=self.name,
                modality="tabular",
                layout="vector",
            ),
        )

    def origin(self) -> Origin:
        return self.backbone.origin

    def learned(self) -> Learned:
        """The context's rows, or with `context="embeddings"` what their columns and rows became."""
        values = {
            "vocabulary": self.vocabulary.to_values(),
            "seed": self.seed,
            "output": self.output,
        }
        if self.spec.context == "rows":
            known = cast(_Context, self.known)
            tensors = {"rows": torch.tensor(known.rows), "y": torch.tensor(known.y)}
            members = len(self._views.members)
            return Learned(values | {"members": members}, tensors, holds_rows=True)
        state, tensors = self._views.to_state()
        return Learned(values | state, tensors | _stacked(self._remembered()))

    def restore(self, learned: Learned) -> None:
        values, tensors = learned.values, learned.tensors
        self.vocabulary = Vocabulary.from_values(values["vocabulary"])
        self.seed, self.output = values["seed"], values["output"]
        if "rows" not in tensors:
            self.known = None
            self._set_views(Views.from_state(values, tensors))
            self.memories = _unstacked(tensors, len(self._views.members))
            return
        self._set_context(tensors["rows"].numpy(), tensors["y"].numpy())
        if len(self._views.members) != values["members"]:
            raise EncoderError(
                f"{self.stream.name}: the saved context had {values['members']} members, this version "
                f"of tabicl makes {len(self._views.members)}; install the version it was saved with"
            )

    @property
    def _views(self) -> Views:
        if self.views is None:
            raise EncoderError(
                f"{self.stream.name}: an in-context encoder must learn its context first"
            )
        return self.views

    def _set_views(self, views: Views) -> None:
        self.views = views
        self.width = len(views.members) * self.backbone.width
        self.pooled = Standardize(self.width).to(self.pooled.mean.device)

    def _set_context(self, rows: Float[np.ndarray, "n k"], y: Float[np.ndarray, " n"]) -> None:
        views = Views.fit(
            rows,
            y,
            classification=self.backbone.classes > 0,
            members=self.spec.members,
            seed=self.seed,
        )
        self.known, self.memories = _Context(rows, y), []
        self._set_views(views)

    def _targets(
        self, kind: str, order: np.ndarray
    ) -> tuple[Literal["icl", "row"], Float[np.ndarray, " n"]]:
        """The context's labels as the network takes them, and which of its outputs then means one thing."""
        if kind == "regression":
            y = order.astype(np.float64)
            return self.spec.output, (y - y.mean()) / (y.std() if y.std() > 0 else 1.0)
        classes, y, count = np.unique(order, return_inverse=True, return_counts=True)
        most = self.backbone.classes
        if kind == "classification" and len(classes) <= most:
            return self.spec.output, y.astype(np.float64)
        _log.info(
            "%s: %s with %d different labels, in %d groups of like frequency; row output",
            self.stream.name, kind, len(classes), min(most, len(classes)),
        )  # fmt: skip
        return "row", _bins(count, most)[y].astype(np.float64)

    def _fold(self, seen: np.ndarray, asked: Float[np.ndarray, "q k"]) -> Float[np.ndarray, "q d"]:
        """Embeddings of rows with only the `seen` part of the context in view."""
        return self._look(asked, self._remember(torch.from_numpy(seen))).cpu().numpy()

    def _remembered(self) -> list[Memory]:
        """The whole context on this module's device, computed at its first use."""
        device = self.pooled.mean.device
        if not self.memories:
            self.memories = self._remember(None)
        if self.memories[0].rows.device != device:
            self.memories = [m.to(device) for m in self.memories]
        if self.memories[0].keys is None and self._keys_fit(self.memories[0].rows.shape[1]):
            self.memories = [self.backbone.with_keys(m) for m in self.memories]
        return self.memories

    def _remember(self, seen: Tensor | None) -> list[Memory]:
        known, device = cast(_Context, self.known), self.pooled.mean.device
        x, y = self._views.rows(known.rows), self._views.targets(known.y)
        if seen is not None:
            x, y = [r[seen] for r in x], [t[seen] for t in y]
        icl, fit = self.output == "icl", self._keys_fit(len(x[0]))
        return [
            self.backbone.remember(r.to(device), t.to(device), labelled=icl, keys=fit)
            for r, t in zip(x, y, strict=True)
        ]

    def _keys_fit(self, rows: int) -> bool:
        return 0 < rows * self.backbone.key_bytes * len(self._views.members) <= _KEY_LIMIT

    def _look(
        self, rows: Float[np.ndarray, "b k"], memories: Sequence[Memory]
    ) -> Float[Tensor, "b d"]:
        """Each row's vectors of all members side by side."""
        device = self.pooled.mean.device
        if len(rows) == 0:
            return torch.zeros(0, self.width, device=device)
        found = [
            torch.cat([self.backbone.look(x[part].to(device), m) for part in blocks(len(x))])
            for x, m in zip(self._views.rows(rows), memories, strict=True)
        ]
        # (E, N, D) -> (N, E, D) -> (N, E*D): without the transpose rows would mix.
        return torch.stack(found).transpose(0, 1).reshape(len(rows), -1)


def _codes(vocabulary: Vocabulary, frame: pd.DataFrame) -> Float[np.ndarray, "b k"]:
    """Columns in tabicl's order and codes: categories first, -1 for missing and unseen ones."""
    codes = np.maximum(vocabulary.codes(frame), -1)
    return np.concatenate([codes.astype(np.float64), vocabulary.numbers(frame)], axis=1)


def _at_the_end(pooled: Float[Tensor, "b d"]) -> Inputs:
    return Inputs({"pooled": pooled}, torch.ones(len(pooled), dtype=torch.int64), 1)


def _bins(count: np.ndarray, most: int) -> np.ndarray:
    """Which of `most` groups each label is in: the frequent first, each to the smallest group."""
    size, group = np.zeros(min(most, len(count))), np.empty(len(count), np.int64)
    for label in np.argsort(-count, kind="stable"):
        group[label] = size.argmin()
        size[group[label]] += count[label]
    return group


def _stacked(memories: Sequence[Memory]) -> dict[str, Tensor]:
    """The members' memories as tensors; keys are left out, they follow from the rows."""
    tensors = {"labelled": torch.cat([m.rows for m in memories])}
    for block in memories[0].columns.kv:
        entries = [m.columns.kv[block] for m in memories]
        tensors[f"columns/{block}/key"] = torch.cat([e.key for e in entries])
        tensors[f"columns/{block}/value"] = torch.cat([e.value for e in entries])
    return {k: t.cpu() for k, t in tensors.items()}


def _unstacked(tensors: Mapping[str, Tensor], members: int) -> list[Memory]:
    from tabicl._model.kv_cache import KVCache, KVCacheEntry

    columns: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("columns/"):
            _, block, part = key.split("/")
            columns.setdefault(int(block), {})[part] = tensor
    memories: list[Memory] = []
    for e in range(members):
        entries: dict[int, Any] = {
            b: KVCacheEntry(kv["key"][e : e + 1], kv["value"][e : e + 1])
            for b, kv in columns.items()
        }
        memories.append(Memory(KVCache(kv=entries), tensors["labelled"][e : e + 1]))
    return memories
