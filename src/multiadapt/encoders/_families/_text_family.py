"""What families of text networks share: how tokens become one vector, and BERT's layout."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt.encoders._families._base import Family, transformer_sites
from multiadapt.types import Role, Site

__all__ = ["BERT_LAYERS", "Pooling", "TextFamily", "added", "real", "text_sites"]

Pooling: TypeAlias = Literal["mean", "cls", "max", "last"]
"""Over the real tokens: their mean, the first one, the greatest of each feature, or the last one."""

BERT_LAYERS: Mapping[Role, str] = {
    "query": "encoder.layer.{}.attention.self.query",
    "key": "encoder.layer.{}.attention.self.key",
    "value": "encoder.layer.{}.attention.self.value",
    "out": "encoder.layer.{}.attention.output.dense",
    "ffn_in": "encoder.layer.{}.intermediate.dense",
    "ffn_mid": "encoder.layer.{}.intermediate",
    "ffn_out": "encoder.layer.{}.output.dense",
    "ffn": "encoder.layer.{}.output.dense",
    "residual": "encoder.layer.{}.intermediate",
    "block": "encoder.layer.{}",
}
"""Where each role lies in BERT and its kin. No submodule is the FFN alone: its output is that of its
last layer, and what it reads is what its first layer reads."""


class TextFamily(Family):
    """A text network. The pooled vector is made in this order of precedence:

    1. what sentence-transformers wrote beside the checkpoint (`1_Pooling/config.json`);
    2. the first token's, where the checkpoint was a classifier of texts, which read that one (for
       ModernBERT what its config says that the classifier read);
    3. the family's `rule`: the mean, unless it was trained to sum a text up in one of its tokens.

    What stands on top of that is left out: transformers' pooler, which many checkpoints have at random,
    and the projections and the scaling to unit length that sentence-transformers may add.
    """

    modality: ClassVar[str] = "text"
    rule: ClassVar[Pooling] = "mean"
    fills: ClassVar[bool] = False
    """Whether every text is filled up to `longest` with padding that counts as text."""
    unread: ClassVar[int] = 0
    """First rows of the table of positions that no token uses."""

    pooling: Pooling
    longest: int
    """Most tokens that the network has positions for."""

    def __init__(self, network: Any, pooling: Pooling | None = None) -> None:
        config = network.config
        self.network = network
        self.width = config.hidden_size
        self.blocks = config.num_hidden_layers
        self.least = 0
        self.longest = config.max_position_embeddings - self.unread
        self.pooling = pooling or self.rule

    def finish(
        self, state: Tensor, mask: Bool[Tensor, "f n"] | None
    ) -> tuple[Float[Tensor, "f n d"], Float[Tensor, "f d"]]:
        """A text's tokens pass last what a guest passes last, and are pooled."""
        tokens = self.leave(state)
        return tokens, self.pool(tokens, mask)

    def pool(
        self, tokens: Float[Tensor, "f n d"], mask: Bool[Tensor, "f n"] | None
    ) -> Float[Tensor, "f d"]:
        """One vector a text, by `pooling`."""
        if self.pooling == "cls":
            return tokens[:, 0]
        if mask is None:
            mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        if self.pooling == "last":
            return tokens[torch.arange(len(tokens), device=tokens.device), mask.sum(1) - 1]
        if self.pooling == "max":
            return tokens.masked_fill(~mask[..., None], -torch.inf).amax(1)
        return tokens.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)


def real(tensors: Mapping[str, Tensor]) -> Bool[Tensor, "f n"] | None:
    """Which tokens are real; None where all are, which is quicker."""
    mask = tensors["mask"]
    return None if bool(mask.all()) else mask


def added(
    pairs: Bool[Tensor, "#f 1 #q k"] | None, state: Tensor
) -> Float[Tensor, "#f 1 #q k"] | None:
    """What is added to the attention scores: its code knows no boolean mask."""
    if pairs is None:
        return None
    hidden = state.new_zeros(pairs.shape)
    return hidden.masked_fill(~pairs, torch.finfo(state.dtype).min)


def text_sites(
    network: nn.Module, entry: tuple[str, int], layers: Mapping[Role, str], inner: int
) -> tuple[Site, ...]:
    """Sites of a text network whose FFN is `inner` wide; the other arguments as `transformer_sites`."""
    config: Any = network.config
    width = config.hidden_size
    found = transformer_sites(network, entry, layers, config.num_hidden_layers, width)
    return tuple(_inside(site, layers, width, inner) for site in found)


def _inside(site: Site, layers: Mapping[Role, str], width: int, inner: int) -> Site:
    """The site with what `transformer_sites` cannot see: what an FFN without a module of its own reads,
    and the widths between its two layers."""
    if site.role == "ffn" and layers["ffn"] == layers["ffn_out"]:
        return replace(site, in_width=width, reads=(layers["ffn_in"].format(site.block),))
    if site.role == "ffn_mid":  # the activation alone, or the first layer with it
        whole = layers["ffn_in"].startswith(layers["ffn_mid"] + ".")
        return replace(site, in_width=width if whole else inner, out_width=inner)
    return site
