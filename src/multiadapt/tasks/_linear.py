"""The head of the tasks that score a fused vector."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.tasks._base import Fuse, Head
from multiadapt.types import Tokens

__all__ = ["Linear"]


class Linear(Head):
    """One linear layer on the fused vector; with `width` None the fused vector is the scores."""

    def __init__(self, width: int | None, outputs: int, row_loss: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Identity() if width is None else nn.Linear(width, outputs)
        self.row_loss = row_loss

    def forward(self, tokens: Mapping[str, Tokens], fuse: Fuse) -> Float[Tensor, "b c"]:
        return self.linear(fuse(tokens))

    def loss(
        self, scores: Float[Tensor, "b c"], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        rows = self.row_loss(scores.float(), target)  # bf16 has too few digits for a sum of logs
        total = weight.sum()
        # A batch of rows that all weigh nothing has loss 0, not 0 / 0.
        return (rows * weight).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)
