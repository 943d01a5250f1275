"""BLIP, taken apart into towers, the cross-modal pass and what stands on them.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils.hub import cached_file

from multiadapt.crossmodal._cross import CrossPass
from multiadapt.encoders._base import Origin
from multiadapt.encoders._families._frames import FramePreparation
from multiadapt.encoders._families._open import Opened, hub_reached, open_whole
from multiadapt.encoders._families._pixels import PixelPreparation
from multiadapt.encoders._families._tokens import TokenPreparation
from multiadapt.encoders._families.blip import Blip
from multiadapt.encoders._families.blip_text import BlipText
from multiadapt.encoders._fingerprint import fingerprint
from multiadapt.encoders._pretrained import Backbone

__all__ = ["Parts", "Task", "open_blip", "usual_blip"]

Task: TypeAlias = Literal["retrieval", "answering", "captioning"]

_CLASSES: Mapping[Task, str] = {
    "retrieval": "BlipForImageTextRetrieval",
    "answering": "BlipForQuestionAnswering",
    "captioning": "BlipForConditionalGeneration",
}
_HUB: Mapping[Task, str] = {
    "retrieval": "Salesforce/blip-itm-base-coco",
    "answering": "Salesforce/blip-vqa-base",
    "captioning": "Salesforce/blip-image-captioning-base",
}
_VISION = {"initializer_range": 0.02, "image_size": 224}  # its own 1e-10 makes pictures all alike


def _size(
    width: int, depth: int, heads: int, pixels: Mapping[str, Any], **text: Any
) -> dict[str, Any]:
    tower = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }
    vision = {**tower, **_VISION, **pixels}
    return {
        "model_type": "blip",
        "vision_config": vision,
        "text_config": {**tower, "encoder_hidden_size": width, **text},
    }


_KNOWN: Mapping[str, Any] = {
    "blip-tiny": {
        **_size(
            32,
            2,
            2,
            {"image_size": 32, "patch_size": 16},
            vocab_size=300,
            max_position_embeddings=64,
            bos_token_id=298,
            sep_token_id=3,
        ),
        "image_text_hidden_size": 16,
    },
    "blip-base": _size(768, 12, 12, {}),
    "blip-large": _size(
        1024,
        24,
        16,
        {},
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
    ),
}

_PROJECTIONS = ("vision_proj.weight", "vision_proj.bias", "text_proj.weight", "text_proj.bias")

_log = logging.getLogger("multiadapt")


@dataclass(frozen=True)
class Parts:
    """A vision-language network taken apart. Its modules are the network's own."""

    network: nn.Module
    vision: Backbone
    text: Backbone
    """Reads texts without looking at a picture. Captioning's is its decoder, which is never read so."""
    cross: CrossPass
    """Reads texts that look at a picture."""
    projections: tuple[nn.Linear, nn.Linear] | None
    """From pooled vectors of pictures and of texts to where they are compared; None: the checkpoint has none,
    or nothing is compared."""
    match: nn.Linear | None
    """From the cross-modal pass's first token to (no match, match)."""
    decoder: Any
    """Writes texts token by token, looking at a picture or at a question's states; None: there is none."""
    origin: Origin
    base: str
    """SHA-256 of the tower that all tasks share."""
    enc: int | None
    """The token that opened texts that look at a picture when BLIP was pretrained; None: not known."""

    def clips(self, frames: int) -> Backbone:
        """The vision tower as it sees so many frames of a clip, one by one."""
        pictures = FramePreparation(self.vision.preparation)
        return Backbone(Opened(self.vision.family, pictures, self.origin), frames)


def usual_blip(task: Task) -> str:
    """What is opened where nothing is named: the hub's, or the package's own where there is no network."""
    online = hub_reached()
    _log.info(
        "no backbone was named, so %s is used",
        f"{_HUB[task]!r} from the hub"
        if online
        else "the small starter network (no network to the hub); name a pretrained one with backbone=... "
        "for real work",
    )
    return _HUB[task] if online else "starter"


def open_blip(
    source: str, task: Task, size: int | None, revision: str | None, *, weighs: bool = False
) -> Parts:
    """The network for a task: "starter" (inside the package), a folder, a hub name, "random:blip-base" or
    "random:blip-large".

    `weighs`: questions weigh frames, by projections that the task's class does not read.
    """
    whole = open_whole(source, {"blip": _CLASSES[task]}, _KNOWN, revision)
    network, config = whole.network, whole.network.config
    decoder: Any = getattr(network, "text_decoder", None)
    reader = decoder.bert if task == "captioning" else network.text_encoder
    pixels = PixelPreparation.read(whole.place, config.vision_config, size, revision)
    tokens = TokenPreparation.read(whole.place, config.text_config, revision)
    text = BlipText(reader, "cls")
    tokens = replace(tokens, limit=min(tokens.limit, text.longest))
    both = task == "retrieval"
    own = _projections(whole.place, revision) if weighs else None
    return Parts(
        network,
        Backbone(Opened(Blip(network.vision_model), pixels, whole.origin)),
        Backbone(Opened(text, tokens, whole.origin)),
        CrossPass(reader, modality="text", name="text"),
        (network.vision_proj, network.text_proj) if both else own,
        network.itm_head if both else None,
        decoder,
        whole.origin,
        _base(network.vision_model),
        tokens.number("[ENC]"),
    )


def _projections(place: str | None, revision: str | None) -> tuple[nn.Linear, nn.Linear] | None:
    """Those that a checkpoint holds beside what its task's class reads; None: it does not."""
    found: dict[str, Tensor] = {}
    for file in _holding(place, revision) if place else ():
        with safe_open(file, "pt") as held:
            own = {*held.keys()}
            found |= {n: held.get_tensor(n).float() for n in _PROJECTIONS if n in own}
    if len(found) < len(_PROJECTIONS):
        return None
    vision, vision_bias, text, text_bias = (found[name] for name in _PROJECTIONS)
    return _linear(vision, vision_bias), _linear(text, text_bias)


def _holding(place: str, revision: str | None) -> list[str]:
    """The one file of a checkpoint; of one in several, those that hold the projections."""
    if whole := _file(place, "model.safetensors", revision):
        return [whole]
    index = _file(place, "model.safetensors.index.json", revision)
    named = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"] if index else {}
    parts = sorted({named[name] for name in _PROJECTIONS if name in named})
    return [file for part in parts if (file := _file(place, part, revision))]


def _file(place: str, name: str, revision: str | None) -> str | None:
    return cached_file(
        place,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )


def _linear(weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"]) -> nn.Linear:
    """Frozen. Its own first values are not drawn: the generator stays where it is."""
    wide, narrow = weight.shape
    linear = nn.Linear(narrow, wide, device="meta")
    linear.load_state_dict({"weight": weight.clone(), "bias": bias.clone()}, assign=True)
    return linear.requires_grad_(False)


def _base(vision: nn.Module) -> str:
    if any(p.is_meta for p in vision.parameters()):
        return ""
    return fingerprint(vision)
