"""Latency and recall of every index of vectors, with the exact one as the reference.

    python benchmarks/search.py --rows 10000,100000 --out benchmarks/results/search.csv

Vectors are unit vectors of --width numbers that differ in 32 directions, and a little in the others. They
lie around random centres, one for a hundred rows, as far from them as these are from each other, so that
clusters overlap; queries are drawn like them and are not among them. Recall is the share of the exact ten nearest that were found.
A search is timed for one query at a time (median and 95th percentile) and for all of them in one call.
Kinds whose package is not installed are left out and said so. `open_seconds` includes the checksums;
`memory_mb` is what the process grew by, for LanceDB with the package itself.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import record
import torch

from multiadapt.errors import ExtraError
from multiadapt.search import VectorIndex, build_index, open_index

K = 10
MADE_BY = "0" * 64
CENTRES = 100
"""Rows for each centre."""
LATENT = 32
"""Directions in which vectors differ, some noise aside: as learned vectors do, they fill few."""
KINDS: dict[str, dict[str, Any]] = {
    "exact": {},
    "exact float16": {"dtype": "float16"},
    "hnsw": {},
    "ivf": {},
    "lance": {},
}
PACKAGES = {"hnsw": "faiss-cpu", "ivf": "faiss-cpu", "lance": "lancedb"}


def units(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(rows: int, queries: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, rows // CENTRES), LATENT))
    spread = rng.normal(size=(LATENT, width))
    found: list[np.ndarray] = []
    for count in (rows, queries):
        vectors = np.empty((count, width), np.float32)
        for start in range(0, count, 100_000):  # in doubles, a part at a time
            part = vectors[start : start + 100_000]
            latent = centres[rng.integers(len(centres), size=len(part))]
            latent = latent + rng.normal(size=(len(part), LATENT))
            part[:] = units(latent @ spread + rng.normal(size=part.shape))
        found.append(vectors)
    return found[0], found[1]


def single(index: VectorIndex, queries: np.ndarray) -> np.ndarray:
    """Milliseconds of each query alone."""
    taken = np.empty(len(queries))
    for i, query in enumerate(queries):
        start = time.perf_counter()
        index.search(query[None], K)
        taken[i] = 1e3 * (time.perf_counter() - start)
    return taken


def recall(found: list[list[Any]], exact: list[list[Any]]) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)])
    )


def measured(
    kind: str, vectors: np.ndarray, queries: np.ndarray, exact: list[list[Any]]
) -> dict[str, Any]:
    """One kind of index: built, saved, opened again and searched."""
    name = kind.partition(" ")[0]
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    index = build_index(range(len(vectors)), vectors, made_by=MADE_BY, kind=name, **KINDS[kind])
    index.search(queries[:1], K)  # what is made at the first search belongs to building
    built = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "index"
        start = time.perf_counter()
        index.save(place)
        saved = time.perf_counter() - start
        size = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
        del index
        start = time.perf_counter()
        index = open_index(place, made_by=MADE_BY)
        opened = time.perf_counter() - start
        index.search(queries[:1], K)
        alone = single(index, queries)
        start = time.perf_counter()
        found = index.search(queries, K).ids
        together = time.perf_counter() - start
        held = psutil.Process().memory_info().rss - before
    return {
        "kind": kind,
        "package": f"{PACKAGES[name]} {metadata.version(PACKAGES[name])}"
        if name in PACKAGES
        else "",
        "rows": len(vectors),
        "width": vectors.shape[1],
        "queries": len(queries),
        f"recall_at_{K}": recall(found, exact),
        "milliseconds_median": float(np.median(alone)),
        "milliseconds_p95": float(np.percentile(alone, 95)),
        "milliseconds_in_one_call": 1e3 * together / len(queries),
        "build_seconds": built,
        "save_seconds": saved,
        "open_seconds": opened,
        "disk_mb": size / 1e6,
        "memory_mb": held / 1e6,
        "load": record.load(),
    }


def rows_of(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for rows in map(int, given.rows.split(",")):
        vectors, queries = clustered(rows, given.queries, given.width, given.seed)
        reference = build_index(range(rows), vectors, made_by=MADE_BY)
        exact = reference.search(queries, K).ids
        del reference
        for kind in KINDS:
            try:
                found = measured(kind, vectors, queries, exact)
            except ExtraError as error:
                print(f"{kind} is left out: {error}")
                continue
            print({k: v for k, v in found.items() if k not in ("width", "queries", "load")})
            yield found


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "out")
    parser.add_argument("--rows", default="10000,100000", help="numbers of vectors, with commas")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    record.write(given.out, list(rows_of(given)), record.origin("search.py", given))


if __name__ == "__main__":
    main()
