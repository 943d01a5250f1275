"""The network that a name stands for: BLIP with its cross-modal part, or a tower for each side."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

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
from multiadapt.model import encoder_spec
from multiadapt.types import Stream

__all__ = ["backbone_of", "moved", "towers_of"]

P = TypeVar("P", Blip, EncoderSpec)


def backbone_of(choice: object, shown: Literal["image", "video"] = "image") -> BackboneSpec:
    """Of a folder or hub name what its config says; of a mapping an encoder for each side; a spec as it is.

    `shown`: what the picture tower of two looks at.
    """
    if isinstance(choice, BackboneSpec):
        return choice
    if isinstance(choice, str):
        return towers_of(choice, shown) if _has_two_towers(choice) else Blip(choice)
    if isinstance(choice, Mapping):
        named = {
            k: v if isinstance(v, EncoderSpec) else encoder_spec(k, v) for k, v in choice.items()
        }
        return Dual(named)
    raise SpecError(
        "backbone must name a network, or an encoder of each side as {'text': ..., 'image': ...}, got "
        f"{choice!r}"
    )


def towers_of(source: str, shown: Literal["image", "video"] = "image") -> Dual:
    """Both towers of a network such as CLIP, each as an encoder."""
    seen = ImageEncoder(source) if shown == "image" else VideoEncoder(source)
    return Dual({shown: seen, "text": TextEncoder(source)})


def moved(saved: BackboneSpec, streams: Sequence[Stream], choice: object) -> BackboneSpec:
    """The saved network at another place, all its options kept; a spec as it is.

    `choice` names its place, or that of an encoder by modality or column; others stay where they are.
    SpecError: it names what the network does not have.
    """
    if isinstance(choice, BackboneSpec):
        return choice
    if isinstance(saved, Dual) and isinstance(choice, (str, Mapping)):
        return _moved_sides(saved, streams, choice)
    if isinstance(saved, Blip) and isinstance(choice, str):
        return _at(saved, choice)
    raise SpecError(
        f"one network reads both columns: name its place with backbone=..., got {choice!r}"
    )


def _moved_sides(
    saved: Dual, streams: Sequence[Stream], choice: str | Mapping[str, str | EncoderSpec]
) -> Dual:
    known = [name for s in streams for name in (s.name, s.modality)]
    places = dict.fromkeys(known, choice) if isinstance(choice, str) else choice
    if unknown := sorted(places.keys() - set(known)):
        raise SpecError(f"backbone names {unknown}; this model has {sorted(set(known))}")
    sides: dict[str, EncoderSpec] = {}
    for stream in streams:
        spec = saved.spec(stream)
        place = places.get(stream.name, places.get(stream.modality, spec))
        sides[stream.name] = _at(spec, place) if isinstance(place, str) else place
    return saved.with_params(encoders=sides)


def _at(spec: P, place: str) -> P:
    """With its weights at another place, where they are checked by their hash and not by a revision."""
    own = spec.get_params(deep=False)
    return spec.with_params(source=place, **({"revision": None} if "revision" in own else {}))


def _has_two_towers(source: str) -> bool:
    """Whether it holds a text and a picture encoder, and no cross-modal part that BLIP's file would open."""
    if source == "starter" or source.startswith("random:"):
        return False
    kind = model_type(source, "crossmodal", None)
    return kind != "blip" and all(
        any(kind in family.classes for family in families(modality))
        for modality in ("image", "text")
    )
