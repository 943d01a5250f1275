"""A made-up shop: a seeded table with photos, where neither the columns nor the photos are enough.

    python examples/shop.py FOLDER [--rows 300] [--seed 0]

Everything is drawn by this script. What the two targets depend on:

- `kind` is cup, bowl, box or crate. Round things are cups or bowls and angular ones boxes or
  crates, which only the photo shows; the heavy ones are bowls or crates, which only `weight_g` shows.
- `price` is the sum of what the columns say (height, material, condition) and of how golden the
  thing on the photo is, plus noise.
"""

import argparse
import colorsys
import math
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["make_shop"]

SIDE = 96  # pixels of a photo
MATERIALS = {"clay": 0.0, "wood": 4.0, "glass": 8.0, "brass": 14.0}  # what each adds to the price
CONDITIONS = {"worn": -5.0, "good": 0.0, "new": 5.0}
KINDS = {(True, False): "cup", (True, True): "bowl", (False, False): "box", (False, True): "crate"}


def make_shop(folder: str | Path, rows: int = 300, seed: int = 0) -> Path:
    """Write `table.csv` and `photos/` into `folder`, which is made; the path of the table.

    One photo in a hundred and three weights in a hundred are missing. Files that exist are replaced.
    """
    folder = Path(folder)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    table = _table(rows, rng)
    for name, is_round, gold in zip(
        table["photo"], table.pop("round"), table.pop("gold"), strict=True
    ):
        _photo(is_round=is_round, gold=gold, rng=rng).save(folder / name, quality=90)
    table.loc[rng.random(rows) < 0.01, "photo"] = None
    table.loc[rng.random(rows) < 0.03, "weight_g"] = np.nan
    table.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def _table(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """The table with all cells, and what the photos show in the columns `round` and `gold`."""
    is_round, heavy = rng.random(rows) < 0.5, rng.random(rows) < 0.5
    height, gold = rng.uniform(5, 40, rows), rng.random(rows)
    material = rng.choice(list(MATERIALS), rows)
    condition = rng.choice(list(CONDITIONS), rows)
    sums = [MATERIALS[m] + CONDITIONS[c] for m, c in zip(material, condition, strict=True)]
    price = 20 + 0.5 * height + np.array(sums) + 25 * gold + rng.normal(0, 2, rows)
    return pd.DataFrame(
        {
            "item": [f"A-{i:04d}" for i in range(rows)],
            "listed": pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 365, rows), "D"),
            "material": material,
            "condition": condition,
            "height_cm": height.round(1),
            "weight_g": (np.where(heavy, 900, 300) * np.exp(rng.normal(0, 0.3, rows))).round(),
            "photo": [f"photos/{i:04d}.jpg" for i in range(rows)],
            "kind": [KINDS[bool(r), bool(h)] for r, h in zip(is_round, heavy, strict=True)],
            "price": price.round(2),
            "round": is_round,
            "gold": gold,
        }
    )


def _photo(*, is_round: bool, gold: float, rng: np.random.Generator) -> Image.Image:
    """A thing on a plain ground, somewhere, turned and lit at random; drawn at twice the size."""
    size = 2 * SIDE
    grey = int(rng.uniform(90, 220))
    image = Image.new("RGB", (size, size), (grey, grey, int(grey * rng.uniform(0.9, 1.05))))
    draw = ImageDraw.Draw(image)
    radius, angle = rng.uniform(0.25, 0.38) * size, rng.uniform(0, 2 * math.pi)
    corners = 60 if is_round else 4
    x, y = rng.uniform(0.42, 0.58, 2) * size
    turns = angle + 2 * math.pi * np.arange(corners) / corners
    outline = [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns]
    shadow = [(px + 0.03 * size, py + 0.04 * size) for px, py in outline]
    draw.polygon(shadow, fill=(grey // 2,) * 3)
    light = rng.uniform(0.65, 0.95)
    colour = colorsys.hsv_to_rgb(0.12, 0.05 + 0.9 * gold, light)  # grey to golden
    draw.polygon(outline, fill=tuple(int(255 * c) for c in colour), outline=(40, 40, 40), width=3)
    small = image.filter(ImageFilter.GaussianBlur(1.5)).resize(
        (SIDE, SIDE), Image.Resampling.LANCZOS
    )
    noisy = np.asarray(small, dtype=float) + rng.normal(0, 4, (SIDE, SIDE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a shop's table with photos.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(make_shop(given.folder, given.rows, given.seed))
