"""Indexes of vectors: built, changed, searched, kept on disk."""

from multiadapt.search._base import Found, Id, Sources, VectorIndex, plain_cell, plain_id, plain_ids
from multiadapt.search._open import KINDS, build_index, check_index, open_index

__all__ = [
    "KINDS",
    "Found",
    "Id",
    "Sources",
    "VectorIndex",
    "build_index",
    "check_index",
    "open_index",
    "plain_cell",
    "plain_id",
    "plain_ids",
]
