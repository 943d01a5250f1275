"""Pictures a CPU second from files to normalised tensors: multiadapt's readers against bare Pillow and numpy.

    python benchmarks/decode.py --data DATA --out benchmarks/results/decode.csv

Both sides decode, resize to 128 pixels (houses also at the files' own 224) and normalise blocks of 64
pictures. They run in turns, and the median over turns is reported. Time is the process's CPU time, all
threads together: a thread that makes a picture no cheaper shows a ratio as before. Files are in the page
cache.
"""

import argparse
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


def library(
    frame: pd.DataFrame, column: str, root: Path, pixels: int
) -> Callable[[np.ndarray], object]:
    stream = Stream(column, "image", (Column(column, "image", "told"),))
    spec = ImageEncoder("random:resnet-18", size=pixels)
    encoder = spec.build(stream, spec.open("classification"), "network0")
    reading = Reading(root)
    return lambda rows: encoder.prepare(cells(frame.iloc[rows], stream, reading))


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
    for name, column, pixels in SETS:
        frame = pd.read_csv(given.data / name / "table.csv").iloc[: given.rows]
        root = given.data / name
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
