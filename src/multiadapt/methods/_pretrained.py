"""Whose sites are whose: pretrained networks of pictures, texts and sounds, tables, a fusion's own."""

from collections.abc import Sequence

from multiadapt.types import Site

__all__ = ["is_pretrained", "of_pretrained", "of_tables"]


def is_pretrained(modality: str) -> bool:
    """Whether the modality's encoders are pretrained networks that may be adapted inside.

    A table's network is not: an in-context one is frozen as a whole, any other is trained anew. A
    fusion's own sites name no modality.
    """
    return modality not in ("", "tabular")


def of_pretrained(sites: Sequence[Site]) -> list[Site]:
    """The sites of pretrained networks."""
    return [s for s in sites if is_pretrained(s.modality)]


def of_tables(sites: Sequence[Site]) -> list[Site]:
    """The sites of tables."""
    return [s for s in sites if s.modality == "tabular"]
