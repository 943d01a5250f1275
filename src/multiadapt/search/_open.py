"""Make an index of a named kind, and open a saved one of any."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from multiadapt.errors import ArtifactError, CellError, SpecError
from multiadapt.search._base import Id, Sources, VectorIndex
from multiadapt.search._folder import opened, read_sources
from multiadapt.search.exact import ExactIndex
from multiadapt.search.faiss import FaissIndex
from multiadapt.search.lance import LanceIndex

__all__ = ["KINDS", "build_index", "check_index", "open_index"]

_CLASSES = {"exact": ExactIndex, "hnsw": FaissIndex, "ivf": FaissIndex, "lance": LanceIndex}
KINDS = tuple(_CLASSES)


def build_index(
    ids: Sequence[Id],
    vectors: Float[np.ndarray, "n d"],
    *,
    made_by: str,
    kind: str = "exact",
    sources: Sources | None = None,
    **options: Any,
) -> VectorIndex:
    """An index of these unit vectors; other vectors can follow.

    `made_by` is a hash of what made the vectors, `sources` what they were made of. `kind` is exact, hnsw
    or ivf (FAISS) or lance (LanceDB); `options` are those of its class. ExtraError: FAISS or LanceDB is
    not installed.
    """
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise CellError(f"vectors must be of shape (n, width), got {vectors.shape}")
    index = _empty(kind, vectors.shape[1], made_by, options)
    index.add(ids, vectors)
    index.sources = sources
    return index


def open_index(folder: str | Path, *, made_by: str, root: str | Path | None = None) -> VectorIndex:
    """A saved index, checked. `root`: where the files of its cells lie now, if not where they lay.

    Raises:
        ArtifactError: it is cut short, altered, or of another model than `made_by`.
        SpecError: there is a `root`, and the index knows no files.
    """
    folder = Path(folder)
    manifest = opened(folder, made_by)
    if manifest.kind not in _CLASSES:
        raise ArtifactError(
            f"{folder} holds an index of kind {manifest.kind!r}; this version reads {', '.join(KINDS)}"
        )
    index = _CLASSES[manifest.kind].load(folder, manifest)
    index.sources = read_sources(folder)
    if root is not None:
        if index.sources is None:
            raise SpecError(f"{folder} keeps no paths of files: leave root out")
        index.sources = replace(index.sources, root=str(Path(root).resolve()))
    return index


def check_index(kind: str, options: Mapping[str, Any]) -> None:
    """What `build_index` refuses of kind and options, before there are vectors."""
    _empty(kind, 1, "", options)


def _empty(kind: str, dimension: int, made_by: str, options: Mapping[str, Any]) -> VectorIndex:
    if kind not in _CLASSES:
        raise SpecError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    given = inspect.signature(_CLASSES[kind]).parameters.values()
    known = [p.name for p in given if p.kind is p.KEYWORD_ONLY and p.name != "kind"]
    if unknown := [name for name in options if name not in known]:
        raise SpecError(
            f"an index of kind {kind!r} has no options {unknown}; it has {', '.join(known)}"
        )
    own = {"kind": kind} if _CLASSES[kind] is FaissIndex else {}
    return _CLASSES[kind](dimension, made_by, **own, **options)
