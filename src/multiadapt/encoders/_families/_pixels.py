"""From pictures of any size to the tensor that a network reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor
from transformers.utils.hub import cached_file

from multiadapt.encoders._families._preparation import Note, Preparation

__all__ = ["PixelPreparation"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LONGEST = 4
"""Pictures more elongated than this are cut before they are resized: 20,000 x 1 pixels would become
224 x 4.5 million. Only the pixels next to the cut differ, by what the filter sees beyond it."""


@dataclass(frozen=True)
class PixelPreparation(Preparation):
    """Resize, cut, normalise, as the checkpoint's own processor does it. Deterministic."""

    height: int
    width: int
    short: int | None = None
    """The shorter side becomes this and the middle is cut out; None: the whole is squashed."""
    resample: int = Image.Resampling.BICUBIC
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD
    rescale: float = 1 / 255

    @staticmethod
    def read(
        place: str | None, config: Any, size: int | None, revision: str | None
    ) -> "PixelPreparation":
        """The checkpoint's own; ImageNet's mean and deviation where it has none."""
        name = "preprocessor_config.json"
        if place is not None and cached_file(
            place, name, revision=revision, _raise_exceptions_for_missing_entries=False
        ):
            processor = AutoImageProcessor.from_pretrained(place, revision=revision, backend="pil")
            return PixelPreparation.of(processor, size)
        native = size or getattr(config, "image_size", 224)
        height, width = (native, native) if isinstance(native, int) else native
        return PixelPreparation(height, width)

    @staticmethod
    def of(processor: Any, size: int | None) -> "PixelPreparation":
        """What a processor of transformers does, at another size where one is given."""
        cut = getattr(processor, "do_center_crop", False)
        kept = processor.crop_size if cut else processor.size
        height = size or kept.get("height") or kept["shortest_edge"]
        width = size or kept.get("width") or height
        normal = processor.do_normalize
        return PixelPreparation(
            height,
            width,
            _short(processor, height, kept),
            int(processor.resample),
            tuple(processor.image_mean) if normal else (0.0,) * 3,
            tuple(processor.image_std) if normal else (1.0,) * 3,
            processor.rescale_factor if processor.do_rescale else 1.0,
        )

    @staticmethod
    def of_timm(config: Mapping[str, Any], size: int | None) -> "PixelPreparation":
        """What timm's evaluation does for a `pretrained_cfg`, at another size if one is given."""
        _, height, width = config.get("input_size") or (3, 224, 224)
        height, width = (size, size) if size else (height, width)
        crop = config.get("crop_pct") or 0.875
        short = None if config.get("crop_mode") == "squash" else int(height / crop)
        names = {"bilinear": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}
        resample = names.get(config.get("interpolation", ""), Image.Resampling.BICUBIC)
        mean, std = config.get("mean") or _MEAN, config.get("std") or _STD
        return PixelPreparation(height, width, short, int(resample), tuple(mean), tuple(std))

    def resized(self, how: Literal["squash", "crop"]) -> "PixelPreparation":
        """The same with the whole picture squashed, or with its middle cut out."""
        short = None if how == "squash" else self.short or max(self.height, self.width)
        return replace(self, short=short)

    @property
    def least(self) -> int:
        """Sides from which on a picture need not be larger: twice what it becomes, so that the filter that
        makes it smaller still decides how it looks."""
        return 2 * max(self.height, self.width, self.short or 0)

    def tensors(self, items: Sequence[UInt8[np.ndarray, "_ _ 3"]], note: Note) -> dict[str, Tensor]:
        return {"pixels": self.pixels(items)}

    def pixels(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[Tensor, "f 3 h w"]:
        """Pictures at their size, in order."""
        pixels = np.empty((len(images), self.height, self.width, 3), dtype=np.uint8)
        for i, image in enumerate(images):
            pixels[i] = np.asarray(self._resized(Image.fromarray(np.ascontiguousarray(image))))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def numbers(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Pixels that are bytes as the numbers that they stand for; others are those already."""
        pixels = tensors["pixels"]
        if pixels.dtype != torch.uint8:
            return tensors
        std = torch.tensor(self.std)
        scale, shift = self.rescale / std, -torch.tensor(self.mean) / std
        scale, shift = (x[:, None, None].to(pixels.device) for x in (scale, shift))
        return {**tensors, "pixels": pixels.float().mul_(scale).add_(shift)}

    @property
    def bytes_by(self) -> str:
        """Mean and deviation have no part in it."""
        return f"{self.height} {self.width} {self.short} {self.resample}"

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.short is None:
            return image.resize((self.width, self.height), self.resample)
        least, most = sorted(image.size)
        if most > _LONGEST * least:
            return self._cut_first(image, self.short / least)
        long = int(self.short * most / least)
        wide = image.width > image.height
        image = image.resize((long, self.short) if wide else (self.short, long), self.resample)
        left, top = (image.width - self.width) // 2, (image.height - self.height) // 2
        return image.crop((left, top, left + self.width, top + self.height))

    def _cut_first(self, image: Image.Image, scale: float) -> Image.Image:
        width, height = self.width / scale, self.height / scale
        left, top = max(0.0, (image.width - width) / 2), max(0.0, (image.height - height) / 2)
        box = (left, top, min(image.width, left + width), min(image.height, top + height))
        return image.resize((self.width, self.height), self.resample, box=box)


def _short(processor: Any, height: int, kept: Any) -> int | None:
    shortest = processor.size.get("shortest_edge")
    if not shortest:
        return None
    crop = getattr(processor, "crop_pct", None)
    if crop:  # ConvNeXt's rule: from 384 pixels on, nothing is cut off
        return int(height / crop) if height < 384 else None
    return round(shortest * height / (kept.get("height") or shortest))
