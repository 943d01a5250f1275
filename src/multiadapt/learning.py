"""What an in-context encoder makes of its training rows, kept from run to run: it is the same for every
method, and takes longer than all that a method does with it."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multiadapt.cache import Shelf, Store
from multiadapt.data.digest import table_digest
from multiadapt.encoders._base import Encoder, Learned
from multiadapt.types import Cells, Inputs, Labels

__all__ = ["learned"]

_log = logging.getLogger("multiadapt")

_COUNT, _VALUES, _INPUT, _KEPT = "count", "values", "input:", "learned:"


def learned(
    encoder: Encoder, cells: Cells, labels: Labels, seed: int, store: Store | None
) -> Inputs | None:
    """As `encoder.learn`, or read from the store where an equal encoder has learned the same before."""
    about = encoder.learns_by()
    if store is None or about is None or not isinstance(cells, pd.DataFrame):
        return encoder.learn(cells, labels, seed)
    shelf = replace(store, dtype="float32").shelf({**about, "start": "training rows", "cut": 1})
    key = _key(cells, labels, seed)
    if (row := shelf.read(key)) is not None:
        _log.info(
            "%s: what it learned of %d rows was read from %s",
            encoder.stream.name, len(cells), shelf.folder,
        )  # fmt: skip
        return _put_back(encoder, row)
    inputs = encoder.learn(cells, labels, seed)
    if inputs is not None:
        _keep(shelf, key, inputs, encoder.learned())
    return inputs


def _key(cells: pd.DataFrame, labels: Labels, seed: int) -> bytes:
    told = hashlib.sha256(f"{table_digest(cells)} {seed}".encode())
    for name, value in sorted(asdict(labels).items()):
        if name == "groups" and value is not None:
            value = pd.factorize(value)[0]  # words have no bytes of their own
        plain = value.dtype.str + str(value.shape) if isinstance(value, np.ndarray) else value
        told.update(f"\n{name} {plain} ".encode())
        if isinstance(value, np.ndarray):
            told.update(np.ascontiguousarray(value).tobytes())
    return told.digest()


def _keep(shelf: Shelf, key: bytes, inputs: Inputs, learned: Learned) -> None:
    """All of it as the one item of one row."""
    values = json.dumps({"values": learned.values, "rows": learned.holds_rows, "cut": inputs.cut})
    tensors: dict[str, Tensor] = {
        _COUNT: inputs.count,
        _VALUES: torch.tensor(list(values.encode()), dtype=torch.uint8),
        **{_INPUT + name: tensor for name, tensor in inputs.tensors.items()},
        **{_KEPT + name: tensor for name, tensor in learned.tensors.items()},
    }
    row = Inputs({name: tensor[None] for name, tensor in tensors.items()}, torch.tensor([1]))
    shelf.add([key], row)
    shelf.flush()  # the next one may have other shapes


def _put_back(encoder: Encoder, row: Inputs) -> Inputs:
    held = {name: tensor[0] for name, tensor in row.tensors.items()}
    told: Mapping[str, Any] = json.loads(bytes(held[_VALUES].tolist()))
    own = {
        prefix: {k.removeprefix(prefix): t for k, t in held.items() if k.startswith(prefix)}
        for prefix in (_INPUT, _KEPT)
    }
    encoder.restore(Learned(told["values"], own[_KEPT], holds_rows=told["rows"]))
    return Inputs(own[_INPUT], held[_COUNT], told["cut"])
