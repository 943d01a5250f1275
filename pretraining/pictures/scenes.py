"""Pictures composed of silhouettes and textures, and what is on them."""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from pictures.silhouettes import DRAWER_OF_SHAPE, DRAWERS, SHAPES, draw_silhouettes
from pictures.textures import FAMILIES, FIELD, draw_fields

__all__ = ["CLASSES", "NUMBERS", "Banks", "Dice", "Things", "compose", "draw_background", "furnish"]


@dataclass(frozen=True)
class Banks:
    """What pictures are composed of."""

    shapes: Tensor
    shape_class: Tensor
    fields: Tensor
    field_family: Tensor

    @classmethod
    def draw(cls, out: Path, seed: int, per_class: int, per_family: int) -> "Banks":
        """Drawn once, then read from `out/banks.safetensors`."""
        path = out / "banks.safetensors"
        if not path.exists():
            drawn = draw_silhouettes(per_class, seed) + draw_fields(per_family, seed)
            names = (field.name for field in fields(cls))
            arrays = (torch.from_numpy(np.ascontiguousarray(array)) for array in drawn)
            save_file(dict(zip(names, arrays, strict=True)), path)
        return cls(**load_file(path))

    def to(self, device: torch.device) -> "Banks":
        return Banks(**{f.name: getattr(self, f.name).to(device) for f in fields(Banks)})


KINDS = ("plain", "gradient", "texture", "room")
SHARES = (0.45, 0.15, 0.2, 0.2)


class Dice:
    """Random tensors of one step, from one seed."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        return self.uniform(0, 1, *shape) < share

    def order(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.generator, device=self.device)

    def colours(self, *shape: int) -> Tensor:
        """(..., 3): greys, pastels and full colours alike."""
        hue, value = self.uniform(0, 1, *shape, 1), self.uniform(0, 1, *shape, 1) ** 0.7
        saturation = self.uniform(0, 1, *shape, 1) ** 1.5 * (~self.chance(0.25, *shape, 1))
        turn = torch.tensor([0.0, 2 / 3, 1 / 3], device=self.device)
        wheel = (((hue + turn) % 1) * 6 - 3).abs().sub(1).clamp(0, 1)
        return value * (1 - saturation * (1 - wheel))


@dataclass(frozen=True)
class Things:
    """What stays the same when an object is shown twice; one row per object."""

    shape: Tensor
    field: Tensor
    palette: Tensor
    strength: Tensor
    zoom: Tensor

    @classmethod
    def draw(cls, banks: Banks, dice: Dice, count: int) -> "Things":
        return cls(
            dice.integers(len(banks.shapes), count),
            dice.integers(len(banks.fields), count),
            dice.colours(count, 3),
            dice.uniform(0, 1, count) ** 0.7 * (~dice.chance(0.3, count)),
            torch.exp(dice.uniform(-1.2, 0.3, count)),
        )

    def __getitem__(self, rows: Tensor | slice) -> "Things":
        return Things(**{f.name: getattr(self, f.name)[rows] for f in fields(Things)})

    def colour(self) -> Tensor:
        """(b, 3): about the mean colour."""
        first, second, _ = self.palette.unbind(1)
        return first + 0.5 * self.strength[:, None] * (second - first)


@dataclass(frozen=True)
class Pose:
    """Where an object stands in the picture."""

    scale: Tensor
    aspect: Tensor
    angle: Tensor
    flip: Tensor
    shift: Tensor

    @classmethod
    def draw(cls, dice: Dice, count: int, low: float, high: float) -> "Pose":
        scale = dice.uniform(low, high, count)
        tilted = dice.chance(0.1, count) * dice.uniform(-math.pi, math.pi, count)
        return cls(
            scale,
            torch.exp(0.12 * dice.normal(count)),
            0.12 * dice.normal(count) + tilted,
            1.0 - 2.0 * dice.chance(0.5, count),
            dice.uniform(-1, 1, count, 2) * (1.15 - scale).clamp(min=0.1)[:, None],
        )

    def grid(self, size: int) -> Tensor:
        """(b, size, size, 2): the object's own coordinates at every pixel."""
        c, s = torch.cos(self.angle), torch.sin(self.angle)
        across, down = self.flip / (self.scale * self.aspect), self.aspect / self.scale
        turn = torch.stack([c * across, s * across, -s * down, c * down], 1).view(-1, 2, 2)
        move = -turn @ self.shift[:, :, None]
        shape = [len(c), 1, size, size]
        return functional.affine_grid(torch.cat([turn, move], 2), shape, align_corners=False)

    def numbers(self) -> Tensor:
        turned = [torch.cos(self.angle) * self.flip, torch.sin(self.angle) * self.flip]
        return torch.stack([self.scale, self.aspect.log(), *turned, *self.shift.unbind(1)], 1)


