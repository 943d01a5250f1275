"""Saved models whose columns have roles, opened by what their folder says that it holds."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

__all__ = ["FACES", "face", "kind_of", "moved"]

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


def moved(backbone: str | None, encoder: Mapping[str, str]) -> str | dict[str, str] | None:
    """Where the frozen networks lie now, as `load` takes it; None: nothing has moved."""
    if backbone is not None and encoder:
        raise click.UsageError(
            "give --backbone where one network has moved, or --encoder where one of two has, not both"
        )
    return dict(encoder) or backbone
