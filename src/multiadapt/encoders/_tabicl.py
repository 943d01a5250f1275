"""TabICL networks: opening one, what it remembers of a context, and how it looks at new rows.

Qu et al., "TabICLv2", https://github.com/soda-inria/tabicl. Context and new rows go through the
stages' own cached passes, one ensemble member at a time, with what is remembered held outside of
the network: two threads that serve one network never share it.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from multiadapt.encoders._base import Origin
from multiadapt.encoders._fingerprint import fingerprint
from multiadapt.errors import EncoderError

__all__ = ["Memory", "TabICLNetwork", "open_tabicl"]

_REPOSITORY = "jingang/TabICL"


@dataclass(frozen=True)
class Memory:
    """What one member keeps of its context: what columns hold, and rows with their labels."""

    columns: Any
    """tabicl's KVCache: keys and values of every column's inducing points."""
    rows: Float[Tensor, "1 n d"]
    """Row vectors with their labels added; (1, 0, d) where only columns are looked at."""
    keys: Any = None
    """The in-context transformer's KVCache; None: computed again from `rows` at each look."""

    def to(self, device: torch.device) -> "Memory":
        keys = None if self.keys is None else self.keys.to(device)
        return Memory(self.columns.to(device), self.rows.to(device), keys)


class TabICLNetwork(nn.Module):
    """A frozen TabICL. It stays in evaluation mode: its training pass has no cache."""

    def __init__(self, network: Any, origin: Origin) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.width: int = network.embed_dim * network.row_num_cls
        self.classes: int = network.max_classes
        self.origin = replace(origin, sha256=fingerprint(network))
        self.train(False)

    def train(self, mode: bool = True) -> "TabICLNetwork":  # noqa: FBT001, FBT002 -- torch's own
        return super().train(False)

    @property
    def key_bytes(self) -> int:
        """Bytes of keys and values that one row of context takes in the in-context transformer."""
        return 2 * 4 * self.width * len(self.network.icl_predictor.tf_icl.blocks)

    @torch.no_grad()
    def remember(
        self, x: Float[Tensor, "n k"], y: Float[Tensor, " n"], *, labelled: bool, keys: bool
    ) -> Memory:
        """A member's context. `labelled`: for the in-context output. `keys`: with its keys."""
        from tabicl._model.kv_cache import KVCache

        columns = KVCache()
        rows = self._rows(x, columns, y)
        if not labelled:
            return Memory(columns, rows[:, :0])
        memory = Memory(columns, self.network.icl_predictor.prepare_repr_cache(rows, y[None]))
        return self.with_keys(memory) if keys else memory

    @torch.no_grad()
    def with_keys(self, memory: Memory) -> Memory:
        """The same with the in-context transformer's keys and values: looks cost no context."""
        from tabicl._model.attention import flash_attn3_toggle
        from tabicl._model.kv_cache import KVCache

        keys, size = KVCache(), memory.rows.shape[1]
        with flash_attn3_toggle(False):  # it would round to 16 bits
            self.network.icl_predictor.tf_icl.forward_with_cache(memory.rows, keys, train_size=size)
        return replace(memory, keys=keys)

    @torch.no_grad()
    def look(self, x: Float[Tensor, "m k"], memory: Memory) -> Float[Tensor, "m d"]:
        """One member's vectors of new rows: before the decoder, or after the row interaction."""
        from tabicl._model.attention import flash_attn3_toggle

        rows = self._rows(x, memory.columns, None)
        size = memory.rows.shape[1]
        if size == 0:
            return rows[0]
        predictor = self.network.icl_predictor
        with flash_attn3_toggle(False):
            if memory.keys is not None:
                out = predictor.tf_icl.forward_with_cache(
                    rows, memory.keys, use_cache=True, store_cache=False
                )
            else:
                joined = torch.cat([memory.rows, rows], dim=1)
                out = predictor.tf_icl(joined, train_size=size)[:, size:]
        return (predictor.ln(out) if predictor.norm_first else out)[0]

    def _rows(
        self, x: Float[Tensor, "m k"], columns: Any, y: Float[Tensor, " m"] | None
    ) -> Float[Tensor, "1 m d"]:
        """Row vectors of a context with labels, which fills `columns`, or of new rows without."""
        from tabicl import InferenceConfig

        exact = {"device": x.device, "use_amp": False, "use_fa3": False, "offload": False}
        config = InferenceConfig()
        config.update_from_dict({"COL_CONFIG": exact, "ROW_CONFIG": exact})
        embedded = self.network.col_embedder.forward_with_cache(
            x[None],
            columns,
            None if y is None else y[None],
            use_cache=y is None,
            store_cache=y is not None,
            mgr_config=config.COL_CONFIG,
        )
        return self.network.row_interactor(embedded, mgr_config=config.ROW_CONFIG)


def open_tabicl(
    source: str, kind: Literal["classification", "regression", "multilabel"]
) -> TabICLNetwork:
    """The network that `source` names for this kind of labels; EncoderError where it cannot be had."""
    from tabicl._model.tabicl import TabICL

    head: Literal["classifier", "regressor"] = "regressor" if kind == "regression" else "classifier"
    config, tensors, origin = _checkpoint(source, head)
    network = TabICL(**config)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise EncoderError(f"{source} does not hold the weights of its config: {first}") from error
    if (network.max_classes > 0) != (head == "classifier"):
        raise EncoderError(f"{kind} needs a TabICL {head}, {source} is the other kind")
    return TabICLNetwork(network, origin)


def _checkpoint(
    source: str, head: Literal["classifier", "regressor"]
) -> tuple[Mapping[str, Any], Mapping[str, Tensor], Origin]:
    if source == "tabicl":
        path = _download(head)
        return *_ckpt(path), Origin(source, revision=path.parent.name, licence="BSD-3-Clause")
    if source == "starter":
        folder = Path(str(resources.files("multiadapt"))) / "starter" / f"tabular-{head}"
        return *_folder(folder), Origin(source, licence="Apache-2.0")
    path = Path(source).expanduser()
    if path.is_file():
        return *_ckpt(path), Origin(source)
    inner = path / head
    return *_folder(inner if inner.is_dir() else path), Origin(source)


def _download(head: Literal["classifier", "regressor"]) -> Path:
    """tabicl's own newest checkpoint, from the hub's cache or the hub."""
    import huggingface_hub
    from tabicl import TabICLClassifier, TabICLRegressor

    kind = TabICLClassifier if head == "classifier" else TabICLRegressor
    name = kind().checkpoint_version
    try:
        return Path(huggingface_hub.hf_hub_download(_REPOSITORY, name))
    except (OSError, ValueError) as error:  # the hub's errors are either
        raise EncoderError(
            f"{name} of {_REPOSITORY} is not on this machine and cannot be downloaded ({error}); "
            f'use source="starter", which is inside the package, or the path of a .ckpt file'
        ) from error


def _ckpt(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """A checkpoint as tabicl writes it; only tensors and plain values are read from it."""
    if not zipfile.is_zipfile(path):
        raise EncoderError(f"{path} is no TabICL checkpoint: it is not a file that torch wrote")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        return held["config"], held["state_dict"]
    except (RuntimeError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{path} is no TabICL checkpoint with `config` and `state_dict`: {error}"
        ) from error


def _folder(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """A folder with config.json, whose `config` holds TabICL's arguments, and model.safetensors."""
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise EncoderError(
                f"a tabular network must be a .ckpt file or a folder with config.json and "
                f"model.safetensors; {folder / name} is absent"
            )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
    return config, load_file(folder / "model.safetensors")
