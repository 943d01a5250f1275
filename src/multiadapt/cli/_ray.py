"""Parts of a table handed to workers by Ray Data, and taken back in the table's order."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import ipc

from multiadapt import errors
from multiadapt.cli._chunks import Chunks, Source, beside, parts
from multiadapt.cli._working import Job, finish
from multiadapt.data.bad_cells import BadCell, plain
from multiadapt.errors import ExtraError, MultiadaptError, TrainingError

__all__ = ["run_on_ray"]

_AGAIN = 3
"""How often a part is given to another worker, where the one that had it died."""
_RESTARTS = 20
"""How often each worker is started anew: one that dies while it opens the model would be for ever."""


def run_on_ray(job: Job, chunks: Chunks, workers: int | None) -> None:
    """All parts, each by one of the workers; this process writes them, and says what they could not read.

    One task reads the table; of its parts so many are waiting as Ray finds room for. A part whose worker
    died is done by another. A worker opens the model once.

    Raises:
        TrainingError: no worker finished some part.
    """
    # A worker's current folder is another one.
    paths = {name: value.resolve() for name, value in vars(job).items() if isinstance(value, Path)}
    job = replace(job, **paths)  # type: ignore[type-var]
    table = chunks.path.resolve() if isinstance(chunks.path, Path) else chunks.path
    with chunks, _cluster() as ray, _settings(ray):
        data = ray.data.from_items([{"skip": chunks.writer.parts}], override_num_blocks=1)
        data = data.map_batches(
            _parts, batch_size=1, num_cpus=0, fn_args=(table, chunks.size, chunks.keep, chunks.rows)
        )
        data = data.map_batches(
            _Worker,
            batch_size=1,
            fn_constructor_args=(job,),
            max_task_retries=_AGAIN,
            max_restarts=_RESTARTS,
            **_share(ray, workers, job.device),
        )
        try:
            for found in data.iter_batches(batch_size=1, prefetch_batches=0):
                told = json.loads(found["told"][0])
                _raise(told)
                bad = [BadCell(**cell) for cell in told["bad"]]
                chunks.append(_frame(found["frame"][0]), told["rows"], bad)
        except ray.exceptions.RayActorError as error:
            raise TrainingError(
                f"no worker has finished a part at or after row {chunks.rows}, in {_AGAIN + 1} attempts: they died, for want "
                "of memory, of a file that ends a decoder, or while they opened the model. A smaller --chunk or fewer "
                "--workers leave each part more memory; without --engine ray it is seen which it is. The same call "
                f"continues after the rows that are done. Ray says: {error}"
            ) from error
        finish(job, chunks)


def _parts(
    batch: Mapping[str, np.ndarray], path: Source, size: int, keep: Sequence[str], start: int
) -> Iterator[dict[str, Any]]:
    """The parts of a table that are not done yet, the first of which begins at row `start`."""
    (skip,) = batch["skip"].tolist()
    try:
        for first, rows, kept in parts(path, size, keep, skip, start):
            yield _row({"start": first, "rows": len(rows)}, rows, kept)
    except MultiadaptError as error:
        yield _row(_failed(error))


class _Worker:
    """One of the processes that hold the model."""

    def __init__(self, job: Job) -> None:
        self.stack = ExitStack()
        self.failed: dict[str, Any] | None = None
        try:
            self.work = self.stack.enter_context(job.opened())
        except MultiadaptError as error:
            self.failed = _failed(error)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        told = json.loads(batch["told"][0])
        if self.failed is not None or "failed" in told:
            return _row(self.failed or told)
        try:
            return self._part(told, _frame(batch["frame"][0]), _frame(batch["kept"][0]))
        except MultiadaptError as error:
            return _row(_failed(error))

    def _part(
        self, told: Mapping[str, Any], rows: pd.DataFrame, kept: pd.DataFrame
    ) -> dict[str, Any]:
        found = self.work(rows, told["start"])
        bad = [asdict(cell) for cell in found.bad]
        return _row({**told, "bad": bad}, beside(kept, found))


def _row(
    told: Mapping[str, Any], frame: pd.DataFrame | None = None, kept: pd.DataFrame | None = None
) -> dict[str, Any]:
    """A part on its way, as one row of Ray's: bytes, so that nothing looks at the types of cells."""
    words = np.array([json.dumps(told, default=plain)])
    return {"told": words, "frame": _held(frame), "kept": _held(kept)}


def _held(frame: pd.DataFrame | None) -> np.ndarray:
    held = np.empty(1, dtype=object)  # an array of bytes would lose the zeros at its end
    held[0] = b"" if frame is None else _bytes(frame)
    return held


def _failed(error: MultiadaptError) -> dict[str, Any]:
    """An error as a result, for Ray would wrap and log it, and lose what it was."""
    return {"failed": type(error).__name__, "text": str(error)}


def _raise(told: Mapping[str, Any]) -> None:
    if "failed" in told:
        raise getattr(errors, told["failed"])(told["text"])


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected to RAY_ADDRESS if that is set, else to a cluster of this machine alone."""
    try:
        import_module("ray.data")
        ray: Any = import_module("ray")
    except ImportError as error:
        raise ExtraError("--engine ray needs Ray: pip install multiadapt[ray]") from error
    if ray.is_initialized():
        yield ray
        return
    ray.init(include_dashboard=False, logging_level="warning")
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Ray Data's: the order is kept, and a part is not joined to the next, which another worker may do."""
    context = ray.data.DataContext.get_current()
    options = context.execution_options
    before = options.preserve_order, context.target_max_block_size
    options.preserve_order, context.target_max_block_size = True, 1
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)  # plans and times of every run
    try:
        with warnings.catch_warnings():
            # The one task that reads the table is one input to Ray, whatever it yields.
            warnings.filterwarnings("ignore", "The minimum number of concurrent actors")
            yield
    finally:
        options.preserve_order, context.target_max_block_size = before
        log.setLevel(level)


def _share(ray: Any, workers: int | None, device: str | None) -> dict[str, Any]:
    """How many workers, and what each takes of the cluster."""
    held = ray.cluster_resources()
    gpus = 0 if device == "cpu" else int(held.get("GPU", 0))
    own = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    size = workers or gpus or max(1, int(held.get("CPU", 1)))
    return {"compute": ray.data.ActorPoolStrategy(size=size), **own}


def _bytes(frame: pd.DataFrame) -> bytes:
    table = pa.Table.from_pandas(frame)
    kept = pa.BufferOutputStream()
    with ipc.new_stream(kept, table.schema) as stream:
        stream.write_table(table)
    return kept.getvalue().to_pybytes()


def _frame(held: bytes) -> pd.DataFrame:
    with ipc.open_stream(held) as stream:
        return stream.read_all().to_pandas(types_mapper=_lists)


def _lists(kind: pa.DataType) -> pd.ArrowDtype | None:
    """Vectors stay lists of one length."""
    return pd.ArrowDtype(kind) if pa.types.is_fixed_size_list(kind) else None
