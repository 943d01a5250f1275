"""The network that a name stands for: BLIP with its cross-modal part, or a tower for each side."""

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import TypeAlias

from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal.blip import Blip
from multiadapt.crossmodal.dual import Dual
from multiadapt.encoders._base import EncoderSpec
from multiadapt.encoders._families._base import families
from multiadapt.encoders._families._open import model_type
from multiadapt.encoders.image import ImageEncoder
from multiadapt.encoders.text import TextEncoder
from multiadapt.encoders.video import VideoEncoder
from multiadapt.errors import SpecError
from multiadapt.model import Choice, at_place, encoder_spec
from multiadapt.types import Stream

__all__ = ["Backbone", "backbone_of", "moved", "towers_of"]

Backbone: TypeAlias = str | PathLike[str] | Mapping[str, Choice] | BackboneSpec
"""A network that reads both columns, or an encoder of each side."""


def backbone_of(choice: object) -> BackboneSpec:
    """Of a folder or hub name what its config says; of a mapping an encoder for each side; a spec as it is."""
    if isinstance(choice, BackboneSpec):
        return choice
    if isinstance(choice, (str, PathLike)):
        source = fspath(choice)
        return towers_of(source) if _has_two_towers(source) else Blip(source)
    if isinstance(choice, Mapping):
        named = {
            k: v if isinstance(v, EncoderSpec) else encoder_spec(k, v) for k, v in choice.items()
        }
        return Dual(named)
    raise SpecError(
        "backbone must name a network, or an encoder of each side as {'text': ..., 'image': ...}, got "
        f"{choice!r}"
    )


def towers_of(source: str) -> Dual:
    """Both towers of a network such as CLIP, each as an encoder; that of pictures reads clips too."""
    return Dual(
        {"image": ImageEncoder(source), "text": TextEncoder(source), "video": VideoEncoder(source)}
    )


def moved(saved: BackboneSpec, streams: Sequence[Stream], choice: object) -> BackboneSpec:
    """The saved network at another place, all its options kept; a spec as it is.

    `choice` names its place, or that of an encoder by modality or column; others stay where they are.
    SpecError: it names what the network does not have.
    """
    if isinstance(choice, BackboneSpec):
        return choice
    if isinstance(choice, (str, PathLike)):
        if isinstance(saved, Dual):
            return saved.with_params(
                encoders={name: at_place(spec, choice) for name, spec in saved.encoders.items()}
            )
        return at_place(saved, choice)
    if isinstance(saved, Dual) and isinstance(choice, Mapping):
        return _moved_sides(saved, streams, choice)
    raise SpecError(
        f"one network reads both columns: name its place with backbone=..., got {choice!r}"
    )


def _moved_sides(saved: Dual, streams: Sequence[Stream], places: Mapping[str, Choice]) -> Dual:
    """Under the names that its encoders had, so that it still reads columns of other names; but one of two
    columns of a kind that has moved alone gets an encoder under its own."""
    known = {name for s in streams for name in (s.name, s.modality)}
    if unknown := sorted(places.keys() - known):
        raise SpecError(f"backbone names {unknown}; this model has {sorted(known)}")
    sides = dict(saved.encoders)
    for stream in streams:
        name = next((n for n in (stream.name, stream.modality) if n in places), None)
        if name is None:
            continue
        place, spec = places[name], saved.spec(stream)
        alone = sum(s.modality == stream.modality for s in streams) == 1
        own = stream.name in saved.encoders or (name == stream.name and not alone)
        key = stream.name if own else stream.modality
        sides[key] = place if isinstance(place, EncoderSpec) else at_place(spec, place)
    return saved.with_params(encoders=sides)


def _has_two_towers(source: str) -> bool:
    """Whether it holds a text and a picture encoder, and no cross-modal part that BLIP's file would open."""
    if source == "starter" or source.startswith("random:"):
        return False
    kind = model_type(source, "crossmodal", None)
    return kind != "blip" and all(
        any(kind in family.classes for family in families(modality))
        for modality in ("image", "text")
    )
