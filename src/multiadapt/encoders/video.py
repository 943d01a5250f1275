"""Clips, frame by frame through a frozen image network, or whole through a frozen video network."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.encoders._base import Encoder, EncoderSpec, at_least
from multiadapt.encoders._families._frames import FramePreparation
from multiadapt.encoders._families._open import Opened, open_network, reads
from multiadapt.encoders._families._open_timm import open_timm
from multiadapt.encoders._families._pixels import PixelPreparation
from multiadapt.encoders._pretrained import Backbone, ItemPool, PretrainedEncoder
from multiadapt.errors import EncoderError, SpecError
from multiadapt.types import Inputs, Sampling, Stream

__all__ = ["VideoEncoder"]

_FRAMES = 8
_HEADS = 8


@dataclass(frozen=True)
class VideoEncoder(EncoderSpec):
    """A pretrained image network that sees the frames of a clip, or a pretrained video network, frozen."""

    modality: ClassVar[str] = "video"

    source: str = "starter"
    """Any source of an image encoder ("starter", a folder, a hub name, "timm:resnet50",
    "random:resnet-50"), or a VideoMAE: "MCG-NJU/videomae-base", "random:videomae-base"."""
    frames: int | None = None
    """Frames that are read of each clip. None: as many as the video network reads, 8 for an image network."""
    sampling: Literal["uniform", "random", "stride"] = "uniform"
    """uniform: the middles of as many equal parts of the clip. random: a drawn moment in each part, the
    same in every epoch. stride: the first frame and every `stride`-th after it."""
    stride: int = 4
    """Frames from one read frame to the next with sampling="stride"."""
    pool: Literal["mean", "attention"] = "mean"
    """How the frames' vectors become one. attention: weights by content and place in the clip, learned
    with every method; it starts as the mean."""
    size: int | None = None
    """Pixels of the square that the network reads. None: the checkpoint's own."""
    resize: Literal["squash", "crop"] | None = None
    """squash: the whole frame, distorted. crop: its middle square. None: the checkpoint's way."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""
    seed: int = 0
    """Draws the moments with sampling="random"."""

    def check(self) -> None:
        if not self.source:
            raise SpecError("source must name an image or video network, got an empty text")
        if self.frames is not None:
            at_least(self, frames=1)
        at_least(self, stride=1, seed=0)
        if self.size is not None and self.size < 1:
            raise SpecError(f"size must be at least 1 pixel, got {self.size}")

    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module:
        named = self.source.removeprefix("random:")
        pictures = self.source == "starter" or named.startswith("timm:")
        if not pictures and reads(self.source, "video", self.revision):
            return self._of_clips(open_network(self.source, "video", self._whole, self.revision))
        if named.startswith("timm:"):
            opened = open_timm(self.source, self.size)
        else:
            opened = open_network(self.source, "image", self._picture, self.revision)
        self._check_size(opened)
        frames = FramePreparation(self._resized(opened.preparation))
        return Backbone(replace(opened, preparation=frames), self.frames or _FRAMES)

    def _of_clips(self, opened: Opened) -> Backbone:
        config = opened.family.network.config
        if self.frames not in (None, config.num_frames):
            raise EncoderError(
                f"{self.source} reads clips of {config.num_frames} frames, got frames={self.frames}"
            )
        if self.size not in (None, config.image_size):
            raise EncoderError(
                f"{self.source} reads frames of {config.image_size} pixels, got size={self.size}"
            )
        if self.pool != "mean":
            raise EncoderError(
                f'pool="{self.pool}" joins the frames of an image network; {self.source} reads a clip as '
                "a whole"
            )
        return Backbone(opened)

    def _check_size(self, opened: Opened) -> None:
        least = opened.family.least
        if self.size is not None and self.size < least:
            raise EncoderError(
                f"{self.source} reads pictures of at least {least} pixels, got size={self.size}"
            )

    def _picture(self, place: str | None, config: Any, revision: str | None) -> PixelPreparation:
        return PixelPreparation.read(place, config, self.size, revision)

    def _whole(self, place: str | None, config: Any, revision: str | None) -> FramePreparation:
        picture = self._resized(self._picture(place, config, revision))
        return FramePreparation(picture, config.num_frames)

    def _resized(self, picture: PixelPreparation) -> PixelPreparation:
        return picture if self.resize is None else picture.resized(self.resize)

    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        backbone = cast(Backbone, network)
        whole = backbone.family.modality == "video"
        frames = backbone.network.config.num_frames if whole else backbone.frames
        sampling = Sampling(frames, self.sampling, self.stride, self.seed)
        pool = _Attention(backbone.family.width, frames) if self.pool == "attention" else None
        return PretrainedEncoder(replace(stream, sampling=sampling), backbone, name, pool)


class _Attention(ItemPool):
    """Every head weighs the frames by what they hold and by their place, for its part of the vector.

    Zeros weigh all frames alike, which is the mean. Heads that look at different places tell a clip from
    its reverse.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        heads = next(h for h in range(_HEADS, 0, -1) if width % h == 0)
        self.query = nn.Parameter(torch.zeros(heads, width // heads))
        self.place = nn.Parameter(torch.zeros(heads, frames))

    def forward(self, vectors: Float[Tensor, "f d"], inputs: Inputs) -> Float[Tensor, "b d"]:
        heads, frames = self.place.shape
        clips = vectors.unflatten(0, (-1, frames))  # a row's clips count alike, as its pictures do
        parts = clips.unflatten(2, (heads, -1))
        content = F.layer_norm(clips, clips.shape[-1:]).unflatten(2, (heads, -1))
        scores = torch.einsum("fthi,hi->fht", content, self.query) / self.query.shape[1] ** 0.5
        weights = (scores + self.place).softmax(-1)
        joined = torch.einsum("fht,fthi->fhi", weights, parts).flatten(1)
        return Inputs({"pooled": joined}, inputs.count // frames).mean(joined)