def blurred(alpha: Tensor) -> Tensor:
    """Soft edges, about an eighth of the picture wide."""
    size = alpha.shape[-1]
    small = functional.avg_pool2d(alpha, size // 16)
    small = functional.avg_pool2d(small, 3, 1, 1, count_include_pad=False)
    return functional.interpolate(small, (size, size), mode="bilinear")


def textured(things: Things, grid: Tensor, banks: Banks) -> Tensor:
    """(b, 3, size, size): the object's own colours, without light."""
    inside = grid * things.zoom[:, None, None, None]
    field = banks.fields[things.field].float() / 255
    tones = functional.grid_sample(
        field, inside, padding_mode="reflection", align_corners=False, mode="bilinear"
    )
    first, second, third = things.palette[..., None, None].unbind(1)
    amount = things.strength[:, None, None, None]
    colour = first + amount * tones[:, :1] * (second - first)
    return colour + 0.4 * amount * tones[:, 1:] * (third - first)


def lit(soft: Tensor, light: Tensor) -> Tensor:
    """How much lighter or darker the soft outline makes every pixel, lit from one side."""
    here = soft[..., 1:, 1:]
    across, down = here - soft[..., 1:, :-1], here - soft[..., :-1, 1:]
    relief = torch.zeros_like(soft)
    relief[..., 1:, 1:] = soft.shape[-1] / 16 * (light[:, :1] * across + light[:, 1:] * down)
    return 1 + relief.clamp(-0.7, 0.7)


def paste(canvas: Tensor, things: Things, pose: Pose, banks: Banks, dice: Dice) -> Tensor:
    """Draw one object per row, with its texture, relief and shadow; returns its light (b, 2)."""
    count, size = len(canvas), canvas.shape[-1]
    grid = pose.grid(size)
    outline = banks.shapes[things.shape].float() / 255
    sketch = functional.grid_sample(outline, grid, align_corners=False, mode="bilinear")
    alpha, detail = sketch[:, :1], sketch[:, 1:]
    ink = dice.uniform(-0.8, 0.5, count, 1, 1, 1)
    soft = blurred(alpha)
    light = dice.normal(count, 2, 1, 1) * 1.2
    colour = textured(things, grid, banks) * lit(soft, light) + ink * detail
    offset = dice.integers(size // 8, 2).tolist()
    shadow = torch.roll(soft, offset, (2, 3)) * dice.uniform(0, 0.6, count, 1, 1, 1)
    shadow = shadow * dice.chance(0.6, count, 1, 1, 1)
    canvas.mul_(1 - shadow * (1 - alpha)).lerp_(colour.clamp(0, 1), alpha)
    return light.flatten(1)


@dataclass(frozen=True)
class Background:
    """A picture without its object, and what it is."""

    canvas: Tensor
    kind: Tensor
    family: Tensor
    colour: Tensor
    room: Tensor

    def __getitem__(self, rows: Tensor) -> "Background":
        return Background(**{f.name: getattr(self, f.name)[rows] for f in fields(Background)})


def kinds(count: int, device: torch.device) -> Tensor:
    """(count,): in sorted order, each kind with its share."""
    limits = torch.tensor(SHARES, device=device).cumsum(0)[:-1] * count
    return torch.bucketize(torch.arange(count, device=device).float(), limits, right=True)


@dataclass(frozen=True)
class Surfaces:
    """What every pixel of a background shows."""

    plane: Tensor  # 0 wall, 1 floor, 2 ceiling
    where: Tensor  # (b, 2, size, size): coordinates on the plane
    shade: Tensor
    room: Tensor  # (b, 5): centre and half size of the far wall, whether outdoors


def draw_surfaces(kind: Tensor, dice: Dice, size: int) -> Surfaces:
    """A room is a box seen from inside; with its side walls far off it is a horizon."""
    count = len(kind)
    is_room = (kind == 3)[:, None, None]
    line = (torch.arange(size, device=kind.device) + 0.5) / size * 2 - 1
    centre, half = dice.uniform(-0.5, 0.5, count, 2), dice.uniform(0.2, 0.75, count, 2)
    outdoors = dice.chance(0.35, count)
    half = torch.where(outdoors[:, None], torch.stack([half[:, 0] * 50, half[:, 1] / 4], 1), half)
    across = ((line - centre[:, :1]) / half[:, :1])[:, None, :].expand(-1, size, -1)
    down = ((line - centre[:, 1:]) / half[:, 1:])[:, :, None].expand(-1, -1, size)
    far = torch.maximum(across.abs(), down.abs()).clamp(min=1)
    level = (down.abs() >= across.abs()) & (far > 1) & is_room
    side = (far > 1) & ~level & is_room
    depth = dice.uniform(1, 4, count, 1, 1) / far
    flat = dice.uniform(0.2, 0.6, count, 1, 1)
    u = torch.where(is_room, torch.where(side, depth, across / far), line[None, None, :] * flat)
    v = torch.where(is_room, torch.where(level, depth, down / far), line[None, :, None] * flat)
    shade = torch.where(is_room, (0.55 + 0.45 / far) * (1 - 0.15 * side.float()), 1.0)
    room = torch.cat([centre, half.clamp(max=1), outdoors[:, None].float()], 1)
    return Surfaces(level * torch.where(down > 0, 1, 2), torch.stack([u, v], 1), shade, room)


def draw_tones(fields: Tensor, seen: Surfaces, kind: Tensor, dice: Dice) -> Tensor:
    """(b, size, size) in about [0, 1]: a field on every plane, or a slope for a gradient."""
    count = len(kind)
    at = (seen.where * 0.5 + dice.uniform(0, 1, count, 2, 1, 1)).mul(FIELD).long().remainder(FIELD)
    rows = torch.arange(count, device=kind.device)[:, None, None]
    tone = fields[rows, seen.plane, at[:, 1], at[:, 0]].float() / 255
    slope = (seen.where * dice.uniform(-1, 1, count, 2, 1, 1)).sum(1)
    return torch.where((kind == 1)[:, None, None], slope + 0.5, tone)


def draw_background(banks: Banks, dice: Dice, count: int, size: int) -> Background:
    kind = kinds(count, dice.device)
    seen = draw_surfaces(kind, dice, size)
    chosen = dice.integers(len(banks.fields), count, 3)
    tone = draw_tones(banks.fields[chosen, 0], seen, kind, dice)
    strength = dice.uniform(0.1, 1, count, 3) * (kind > 0)[:, None]
    first, second = dice.colours(count, 3), dice.colours(count, 3)
    white = (kind == 0) & dice.chance(0.7, count)
    first = torch.where(white[:, None, None], 1 - 0.1 * dice.uniform(0, 1, count, 3, 1), first)
    rows = torch.arange(count, device=kind.device)[:, None, None]
    base = first[rows, seen.plane]
    amount = (strength[rows, seen.plane] * tone)[..., None]
    canvas = (base + amount * (second[rows, seen.plane] - base)) * seen.shade[..., None]
    canvas = canvas.permute(0, 3, 1, 2).clamp(0, 1).contiguous()
    family = torch.where(kind > 1, banks.field_family[chosen[:, 0]], -1)
    return Background(canvas, kind, family, canvas.mean((2, 3)), seen.room)


def finish(canvas: Tensor, dice: Dice) -> Tensor:
    """Light that falls off, a colour cast, contrast, blur and grain."""
    count, size = len(canvas), canvas.shape[-1]
    line = torch.linspace(-1, 1, size, device=canvas.device)
    fall = dice.normal(count, 2) * 0.15
    ramp = 1 + fall[:, :1, None] * line[None, None] + fall[:, 1:, None] * line[None, :, None]
    cast = torch.exp(0.08 * dice.normal(count, 3, 1, 1) + 0.12 * dice.normal(count, 1, 1, 1))
    canvas = canvas * (ramp[:, None] * cast)
    soft = dice.chance(0.15, count)
    canvas[soft] = functional.avg_pool2d(canvas[soft], 3, 1, 1, count_include_pad=False)
    grey = dice.chance(0.05, count)
    canvas[grey] = canvas[grey].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    grain = dice.uniform(0, 0.06, count, 1, 1, 1) * dice.chance(0.5, count, 1, 1, 1)
    return (canvas + grain * dice.normal(*canvas.shape)).clamp(0, 1)


# What the heads answer: the width of each, classes first, then numbers.
CLASSES = {"shape": SHAPES, "family": len(FAMILIES), "behind": len(FAMILIES), "kind": len(KINDS)}
CLASSES |= {"front": SHAPES + 1, "drawer": len(DRAWERS)}
NUMBERS = {"pose": 6, "colour": 3, "around": 3, "strength": 1, "light": 2, "room": 5}
NUMBERS |= {"thumbnail": 48}


def furnish(behind: Background, banks: Banks, dice: Dice) -> None:
    """Two small objects in every room, as far as a random object is furniture."""
    rooms = behind.canvas[int(len(behind.canvas) * (1 - SHARES[3])) :]
    for _ in range(2):
        pose = Pose.draw(dice, len(rooms), 0.15, 0.5)
        paste(rooms, Things.draw(banks, dice, len(rooms)), pose, banks, dice)


def cover(canvas: Tensor, banks: Banks, dice: Dice) -> Tensor:
    """Put a small object before every fifth picture; returns its class, SHAPES where none is."""
    count = len(canvas)
    front = Things.draw(banks, dice, count // 5)
    chosen = dice.order(count)[: count // 5]
    part = canvas[chosen]
    paste(part, front, Pose.draw(dice, len(part), 0.2, 0.5), banks, dice)
    canvas[chosen] = part
    classes = torch.full((count,), SHAPES, device=dice.device)
    classes[chosen] = banks.shape_class[front.shape]
    return classes


def describe(things: Things, behind: Background, banks: Banks) -> dict[str, Tensor]:
    """What is known before the object is placed; -1 and NaN where there is nothing to ask."""
    shape = banks.shape_class[things.shape]
    return {
        "shape": shape,
        "drawer": torch.tensor(DRAWER_OF_SHAPE, device=shape.device)[shape],
        "family": torch.where(things.strength > 0.1, banks.field_family[things.field], -1),
        "colour": things.colour(),
        "strength": things.strength[:, None],
        "behind": behind.family,
        "kind": behind.kind,
        "around": behind.colour,
        "room": behind.room.masked_fill((behind.kind != 3)[:, None], math.nan),
    }


def compose(
    things: Things, behind: Background, banks: Banks, dice: Dice
) -> tuple[Tensor, dict[str, Tensor]]:
    """Show every thing before some background: pictures in [0, 1] and what is on them."""
    count = len(things.shape)
    mine = behind[dice.order(count) % len(behind.canvas)]
    canvas = mine.canvas
    pose = Pose.draw(dice, count, 0.55, 1.1)
    truth = describe(things, mine, banks) | {"pose": pose.numbers()}
    truth["light"] = paste(canvas, things, pose, banks, dice)
    truth["front"] = cover(canvas, banks, dice)
    canvas = finish(canvas, dice)
    truth["thumbnail"] = functional.adaptive_avg_pool2d(canvas, 4).flatten(1)
    return canvas, truth
