"""Mask tokens: learned guests that look at an available modality and stand in for the missing one.

M. K. Reza et al., "U2A: Unified Unimodal Adaptation for Robust and Efficient Multimodal Learning",
later "Robust Multimodal Learning via Cross-Modal Proxy Tokens", https://arxiv.org/abs/2501.17823
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt import processes
from multiadapt.errors import SpecError
from multiadapt.missing._base import (
    Demand,
    Fill,
    Filled,
    FillSpec,
    Seat,
    available,
    check_rate,
    drop,
    seated,
)
from multiadapt.missing.zero import Zero
from multiadapt.types import Tokens

__all__ = ["MaskToken"]


@dataclass(frozen=True)
class MaskToken(FillSpec):
    """One mask token for each ordered pair (host i, missing j):

    z_j = a_j c_j + (1 - a_j) mean_{i: a_i = 1} W_ij p_ij, where p_ij is what the token became in
    encoder i and a_j says whether the row has modality j. The loss gains
    `alignment` * mean_{i != j, a_i = a_j = 1} ||W_ij p_ij - c_j||^2 / mean ||c_j||^2; c_j is detached.

    The paper divides by the width. Embeddings here are standardised to a length of about 1, and the
    division by the target's mean squared length gives the same number at every scale.

    The alignment counts every row of a batch alike, whatever its sample weight.

    A transformer hosts its tokens in its own adapted blocks. A CNN's feature map, or the last tokens
    of a transformer that cannot host, are looked at by one attention layer; a single vector, such as
    the table's, is read through a bottleneck. Where a mask token stands among the tokens of its host is
    no option: it carries no position and looks at all of them alike, so that it makes no difference.
    """

    demands: ClassVar[Demand] = "one"
    words: ClassVar[str] = "mask tokens"
    looks: ClassVar[bool] = True

    alignment: float = 0.2
    """Weight of the alignment loss; 0: none."""
    distance: Literal["mse", "cosine"] = "mse"
    detach: bool = True
    """The target of the alignment is not moved by it."""
    visibility: Literal["read-only", "full"] = "read-only"
    """full: the real tokens see the mask tokens too, and change where one is there."""
    hosts: Literal["mean", "first", "gate"] | tuple[str, ...] = "mean"
    """With several available hosts: the mean of their stand-ins, that of the first in the table's order,
    or a mean weighted by a learned gate. Names of streams: that of the first of these which is available;
    streams that are not named come after them, in the table's order."""
    drop: float | None = None
    """Share of complete rows that lose one modality in each training step; None: M / (M + 1), which
    draws one of {complete, without the first, ...} with equal chances."""
    init: float = 0.02
    """Standard deviation of a new token's values."""
    width: int = 64
    """Inner width of the attention layer and of the bottleneck of hosts that are no transformers."""

    def check(self) -> None:
        check_rate(self.drop)
        for name, least in (("alignment", 0), ("init", 0), ("width", 1)):
            if getattr(self, name) < least:
                raise SpecError(f"{name} must be at least {least}, got {getattr(self, name)}")
        named = self.hosts
        if isinstance(named, tuple) and (not named or len(set(named)) < len(named)):
            raise SpecError(f"hosts must name at least one stream, and each once, got {named}")

    def build(self, seats: Mapping[str, Seat]) -> Fill:
        named = self.hosts if isinstance(self.hosts, tuple) else ()
        if unknown := [name for name in named if name not in seats]:
            raise SpecError(
                f"hosts must name streams that the model reads, {list(seats)}; got {unknown} too"
            )
        # Without a second modality nobody can stand in, and nothing is to be learned.
        return _Tokens(self, seats) if len(seats) > 1 else Zero(drop=0.0).build(seats)


