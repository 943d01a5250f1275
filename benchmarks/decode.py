"""Pictures a CPU second from files to normalised tensors: multiadapt's readers against bare Pillow and numpy.

    python benchmarks/decode.py --data DATA --out benchmarks/results/decode.csv

Both sides decode, resize to 128 pixels (houses also at the files' own 224) and normalise blocks of 64
pictures; "drawn" are 16 JPEG photos of 4000 x 3000 pixels from a seed, as a telephone takes them. They run in turns, and the median over turns is reported. Time is the process's CPU time, all
threads together: a thread that makes a picture no cheaper shows a ratio as before. Files are in the page
cache.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import record
import torch
from PIL import Image

from multiadapt.data.batches import cells
from multiadapt.data.reading import Reading
from multiadapt.encoders.image import ImageEncoder
from multiadapt.types import Column, Stream

SETS = (("houses", "img_frontal", 224), ("houses", "img_frontal", 128), ("fashion", "image", 128))
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
BLOCK = 64
LARGE = 16


def draw(root: Path) -> pd.DataFrame:
    """Soft shapes with the noise of a sensor."""
    random = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(LARGE)]
    for name in names:
        shapes = Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        pixels = np.asarray(shapes.resize((4000, 3000), Image.Resampling.BICUBIC)).astype(np.int16)
        pixels += random.integers(-12, 13, pixels.shape, dtype=np.int16)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name, quality=90)
    return pd.DataFrame({"photo": names})


def library(
    frame: pd.DataFrame, column: str, root: Path, pixels: int
) -> Callable[[np.ndarray], object]:
    stream = Stream(column, "image", (Column(column, "image", "told"),))
    spec = ImageEncoder("random:resnet-18", size=pixels)
    encoder = spec.build(stream, spec.open("classification"), "network0")
    preparation: Any = encoder.get_submodule("backbone").preparation
    reading = Reading(root)

    def read(rows: np.ndarray) -> object:
        inputs = encoder.prepare(cells(frame.iloc[rows], encoder.stream, reading))
        return preparation.numbers(inputs.tensors)

    return read


def bare(
    frame: pd.DataFrame, column: str, root: Path, pixels: int
) -> Callable[[np.ndarray], object]:
    names = frame[column].tolist()

    def read(rows: np.ndarray) -> torch.Tensor:
        found = np.empty((len(rows), pixels, pixels, 3), np.float32)
        for i, row in enumerate(rows):
            image = Image.open(root / names[row]).convert("RGB")
            image = image.resize((pixels, pixels), Image.Resampling.BICUBIC)
            found[i] = (np.asarray(image, np.float32) / 255 - MEAN) / DEVIATION
        return torch.from_numpy(np.ascontiguousarray(found.transpose(0, 3, 1, 2)))

    return read


def seconds(
    read: Callable[[np.ndarray], object], blocks: Sequence[np.ndarray], threads: int
) -> float:
    start = time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(read, blocks):
            pass
    return time.process_time() - start


def measure(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        sets = [
            (n, pd.read_csv(given.data / n / "table.csv").iloc[: given.rows], c, given.data / n, p)
            for n, c, p in SETS
        ]
        sets.append(("drawn", draw(Path(folder)), "photo", Path(folder), 224))
        yield from measured(sets, given)


def measured(
    sets: Sequence[tuple[str, pd.DataFrame, str, Path, int]], given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    for name, frame, column, root, pixels in sets:
        blocks = [np.arange(i, min(i + BLOCK, len(frame))) for i in range(0, len(frame), BLOCK)]
        sides = [library(frame, column, root, pixels), bare(frame, column, root, pixels)]
        for threads in (1, 2):
            taken: list[list[float]] = [[], []]
            load = record.load()
            for _ in range(given.turns):
                for side, into in zip(sides, taken, strict=True):
                    into.append(seconds(side, blocks, threads))
            ours, theirs = (len(frame) / np.median(t) for t in taken)
            ratios = np.array(taken[1]) / np.array(taken[0])
            yield {
                "dataset": name,
                "pixels": pixels,
                "reader_threads": threads,
                "multiadapt_per_cpu_second": ours,
                "bare_per_cpu_second": theirs,
                "ratio": float(np.median(ratios)),
                "ratio_low": float(ratios.min()),
                "ratio_high": float(ratios.max()),
                "turns": given.turns,
                "load": load,
            }


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "data", "out")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--turns", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    record.write(given.out, list(measure(given)), record.origin("decode.py", given))


if __name__ == "__main__":
    main()
