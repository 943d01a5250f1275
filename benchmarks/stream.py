"""Rows a CPU second of what stands around the model in predict and embed: reading a table, writing results.

    python benchmarks/stream.py --out benchmarks/results/stream.csv

The table has two numbers, a category, a path and a label, drawn; it is read 1,000 rows at a time. Results are
a prediction and two probabilities a row, or a vector of 512 numbers, written and put on the disk part by part as
a run that can be continued does, and joined at the end. "passed over" is what a run that continues does with
rows that are done. Files are in the page cache. With --ray the time of a part that costs nothing on its way
through two of Ray's workers is measured too.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import record
from memory_predict import rows_from, write_table

from multiadapt.cli._chunks import Chunks, Found
from multiadapt.cli._working import Job, Work
from multiadapt.data.table_writer import TableWriter
from multiadapt.data.tables import read_chunks

PART = 1000
WIDTH = 512


def read(path: Path, skip: int = 0) -> None:
    for _ in read_chunks(path, PART, skip):
        pass


def predictions(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    likely = rng.uniform(size=rows).astype(np.float32)
    return pd.DataFrame(
        {
            "row": range(rows),
            "prediction": np.where(likely > 0.5, "odd", "even"),
            "probability_even": 1 - likely,
            "probability_odd": likely,
        }
    )


def vectors(rows: int) -> pd.DataFrame:
    drawn = np.random.default_rng(0).normal(size=rows * WIDTH).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(drawn), WIDTH)
    return pd.DataFrame({"row": range(rows)}).assign(vector=pd.arrays.ArrowExtensionArray(lists))


def write(path: Path, part: pd.DataFrame, rows: int) -> None:
    with TableWriter(path, {}) as writer:
        for _ in range(rows // PART):
            writer.write(part)


@dataclass(frozen=True)
class Nothing(Job):
    """A job that costs nothing."""

    device: str | None = "cpu"
    where: str | None = None

    @contextmanager
    def opened(self) -> Iterator[Work]:
        yield lambda rows, start: Found({"prediction": np.zeros(len(rows))})


def through_ray(path: Path, out: Path) -> None:
    from multiadapt.cli._ray import run_on_ray

    run_on_ray(Nothing(), Chunks(path, out, PART, [], {}), 2)


def measure(folder: Path, rows: int, *, ray: bool) -> Iterator[dict[str, Any]]:
    csv, columns = folder / "table.csv", folder / "table.parquet"
    write_table(csv, rows)
    frame = pd.concat([rows_from(0, rows)])
    frame.to_parquet(columns, index=False)
    said, few = predictions(PART), max(rows // 10, PART)
    steps: dict[str, tuple[Callable[[], None], Path, int]] = {
        "read .csv": (lambda: read(csv), csv, rows),
        "read .parquet": (lambda: read(columns), columns, rows),
        "passed over .csv": (lambda: read(csv, rows), csv, rows),
        "passed over .parquet": (lambda: read(columns, rows), columns, rows),
    }
    for suffix in (".csv", ".parquet", ".jsonl"):
        out = folder / f"said{suffix}"
        steps[f"write {suffix}"] = (lambda out=out: write(out, said, rows), out, rows)
    out = folder / "vectors.parquet"
    steps[f"write vectors of {WIDTH}"] = (lambda: write(out, vectors(PART), few), out, few)
    for what, (step, path, count) in steps.items():
        yield {"what": what, **timed(step, count), "bytes_per_row": path.stat().st_size / count}
    if ray:
        yield from by_ray(folder, rows)


def by_ray(folder: Path, rows: int) -> Iterator[dict[str, Any]]:
    """A long run less a short one, in one cluster that has had one before: a worker takes long to begin."""
    import ray

    ray.init(num_cpus=3, include_dashboard=False, logging_level="error", log_to_driver=False)
    seconds: dict[int, float] = {}
    for count in (2 * PART, PART, 5 * rows):
        table = folder / f"table{count}.csv"
        write_table(table, count)
        started = time.perf_counter()
        through_ray(table, folder / f"ray{count}.csv")
        seconds[count] = time.perf_counter() - started
    ray.shutdown()
    rows = 5 * rows
    wall = seconds[rows] - seconds[PART]
    yield {
        "what": "a part through Ray",
        "rows": rows - PART,
        "wall_seconds": wall,
        "rows_per_wall_second": (rows - PART) / wall,
        "load": record.load(),
    }


def timed(step: Callable[[], None], rows: int) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "rows": rows,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "rows_per_cpu_second": rows / cpu,
        "rows_per_wall_second": rows / wall,
        "load": record.load(),
    }


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "out")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, default=False)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    pa.set_cpu_count(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(Path(folder), given.rows, ray=given.ray))
    record.write(given.out, rows, record.origin("stream.py", given))
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
