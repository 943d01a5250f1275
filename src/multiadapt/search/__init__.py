"""Indexes of vectors: built, changed, searched, kept on disk."""

from multiadapt.search._base import Found, Id, VectorIndex
from multiadapt.search._open import KINDS, build_index, open_index

__all__ = ["KINDS", "Found", "Id", "VectorIndex", "build_index", "open_index"]
