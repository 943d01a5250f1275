"""The network that a name stands for: BLIP with its cross-modal part, or a tower for each side."""

from collections.abc import Mapping

from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal.blip import Blip
from multiadapt.crossmodal.dual import Dual
from multiadapt.encoders._base import EncoderSpec
from multiadapt.encoders._families._base import families
from multiadapt.encoders._families._open import model_type
from multiadapt.encoders.image import ImageEncoder
from multiadapt.encoders.text import TextEncoder
from multiadapt.errors import SpecError
from multiadapt.model import encoder_spec

__all__ = ["backbone_of", "towers_of"]


def backbone_of(choice: object) -> BackboneSpec:
    """Of a folder or hub name what its config says; of a mapping an encoder for each side; a spec as it is."""
    if isinstance(choice, BackboneSpec):
        return choice
    if isinstance(choice, str):
        return towers_of(choice) if _has_two_towers(choice) else Blip(choice)
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
    """Both towers of a network such as CLIP, each as an encoder."""
    return Dual({"image": ImageEncoder(source), "text": TextEncoder(source)})


def _has_two_towers(source: str) -> bool:
    """Whether it holds a text and a picture encoder, and no cross-modal part that BLIP's file would open."""
    if source == "starter" or source.startswith("random:"):
        return False
    kind = model_type(source, "crossmodal", None)
    return kind != "blip" and all(
        any(kind in family.classes for family in families(modality))
        for modality in ("image", "text")
    )
