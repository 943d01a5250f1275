"""Which adapters a network of pictures or clips gets: on the pooled vector, or after blocks of chosen stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from multiadapt.adapters._base import Activation
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.conv_bottleneck import ConvBottleneck
from multiadapt.attach import Adapter
from multiadapt.errors import SpecError
from multiadapt.spec import Spec
from multiadapt.types import Site

__all__ = ["ImageBranch"]


@dataclass(frozen=True)
class ImageBranch(Spec):
    """TI-Adapter's image side, on pictures and on clips. On a transformer, a linear bottleneck with LayerNorm
    takes the place of the convolutional one, and its blocks count as four equal stages."""

    variant: Literal["embedding", "bc1", "bc2", "bc3", "bc4"] = "bc2"
    """embedding: on the pooled vector (EAdapter), a clip's after its frames are pooled. bcN: after every block
    of the last N stages."""
    r: int = 16
    """Width of the bottleneck."""
    alpha: float = 1.0
    """Scale of the correction."""
    activation: Activation = "relu"
    norm: bool = True
    """BatchNorm (LayerNorm on a transformer) after the up-projection of bcN, as published."""
    init: Literal["zero", "normal"] = "zero"
    """zero: step 0 equals the frozen model."""
    stages: tuple[int, ...] | None = None
    """Stages with adapters, counted from 1 at the input, in place of bcN's last N."""
    share: bool = True
    """Columns that use one network share its adapters; False: each column has its own."""

    def check(self) -> None:
        if self.stages is not None and self.variant == "embedding":
            raise SpecError(f"variant 'embedding' adapts no stages, got stages={self.stages}")

    def build(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        """Adapters for the sites of pictures and clips among `sites`."""
        images = [s for s in sites if s.modality in ("image", "video")]
        if self.variant == "embedding":
            return Bottleneck(
                self.r, self.alpha, self.activation, None, self.init, self.share
            ).build(images)
        chosen = [s for s in images if s.role == "block" and s.stage in self._chosen(s)]
        maps = [s for s in chosen if s.layout == "map"]
        tokens = [s for s in chosen if s.layout == "tokens"]
        conv = ConvBottleneck(
            self.r,
            self.alpha,
            self.activation,
            "batch" if self.norm else None,
            self.init,
            self.share,
        )
        linear = Bottleneck(
            self.r, self.alpha, self.activation, "layer" if self.norm else None, self.init, self.share,
            ("block",),
        )  # fmt: skip
        return {**conv.build(maps), **linear.build(tokens)}

    def _chosen(self, site: Site) -> tuple[int, ...]:
        """Numbers, from 0, of the stages that get adapters in the site's network."""
        wanted = self.stages
        if wanted is None:
            count = int(self.variant.removeprefix("bc"))
            if count > site.stages:
                raise SpecError(
                    f"variant {self.variant!r} adapts the last {count} stages, but the network of "
                    f"{site.stream!r} has {site.stages}; use bc{site.stages} or fewer"
                )
            return tuple(range(site.stages - count, site.stages))
        if not all(1 <= s <= site.stages for s in wanted):
            raise SpecError(
                f"stages must lie in 1..{site.stages} for {site.stream!r}, got {wanted}"
            )
        return tuple(s - 1 for s in wanted)
