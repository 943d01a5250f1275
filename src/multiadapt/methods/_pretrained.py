"""Whose sites are whose: pretrained networks of pictures, texts and sounds, tables, a fusion's own."""

from collections.abc import Mapping, Sequence

from multiadapt.adapters._base import AdapterSpec
from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.methods._base import Method
from multiadapt.types import Site, Stream

__all__ = ["check_method", "each_pretrained", "is_pretrained", "of_pretrained", "of_tables"]

OTHERS = "default"
"""The name of what streams get that are named neither themselves nor by their modality."""


def check_method(method: Method, whose: str = "a retriever's") -> None:
    """SpecError: the method leaves out texts or pictures, so that it cannot train what reads both."""
    lost = [m for m in ("text", "image") if not method.uses(Stream(m, m, ()))]
    if lost:
        raise SpecError(
            f"{whose} method must read every kind of column; {method.name!r} leaves out "
            f"{' and '.join(lost)}: take uniadapter, lora or frozen"
        )


def is_pretrained(modality: str) -> bool:
    """Whether the modality's encoders are pretrained networks that may be adapted inside.

    A table's network is not: an in-context one is frozen as a whole, any other is trained anew. A
    fusion's own sites name no modality.
    """
    return modality not in ("", "tabular")


def of_pretrained(sites: Sequence[Site]) -> list[Site]:
    """The sites of pretrained networks."""
    return [s for s in sites if is_pretrained(s.modality)]


def each_pretrained(
    adapter: AdapterSpec | Mapping[str, AdapterSpec], sites: Sequence[Site]
) -> Mapping[Site, Adapter]:
    """Adapters for the sites of pretrained networks, of one kind, or of the kind of each stream's name.

    The name of a column goes before that of a modality, and that before "default"; a stream without any
    of them stays frozen. Streams under one name share as the kind says, others never do. SpecError: a
    name that is neither a column nor a modality here.
    """
    own = of_pretrained(sites)
    if not isinstance(adapter, Mapping):
        return adapter.build(own)
    streams = {site.stream: site.modality for site in own}
    known = dict.fromkeys([*streams, *streams.values()])
    if unknown := [name for name in adapter if name not in (*known, OTHERS)]:
        raise SpecError(
            f"adapters are named by column or modality, or {OTHERS!r} for all others; {unknown} are "
            f"none of {list(known)}, which pretrained networks read here"
        )
    chosen = {
        s: next((n for n in (s, m, OTHERS) if n in adapter), None) for s, m in streams.items()
    }
    built: dict[Site, Adapter] = {}
    for name, spec in adapter.items():
        if named := [site for site in own if chosen[site.stream] == name]:
            built |= spec.build(named)
    return built


def of_tables(sites: Sequence[Site]) -> list[Site]:
    """The sites of tables."""
    return [s for s in sites if s.modality == "tabular"]
