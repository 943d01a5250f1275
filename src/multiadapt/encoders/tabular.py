"""TabICL as a frozen feature extractor: what a table's row becomes in the context of the training rows.

Qu et al., "TabICL", https://arxiv.org/abs/2502.05564, and its second version; as the tabular branch
of TI-Adapter, https://arxiv.org/abs/2606.11682.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiadapt.encoders._base import Encoder, EncoderSpec, Learned, Origin, at_least
from multiadapt.encoders._folds import blocks
from multiadapt.encoders._in_context import Context, InContext, grouped, standardised
from multiadapt.encoders._tabicl import Memory, TabICLNetwork, open_tabicl
from multiadapt.encoders._table import Vocabulary
from multiadapt.encoders._views import Views
from multiadapt.errors import EncoderError
from multiadapt.types import Stream

__all__ = ["TabularEncoder"]

_LEARNS = 1
"""Raised when the same rows come to other contexts, folds or members than before: what is kept is of one."""
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
        at_least(self, members=1, folds=2, max_context=2)

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module:
        return open_tabicl(self.source, kind)

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return _Tabular(self, stream, cast(TabICLNetwork, network), name)


class _Tabular(InContext):
    def __init__(
        self, spec: TabularEncoder, stream: Stream, backbone: TabICLNetwork, name: str
    ) -> None:
        super().__init__(stream, name, spec.folds, spec.max_context)
        self.spec, self.output, self.backbone = spec, spec.output, backbone
        self.views: Views | None = None
        self.context: Context | None = None
        self.memories: list[Memory] = []

    def take(self, kind: str, order: np.ndarray, rows: Float[np.ndarray, "n k"]) -> str:
        """Above the network's number of classes there is no one embedding: the row output stands in."""
        labels, most = len(np.unique(order)), self.backbone.classes
        y = standardised(order) if kind == "regression" else grouped(order, most)
        single = kind == "regression" or (kind == "classification" and labels <= most)
        self.output = self.spec.output if single else "row"
        self._set_context(Context(rows, y))
        made = f"{len(self._fitted.members)} members of width {self.backbone.width}"
        if single:
            return made
        groups = min(most, labels)
        return f"{made}; {labels} different labels in {groups} groups of like frequency, row output"

    @torch.no_grad()
    def look(
        self, rows: Float[np.ndarray, "b k"], seen: Int[np.ndarray, " c"] | None
    ) -> Float[Tensor, "b d"]:
        device = self.pooled.mean.device
        memories = self._remembered() if seen is None else self._remember(torch.from_numpy(seen))
        found = [
            torch.cat([self.backbone.look(x[part].to(device), m) for part in blocks(len(x))])
            for x, m in zip(self._fitted.rows(rows), memories, strict=True)
        ]
        # (E, N, D) -> (N, E, D) -> (N, E*D): without the transpose rows would mix.
        return torch.stack(found).transpose(0, 1).reshape(len(rows), -1)

    def origin(self) -> Origin:
        return self.backbone.origin

    def learns_by(self) -> Mapping[str, str] | None:
        origin = self.origin()
        if not origin.sha256:
            return None
        return {
            "source": origin.source,
            "weights": origin.sha256,
            "built": json.dumps(self.spec.to_dict(), sort_keys=True),
            "device": self.pooled.mean.device.type,
            "versions": f"{_LEARNS}, torch {torch.__version__}, "
            + ", ".join(f"{name} {version(name)}" for name in ("tabicl", "scikit-learn", "numpy")),
        }

    def learned(self) -> Learned:
        """The context's rows, or with `context="embeddings"` what its columns and rows became."""
        values: dict[str, Any] = {
            "vocabulary": self.vocabulary.to_values(),
            "seed": self.seed,
            "output": self.output,
        }
        if self.spec.context == "embeddings":
            state, tensors = self._fitted.to_state()
            return Learned(values | state, tensors | _stacked(self._remembered()))
        context = cast(Context, self.context)
        tensors = {"rows": torch.tensor(context.rows), "y": torch.tensor(context.y)}
        return Learned(values | {"members": len(self._fitted.members)}, tensors, holds_rows=True)

    def held_bytes(self) -> int:
        """With keys and values of the context, once it has looked at a row."""
        kept: list[Any] = [*(() if self.context is None else (self.context.rows, self.context.y))]
        for memory in self.memories:
            caches = [cache for cache in (memory.columns, memory.keys) if cache is not None]
            entries = [entry for cache in caches for entry in cache.kv.values()]
            kept += [memory.rows, *(t for e in entries for t in (e.key, e.value))]
        return sum(t.nbytes for t in kept)

    def restore(self, learned: Learned) -> None:
        values, tensors = learned.values, learned.tensors
        self.vocabulary = Vocabulary.from_values(values["vocabulary"])
        self.seed, self.output = values["seed"], values["output"]
        if "rows" not in tensors:
            self._set_views(Views.from_state(values, tensors))
            self.context, self.memories = None, _unstacked(tensors, len(self._fitted.members))
            return
        self._set_context(Context(tensors["rows"].numpy(), tensors["y"].numpy()))
        if len(self._fitted.members) != values["members"]:
            raise EncoderError(
                f"{self.stream.name}: the saved context had {values['members']} members, this version "
                f"of tabicl makes {len(self._fitted.members)}; install the version it was saved with"
            )

    @property
    def _fitted(self) -> Views:
        return cast(Views, self.views)

    def _set_views(self, views: Views) -> None:
        self.views = views
        self.set_width(len(views.members) * self.backbone.width)

    def _set_context(self, context: Context) -> None:
        """Fit the preprocessing once, on all of the context: folds only choose what is in view."""
        self.context, self.memories = context, []
        members, classification = self.spec.members, self.backbone.classes > 0
        fitted = Views.fit(
            context.rows,
            context.y,
            classification=classification,
            members=members,
            seed=self.seed,
        )
        self._set_views(fitted)

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
        """What each member keeps of the context, or of the part of it that is seen."""
        context, device = cast(Context, self.context), self.pooled.mean.device
        x, y = self._fitted.rows(context.rows), self._fitted.targets(context.y)
        if seen is not None:
            x, y = [r[seen] for r in x], [t[seen] for t in y]
        icl, fit = self.output == "icl", self._keys_fit(len(x[0]))
        return [
            self.backbone.remember(r.to(device), t.to(device), labelled=icl, keys=fit)
            for r, t in zip(x, y, strict=True)
        ]

    def _keys_fit(self, rows: int) -> bool:
        return 0 < rows * self.backbone.key_bytes * len(self._fitted.members) <= _KEY_LIMIT


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
