"""Images, through frozen networks that transformers or timm keep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt.attach import running
from multiadapt.encoders._base import Encoder, EncoderSpec, Origin, Standardize
from multiadapt.encoders._families._open import Opened, open_network
from multiadapt.errors import EncoderError, SpecError
from multiadapt.types import Cells, Inputs, Site, Stream, Tokens

__all__ = ["ImageEncoder"]


@dataclass(frozen=True)
class ImageEncoder(EncoderSpec):
    """A pretrained image network, frozen."""

    modality: ClassVar[str] = "image"

    source: str = "starter"
    """"starter" (inside the package), a folder, a hub name, "timm:resnet50", "random:resnet-50"."""
    size: int | None = None
    """Pixels of the square that the network reads. None: the checkpoint's own."""
    resize: Literal["squash", "crop"] | None = None
    """squash: the whole picture, distorted. crop: its middle square. None: the checkpoint's way."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""

    def check(self) -> None:
        if not self.source:
            raise SpecError("source must name an image network, got an empty text")
        if self.size is not None and self.size < 1:
            raise SpecError(f"size must be at least 1 pixel, got {self.size}")

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module:
        opened = open_network(self.source, self.size, self.revision)
        if self.resize is not None:
            opened = replace(opened, preparation=opened.preparation.resized(self.resize))
        return _Backbone(opened)

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        return _ImageEncoder(stream, cast(_Backbone, network), name)


class _Backbone(nn.Module):
    """A frozen network, shared by all streams whose specs are equal.

    It stays in evaluation mode, so that BatchNorm's statistics and dropout never move.
    """

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self.network = opened.family.network
        self.family = opened.family
        self.preparation = opened.preparation
        self.origin = opened.origin
        self.train(False)

    def train(self, mode: bool = True) -> "_Backbone":  # noqa: FBT001, FBT002 - torch's signature
        return super().train(False)

    def forward(self, x: Tensor, start: int, end: int) -> Tensor:
        """The state at cut `start` moved on to cut `end`, both at most the number of blocks."""
        for index in range(start, end):
            if index == 0:
                x = self.family.start(x)
            x = self.family.block(index, x)
        return x


class _ImageEncoder(Encoder):
    def __init__(self, stream: Stream, backbone: _Backbone, name: str) -> None:
        super().__init__()
        self.stream = stream
        self.name = name
        self.backbone = backbone
        self.width = backbone.family.width
        self.blocks = backbone.family.blocks
        self.trained = False
        self.pooled = Standardize(self.width)

    def prepare(self, cells: Cells) -> Inputs:
        rows = cast(Sequence[Sequence[np.ndarray]], cells)
        pixels = self.backbone.preparation.tensor([image for row in rows for image in row])
        return Inputs(
            {"pixels": pixels}, torch.tensor([len(row) for row in rows], dtype=torch.long)
        )

    @torch.no_grad()  # not inference_mode: autograd reads what starts from here
    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        if not inputs.cut <= cut <= self.blocks + 1:
            raise EncoderError(
                f"cut must be in {inputs.cut}..{self.blocks + 1} for these inputs, got {cut}"
            )
        if cut == inputs.cut:
            return inputs
        state = self.backbone(_filled(inputs), inputs.cut, min(cut, self.blocks))
        name = "state" if cut <= self.blocks else "pooled"
        if name == "pooled":
            state = self.backbone.family.finish(state)[1]
        # Contiguous, as it is read back from a store: convolutions round other layouts otherwise.
        return Inputs({name: state[: inputs.items].contiguous()}, inputs.count, cut)

    def forward(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None = None) -> Tokens:
        if guests is not None:
            raise EncoderError(f"{self.stream.name}: image encoders do not take guests yet")
        present = inputs.count > 0
        if inputs.items == 0:  # an invented picture would move what adapters learn and count
            nothing = torch.zeros(len(inputs), self.width, device=present.device)
            return Tokens.single(nothing, present)
        with running(self.stream.name):
            if inputs.cut > self.blocks:
                pooled = inputs.mean(inputs.tensors["pooled"])
                return Tokens.single(self._corrected(pooled, present), present)
            state = self.backbone(_filled(inputs), inputs.cut, self.blocks)
            tokens, pooled = self.backbone.family.finish(state)
            pooled = self._corrected(inputs.mean(pooled), present)
        x, mask = _side_by_side(tokens, inputs)
        return Tokens(x, mask, pooled, pooled[:, None][:, :0])

    def sites(self) -> tuple[Site, ...]:
        found = self.backbone.family.sites()
        d, last = self.width, found[-1]
        pooled = Site(
            "", "pooled", "pooled", self.blocks, d, d, last.stage, last.stages, layout="vector"
        )
        inner = (replace(s, path=f"backbone.network.{s.path}") for s in found)
        return tuple(
            replace(s, stream=self.stream.name, network=self.name, modality="image")
            for s in (*inner, pooled)
        )

    def origin(self) -> Origin:
        return self.backbone.origin

    def _corrected(self, pooled: Float[Tensor, "b d"], present: Bool[Tensor, " b"]) -> Tensor:
        """The pooled vector after its adapter, whose bias must not fill a missing cell."""
        return torch.where(present[:, None], self.pooled(pooled, present), 0.0)


def _filled(inputs: Inputs) -> Tensor:
    """The only tensor; one item of zeros where all are missing: libraries want at least one."""
    (x,) = inputs.tensors.values()
    return x if len(x) else x.new_zeros(1, *x.shape[1:])


def _side_by_side(
    items: Float[Tensor, "f m d"], inputs: Inputs
) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
    """Tokens of each row's files in one line, zeros after the last."""
    _, m, d = items.shape
    rows = len(inputs)
    if inputs.single:
        return items, torch.ones(rows, m, dtype=torch.bool, device=items.device)
    most = int(inputs.count.max())
    mask = torch.arange(most, device=items.device) < inputs.count[:, None]
    x = items.new_zeros(rows, most, m, d).masked_scatter(mask[..., None, None], items)
    return x.reshape(rows, most * m, d), mask.repeat_interleave(m, dim=1)
