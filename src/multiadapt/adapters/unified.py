"""UniAdapter: one module a layer, whose down-projection vision, text and cross-modal branches share.

Lu et al., "UniAdapter: Unified Parameter-Efficient Transfer Learning for Cross-modal Modeling",
https://arxiv.org/abs/2302.06605
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.adapters._base import AdapterSpec
from multiadapt.adapters._choice import check_blocks, inside
from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.types import Site

__all__ = ["Branch", "Unified"]

Branch: TypeAlias = Literal["vision", "text", "cross"]


@dataclass(frozen=True)
class Unified(AdapterSpec):
    """Beside the FFN of every layer, h = ReLU(W_down LN_in(x) + b_down) and

    vision: y + s (U_v h + b_v); text: y + s (U_t h + b_t);
    cross: y + q + s LN_c((U_c h + b_c) + (U_t h + b_t)), with the query residual
    q = s (U_t h' + b_t), h' made of what the cross-attention's queries read.

    x is the stream that goes around the FFN, y the layer's output. Layer i of vision, text and cross-modal
    networks shares one module; where they differ in depth, i is counted from the input, and the deeper
    one's last layers have modules of their own; where they differ in width, each width has its own
    projections. 4 d r in place of 6 d r weights a layer.
    """

    r: int = 128
    """Width of the bottleneck, at least 1."""
    share: Literal["none", "down", "up", "all"] = "down"
    """What the branches of a layer share; none: each has both projections to itself."""
    branches: tuple[Branch, ...] = ("vision", "text", "cross")
    """Which branches are corrected."""
    query_residual: bool = True
    """Whether the text branch's correction of the queries enters the cross-modal layer's output."""
    scale: float = 0.1
    """s above."""
    learn_scale: bool = False
    """One s for each layer and branch is trained, from `scale` on."""
    norm_in: bool = True
    """LN_in; 2d parameters a layer."""
    norm_cross: bool = True
    """LN_c; 2d parameters a layer that has a cross-modal branch."""
    blocks: str | None = None
    """Such as "last 4": only these layers, so that those before are computed once. None: all."""

    def check(self) -> None:
        if self.r < 1:
            raise SpecError(f"r must be at least 1, got {self.r}")
        if self.scale <= 0:
            raise SpecError(f"scale must be above 0, got {self.scale}")
        if not self.branches:
            raise SpecError(f"branches must be some of {', '.join(get_args(Branch))}, got none")
        check_blocks(self.blocks)

    def build(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        chosen = [
            site
            for site in inside(sites, ("residual", "cross"), (), self.blocks)
            if _branch(site) in self.branches
        ]
        layers: dict[tuple[int, int], list[Site]] = {}
        for site in chosen:
            layers.setdefault((site.block, site.out_width), []).append(site)
        built: dict[Site, Adapter] = {}
        for own in layers.values():
            branches: list[Branch] = list(dict.fromkeys(_branch(s) for s in own))
            built |= dict.fromkeys(own, _Unified(own[0].out_width, self, branches))
        return built


def _branch(site: Site) -> Branch:
    """Pictures, frames and spectrograms are seen; words are text; a fusion's own layers are cross-modal."""
    if site.role == "cross":
        return "cross"
    return "text" if site.modality == "text" else "vision"


class _Unified(Adapter):
    """One layer's module. Its projections are named by who uses them: a branch, or "all"."""

    def __init__(self, width: int, spec: Unified, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.spec, self.branches = spec, tuple(branches)
        crosses = "cross" in branches
        # Beside its own part, the cross-modal branch reads the text branch's.
        lends = crosses and (spec.share == "down" or spec.query_residual)
        users: tuple[Branch, ...] = (*branches, "text") if lends else self.branches
        scaled = (*branches, "text") if crosses and spec.query_residual else self.branches
        self.down = nn.ModuleDict({self._owner(b, "down"): nn.Linear(width, spec.r) for b in users})
        self.up = nn.ModuleDict({self._owner(b, "up"): nn.Linear(spec.r, width) for b in users})
        self.norm_in = nn.LayerNorm(width) if spec.norm_in else nn.Identity()
        self.norm_cross = nn.LayerNorm(width) if crosses and spec.norm_cross else nn.Identity()
        scale = torch.tensor(spec.scale)
        self.scales = nn.ParameterDict(
            {b: nn.Parameter(scale.clone()) for b in dict.fromkeys(scaled)}
            if spec.learn_scale
            else {}
        )
        self._begin(users)

    def forward(self, xs: tuple[Tensor, ...], y: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return self._corrected(self.branches[0], xs, y)

    def correct(self, site: Site, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return self._corrected(_branch(site), xs, y)

    def _corrected(self, branch: Branch, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        if branch != "cross":
            return y + self._scaled(branch, self._own(branch, xs[0]))
        queried, x = xs
        hidden = self._hidden("cross", x)
        own = self._raised("cross", hidden)
        if self.spec.share == "down":
            own = own + self._raised("text", hidden)
        y = y + self._scaled("cross", self.norm_cross(own))
        if self.spec.query_residual:
            y = y + self._scaled("text", self._own("text", queried))
        return y

    def _own(self, branch: Branch, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return self._raised(branch, self._hidden(branch, x))

    def _hidden(self, branch: Branch, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b r"]:
        return torch.relu(self.down[self._owner(branch, "down")](self.norm_in(x)))

    def _raised(self, branch: Branch, hidden: Float[Tensor, "*b r"]) -> Float[Tensor, "*b d"]:
        return self.up[self._owner(branch, "up")](hidden)

    def _scaled(self, branch: Branch, x: Tensor) -> Tensor:
        return x * (self.scales[branch] if self.spec.learn_scale else self.spec.scale)

    def _owner(self, branch: Branch, projection: Literal["down", "up"]) -> str:
        return "all" if self.spec.share in (projection, "all") else branch

    def _begin(self, users: Sequence[Branch]) -> None:
        """Step 0 equals the pretrained network: each branch's correction ends in zeros, in LN_c where it
        has that, else in its up-projection. One that is only read under LN_c must then not be zero: of
        nothing, a norm has no gradient."""
        normed = isinstance(self.norm_cross, nn.LayerNorm)
        ends = {self._owner(b, "up") for b in users if not (b == "cross" and normed)}
        for owner, up in self.up.items():
            nn.init.zeros_(up.bias)  # type: ignore[arg-type]
            if owner in ends:
                nn.init.zeros_(up.weight)  # type: ignore[arg-type]
            else:
                nn.init.normal_(up.weight, std=0.02)  # type: ignore[arg-type]
        for down in self.down.values():
            nn.init.kaiming_uniform_(down.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(down.bias)  # type: ignore[arg-type]
        if isinstance(self.norm_cross, nn.LayerNorm):
            nn.init.zeros_(self.norm_cross.weight)
            nn.init.zeros_(self.norm_cross.bias)
