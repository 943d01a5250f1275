"""Saved models whose columns have roles, opened by what their folder says that it holds."""

import importlib
from pathlib import Path
from typing import Any

__all__ = ["FACES", "face", "kind_of"]

FACES = {
    "retriever": ("retriever", "CrossModalRetriever"),
    "answering": ("answerer", "QuestionAnswerer"),
    "captioning": ("captioner", "Captioner"),
}
"""Module and estimator by the kind in a folder's config.json; all other folders hold a model of tables."""


def kind_of(folder: Path) -> str | None:
    """The kind of a saved model; None: one for the rows of tables, or one that is not known here."""
    from multiadapt.folders import read_config

    kind = read_config(folder).get("kind")
    return kind if kind in FACES else None


def face(kind: str) -> Any:
    """The estimator of this kind."""
    module, name = FACES[kind]
    return getattr(importlib.import_module(f"multiadapt.{module}"), name)
