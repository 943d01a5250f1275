"""The cross-modal pass: a text that looks at the tokens of a picture, or of a clip's frames.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.attach import running
from multiadapt.crossmodal._frames import frame_weights
from multiadapt.encoders._families._text_family import BERT_LAYERS, added
from multiadapt.types import Inputs, Role, Site, Tokens

__all__ = [
    "CrossPass",
    "Seen",
    "cross_sites",
    "mind_masks",
    "weighted_keys",
    "words_of",
]

_SPEAKS: Mapping[Role, str] = {
    role: BERT_LAYERS[role] for role in ("query", "key", "value", "out", "ffn_in", "ffn_out")
}
_LOOKS: Mapping[Role, str] = {
    "query": "encoder.layer.{}.crossattention.self.query",
    "key": "encoder.layer.{}.crossattention.self.key",
    "value": "encoder.layer.{}.crossattention.self.value",
    "out": "encoder.layer.{}.crossattention.output.dense",
}
"""The cross-attention's own layers: the second place of their role in a block."""

_WEIGHTS: ContextVar[Tensor | None] = ContextVar("multiadapt_key_weights", default=None)


@dataclass(frozen=True)
class Seen:
    """What a text looks at."""

    x: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"] | None = None
    """False where a token is padding; None: there is none."""
    weights: Float[Tensor, "b n"] | None = None
    """What the cross-attention's keys are multiplied with; None: nothing."""
    frames: Float[Tensor, "b t e"] | None = None
    """Vectors of length 1 of a clip's frames, by which a text weighs them; None: it weighs nothing."""

    @staticmethod
    def of(tokens: Tokens) -> "Seen":
        """All that an encoder says."""
        return Seen(tokens.x, None if bool(tokens.mask.all()) else tokens.mask)

    @torch.no_grad()  # none flows through the weights
    def framed(self, clips: Inputs, project: nn.Module) -> "Seen":
        """The same with the vectors of its frames, `project` of their class tokens."""
        each = self.x.shape[1] // max(int(clips.count.max()), 1)
        return replace(self, frames=F.normalize(project(self.x[:, ::each]), dim=-1))

    def rows(self, chosen: Int[Tensor, " k"]) -> "Seen":
        parts = (self.x, self.mask, self.weights, self.frames)
        return Seen(*(None if part is None else part[chosen] for part in parts))  # type: ignore[arg-type]

    def asked(self, text: Float[Tensor, "b e"]) -> "Seen":
        """The same as these texts, vectors of length 1, weigh its frames, where it has some."""
        if self.frames is None:
            return self
        each = self.x.shape[1] // self.frames.shape[1]
        real = None if self.mask is None else self.mask[:, ::each]
        return replace(self, weights=frame_weights(text, self.frames, each, real))


class CrossPass(nn.Module):
    """A text network of BLIP in its multimodal mode; the network is shared with the text's own pass."""

    def __init__(
        self, network: Any, stream: str = "fusion", modality: str = "", name: str = ""
    ) -> None:
        """`modality`: whose pretrained network the pass counts as; "": a fusion's own. `name`: that of the
        network in memory, under which an encoder of texts may use it too."""
        super().__init__()
        self.stream, self.modality, self.name = stream, modality, name
        self.backbone = (
            nn.Module()
        )  # places are called as in an encoder, with which they are shared
        self.backbone.network = network
        self.width: int = network.config.hidden_size
        mind_masks(network)

    @property
    def network(self) -> Any:
        return self.backbone.network

    def train(self, mode: bool = True) -> "CrossPass":  # noqa: FBT001, FBT002 - torch's signature
        return super().train(False)  # a frozen network stays in evaluation mode

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"] | None, seen: Seen
    ) -> Float[Tensor, "b n d"]:
        """The last state of the text's tokens."""
        state = self.network.embeddings(input_ids=ids)
        own = None if mask is None else added(mask[:, None, None], state)
        theirs = None if seen.mask is None else added(seen.mask[:, None, None], state)
        with running(self.stream), weighted_keys(seen.weights):
            for layer in self.network.encoder.layer:
                state = layer(state, seen.x, attention_mask=own, encoder_attention_mask=theirs)
        return state

    def sites(self) -> tuple[Site, ...]:
        """The layers' outputs (role "cross"), and the linear layers inside."""
        found = cross_sites(self.network, "backbone.network", self.stream, self.modality)
        return tuple(replace(site, network=self.name) for site in found)


def words_of(
    texts: Inputs, opening: int | None
) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"] | None]:
    """Tokens of a batch of texts and which are real (None: all), without padding that none needs.

    `opening` takes the place of each first token; None: nothing does.
    """
    mask = texts.tensors["mask"]
    longest = int(mask.sum(1).max())
    ids, mask = texts.tensors["ids"][:, :longest], mask[:, :longest]
    if opening is not None:
        ids = ids.clone()
        ids[:, 0] = opening
    return ids, None if bool(mask.all()) else mask


def cross_sites(network: Any, home: str, stream: str, modality: str = "") -> tuple[Site, ...]:
    """Sites of a text network in its multimodal mode, lying at `home`.

    What a "cross" site reads is what the cross-attention's queries read, and what the FFN reads.
    """
    config = network.config
    width, depth = config.hidden_size, config.num_hidden_layers
    stages = min(4, depth)
    found: list[Site] = []
    for block in range(depth):
        place = f"{home}.encoder.layer.{block}"
        reads = (f"{place}.crossattention", f"{place}.intermediate")
        like = Site(
            stream,
            place,
            "cross",
            block,
            width,
            width,
            block * stages // depth,
            stages,
            modality=modality,
            reads=reads,
        )
        found.append(like)
        for index, layers in enumerate((_SPEAKS, _LOOKS)):
            for role, path in layers.items():
                linear = network.get_submodule(path.format(block))
                ends = {"in_width": linear.in_features, "out_width": linear.out_features}
                own = f"{home}.{path.format(block)}"
                found.append(replace(like, path=own, role=role, reads=(), index=index, **ends))
    return tuple(found)


def mind_masks(network: Any) -> None:
    """Let the cross-attention mind what it is told to leave out, and weigh its keys.

    transformers 5 hands the mask of what is looked at to the wrong argument, where it is dropped: an
    answer would depend on how far its question's neighbours in the batch are padded.
    """
    for layer in network.encoder.layer:
        inner = layer.crossattention.self
        if getattr(inner, "_minds_masks", False):
            continue  # the network is already shared with another pass
        inner.register_forward_pre_hook(_hand_over, with_kwargs=True)
        inner.key.register_forward_hook(_weigh)
        inner._minds_masks = True


def _hand_over(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if kwargs.get("encoder_attention_mask") is None:
        kwargs = {**kwargs, "encoder_attention_mask": kwargs.get("attention_mask")}
    return args, kwargs


def _weigh(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
    weights = _WEIGHTS.get()
    return None if weights is None else output * weights[..., None].to(output.dtype)


@contextmanager
def weighted_keys(weights: Float[Tensor, "b n"] | None) -> Iterator[None]:
    """Inside, cross-attention multiplies the keys of what it looks at with `weights`."""
    token = _WEIGHTS.set(weights)
    try:
        yield
    finally:
        _WEIGHTS.reset(token)
