"""What families of audio networks share: the mean over a sound's own frames, and their sites."""

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt.encoders._families._base import transformer_sites
from multiadapt.types import Role, Site

__all__ = ["real_mean", "sound_sites"]


def real_mean(
    tokens: Float[Tensor, "f n d"], mask: Bool[Tensor, "f n"] | None
) -> Float[Tensor, "f d"]:
    """The mean over the tokens that are no padding."""
    if mask is None:
        return tokens.mean(1)
    return tokens.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)


def sound_sites(
    network: nn.Module, entry: tuple[str, int], layers: Mapping[Role, str], depth: int, width: int
) -> tuple[Site, ...]:
    """Sites of an audio network, with what `transformer_sites` cannot see: how wide the activation
    between the FFN's layers is, and what an FFN without a module of its own reads."""
    found = transformer_sites(network, entry, layers, depth, width)
    inner = {site.block: site.out_width for site in found if site.role == "ffn_in"}
    return tuple(_inside(site, layers, inner.get(site.block, width), width) for site in found)


def _inside(site: Site, layers: Mapping[Role, str], inner: int, width: int) -> Site:
    if site.role == "ffn_mid":
        return replace(site, in_width=inner, out_width=inner)
    if site.role == "ffn" and layers["ffn"] == layers["ffn_out"]:
        return replace(site, in_width=width, reads=(layers["ffn_in"].format(site.block),))
    return site