class _Tokens(Fill):
    """Parameters lie in lists, since streams' names may hold any character; pairs are in the order of
    the host and then of the missing stream."""

    def __init__(self, spec: MaskToken, seats: Mapping[str, Seat]) -> None:
        super().__init__()
        self.spec, self.streams, self.seats = spec, tuple(seats), tuple(seats.values())
        self.visibility = spec.visibility
        others = len(seats) - 1
        self.tokens = nn.ParameterList(
            nn.Parameter(torch.randn(others, seat.width) * spec.init) for seat in self.seats
        )
        self.lookers = nn.ModuleList(_looker(seat, spec.width) for seat in self.seats)
        self.pairs = [(i, j) for i in range(len(seats)) for j in range(len(seats)) if i != j]
        self.maps = nn.ModuleList(_map(self.seats[i], self.seats[j]) for i, j in self.pairs)
        self.gate = nn.Parameter(torch.zeros(len(self.pairs))) if spec.hosts == "gate" else None
        named = spec.hosts if isinstance(spec.hosts, tuple) else ()
        order = list(dict.fromkeys([*named, *self.streams]))
        self.places = [order.index(stream) for stream in self.streams]

    def guests(self) -> Mapping[str, Float[Tensor, "g d"]]:
        return {
            stream: tokens
            for stream, seat, tokens in zip(self.streams, self.seats, self.tokens, strict=True)
            if seat.hosts == "blocks" and len(tokens)
        }

    def forward(self, tokens: Mapping[str, Tokens]) -> Filled:
        there = available(tokens)
        nothing = there.new_zeros((), dtype=torch.float32)
        if not self.training and bool(there.all()):
            return Filled(dict(tokens), nothing)
        imitated = self._imitated([*tokens.values()])
        penalty = self._alignment([*tokens.values()], imitated, there) if self.training else nothing
        used = drop(there, self.spec.drop) if self.training else there
        stand_ins = {s: self._stand_in(j, imitated, used) for j, s in enumerate(tokens)}
        return Filled(seated(tokens, used, stand_ins), penalty)

    def _imitated(self, tokens: list[Tokens]) -> list[Float[Tensor, "b _"]]:
        """W_ij p_ij of every pair."""
        became = [
            looker(t, own) for looker, t, own in zip(self.lookers, tokens, self.tokens, strict=True)
        ]
        guest = ((i, j - (j > i)) for i, j in self.pairs)
        return [m(became[i][:, g]) for m, (i, g) in zip(self.maps, guest, strict=True)]

    def _stand_in(
        self, missing: int, imitated: list[Tensor], used: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b d"]:
        """The stand-ins of the available hosts, joined; zeros where there is no host."""
        chosen = [k for k, (_, j) in enumerate(self.pairs) if j == missing]
        chosen.sort(key=lambda k: self.places[self.pairs[k][0]])
        hosts = used[:, [self.pairs[k][0] for k in chosen]]
        weight = hosts.float()
        if self.spec.hosts not in ("mean", "gate"):
            weight = weight * (hosts.cumsum(1) == 1)
        if self.gate is not None:
            weight = weight * self.gate[chosen].exp()
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-12)
        found = torch.stack([imitated[k] for k in chosen], dim=1)
        return (found * weight[..., None].to(found.dtype)).sum(1)

    def _alignment(
        self, tokens: list[Tokens], imitated: list[Tensor], there: Bool[Tensor, "b m"]
    ) -> Float[Tensor, ""]:
        """The mean distance of stand-ins from what they imitate, over rows that have both."""
        total = count = there.new_zeros((), dtype=torch.float32)
        if self.spec.alignment == 0:
            return total
        for found, (i, j) in zip(imitated, self.pairs, strict=True):
            both = there[:, i] & there[:, j]
            target = tokens[j].pooled
            target = (target.detach() if self.spec.detach else target).float()
            rows, squares = processes.summed(
                torch.stack([both.sum(), (target.detach().square().sum(1) * both).sum()])
            )
            length = squares / rows.clamp_min(1)
            total = total + (self._distance(found.float(), target, length) * both).sum()
            count = count + rows
        return self.spec.alignment * total / count.clamp_min(1)

    def _distance(
        self, found: Float[Tensor, "b d"], target: Float[Tensor, "b d"], length: Float[Tensor, ""]
    ) -> Float[Tensor, " b"]:
        """`length`: the mean squared length of all targets."""
        if self.spec.distance == "cosine":
            return 1 - nn.functional.cosine_similarity(found, target, dim=1)
        return (found - target).square().sum(1) / length.clamp_min(1e-6)


def _map(host: Seat, missing: Seat) -> nn.Module:
    """Identity where widths agree and the host's blocks speak; elsewhere a linear map."""
    if host.width == missing.width and host.hosts == "blocks":
        return nn.Identity()
    return nn.Linear(host.width, missing.width)


def _looker(seat: Seat, width: int) -> nn.Module:
    kinds = {"blocks": _Inside, "tokens": _Attending, "vector": _Reading}
    return kinds[seat.hosts](seat.width, width)


class _Inside(nn.Module):
    """What the encoder's own blocks made of the guests."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens, own: Float[Tensor, "g d"]) -> Float[Tensor, "b g d"]:
        return tokens.guests


class _Attending(nn.Module):
    """One attention layer from the mask tokens over the stream's last tokens."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner, bias=False)  # softmax cancels a constant
        self.value = nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tokens, own: Float[Tensor, "g d"]) -> Float[Tensor, "b g d"]:
        x = self.norm(tokens.x)
        query = self.query(own).expand(len(x), -1, -1)
        seen = tokens.mask | ~tokens.mask.any(1, keepdim=True)  # softmax wants one to look at
        found = nn.functional.scaled_dot_product_attention(
            query, self.key(x), self.value(x), attn_mask=seen[:, None, :]
        )
        return own + self.out(found)


class _Reading(nn.Module):
    """A bottleneck over the stream's vector with the mask token added."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner)
        self.up = nn.Linear(inner, width)

    def forward(self, tokens: Tokens, own: Float[Tensor, "g d"]) -> Float[Tensor, "b g d"]:
        x = tokens.pooled[:, None] + own
        return x + self.up(torch.relu(self.down(x)))
