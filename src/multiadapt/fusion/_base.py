"""How streams are joined into one vector a row."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.spec import Spec
from multiadapt.types import Site, Tokens

__all__ = ["Fusion", "FusionSpec"]


class Fusion(nn.Module, ABC):
    """Streams' tokens to one vector a row. Leaves set `width` in `__init__`."""

    width: int
    """Width d of the fused vector."""

    @abstractmethod
    def forward(self, tokens: Mapping[str, Tokens]) -> Float[Tensor, "b d"]: ...

    def penalty(self, tokens: Mapping[str, Tokens]) -> Float[Tensor, ""]:
        """What is added to the loss. Default: nothing."""
        return torch.zeros(())

    def sites(self) -> tuple[Site, ...]:
        """Places of its own where adapters may be attached. Default: none."""
        return ()


class FusionSpec(Spec, ABC):
    """A way to join streams and its options."""

    folder = "fusion"

    @abstractmethod
    def build(self, widths: Mapping[str, int]) -> Fusion:
        """The fusion of streams with these widths, in this order."""
