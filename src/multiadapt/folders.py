"""What the folders of all saved models have in common: how they are written, and how they are doubted."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from multiadapt import __version__, processes
from multiadapt.encoders._base import Origin
from multiadapt.errors import ArtifactError, EncoderError, SpecError
from multiadapt.types import Column

__all__ = [
    "GOLDEN_SEED",
    "TOLERANCE",
    "check_format",
    "check_golden",
    "check_kind",
    "check_place",
    "check_weights",
    "damaged",
    "digest",
    "golden_cells",
    "holding",
    "movable",
    "network",
    "read_config",
    "read_tensors",
    "write_config",
    "write_tensors",
    "write_whole",
]

_FILES = {"README.md", "adapter.safetensors", "config.json", "context.safetensors"}
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""How far a golden number may be from the saved one, relative to the largest, or to 1, by precision."""
GOLDEN_SEED = 20_011


def write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """A folder that `write` makes, in place of an earlier artifact; other folders are refused.

    Of several processes the main one writes; the others do nothing.
    """
    if not processes.main():
        return
    check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as part:
        write(Path(part) / "new")
        old = Path(part) / "old"
        if folder.exists():
            folder.rename(old)  # a kill between the two leaves both in `part`
        try:
            (Path(part) / "new").rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise


def check_place(folder: Path) -> None:
    """ArtifactError where something that is no artifact of ours would be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    others = (
        sorted({f.name for f in folder.iterdir()} - _FILES) if folder.is_dir() else [folder.name]
    )
    if not others and {"format", "multiadapt"} <= set(_json(folder / "config.json")):
        return
    raise ArtifactError(
        f"{folder} holds other files {others or ['config.json']}; name a new folder or an earlier artifact"
    )


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; ArtifactError where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} must hold a JSON object, got {type(found).__name__}")
    return found


_KINDS = {
    "retriever": (
        "a retriever",
        "CrossModalRetriever.load, or in a shell multiadapt evaluate, embed, index and search",
    ),
    "answering": (
        "an answerer of questions",
        "QuestionAnswerer.load, or in a shell multiadapt evaluate and answer",
    ),
    "captioning": ("a captioner", "Captioner.load, or in a shell multiadapt evaluate and caption"),
    None: ("a model for the rows of tables", "multiadapt.load, or in a shell multiadapt predict"),
}
"""What a folder holds by the kind in its config.json, and what opens it."""


def holding(kind: str | None) -> str:
    """What a folder of this kind holds, in words."""
    return _KINDS[kind][0]


def check_kind(folder: Path, config: Mapping[str, Any], kind: str | None) -> None:
    """ArtifactError: the folder holds a model of another kind; None is one for the rows of tables."""
    held = config.get("kind")
    if held == kind:
        return
    if held not in _KINDS:
        raise ArtifactError(
            f"{folder} holds a model of kind {held!r}, which this version ({__version__}) does not know"
        )
    what, instead = _KINDS[held]
    raise ArtifactError(f"{folder} holds {what}, not {holding(kind)}; open it with {instead}")


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` holds. ArtifactError: there is none, or it is no JSON object."""
    if not (folder / "config.json").exists():
        found = "it has no config.json" if folder.is_dir() else "there is no such folder"
        raise ArtifactError(
            f"{folder} is no saved model: {found}; name a folder that save(), or fit --out, wrote"
        )
    return _json(folder / "config.json")


def digest(folder: Path) -> str:
    """A hash of all that a saved model says and holds; its card apart."""
    read_config(folder)
    total = hashlib.sha256()
    for name in sorted(_FILES - {"README.md"}):
        if (folder / name).exists():
            total.update(name.encode())
            with (folder / name).open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def check_format(folder: Path, config: Mapping[str, Any], what: str, known: int) -> None:
    """ArtifactError: `what` the folder holds is of another format than this version reads."""
    if config.get("format") != known:
        raise ArtifactError(
            f"{folder} holds {what} of format {config.get('format')!r}; this version ({__version__}) "
            f"reads format {known}"
        )


def write_config(config: Mapping[str, Any], folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def damaged(folder: Path) -> Iterator[None]:
    """What a file that somebody changed leads to, said as that."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, SpecError) as error:
        raise ArtifactError(
            f"{folder / 'config.json'} is damaged: {error!r}; restore it from a copy, or fit again"
        ) from error


@contextlib.contextmanager
def movable(folder: Path, what: str, place: str) -> Iterator[None]:
    """A frozen network that cannot be opened may have moved: `place` shows how to name where it is."""
    try:
        yield
    except EncoderError as error:
        raise ArtifactError(
            f"{what} of {folder} cannot be opened: {error}. Where it has moved, name its place: {place}"
        ) from error


@contextlib.contextmanager
def network(folder: Path, *, moved: bool, place: str = "backbone=...") -> Iterator[None]:
    """Opening the network of a saved model; `moved`: the user has named its place. `place`: what names it.

    Then a SpecError tells what is wrong with that, and not that the folder is damaged.
    """
    files = contextlib.nullcontext() if moved else damaged(folder)
    with files, movable(folder, "the network", f"load(folder, {place})"):
        yield


def check_weights(whose: str, saved: Mapping[str, Any], now: Origin, place: str) -> None:
    """ArtifactError: frozen weights are others than they were in training; `whose` is " of 'photo'", or ""."""
    was = Origin(**saved)
    if was.sha256 != now.sha256:
        raise ArtifactError(
            f"the frozen weights{whose} must be those it was trained on: {was.source!r} had "
            f"hash {was.sha256[:12]}, {now.source!r} has {now.sha256[:12]}; name the right ones "
            f"with {place}"
        )


def check_golden(folder: Path, what: str, saved: Any, got: np.ndarray, tolerance: float) -> None:
    """ArtifactError: golden numbers are not the saved ones."""
    expected = np.asarray(saved, dtype=np.float64)
    limit = tolerance * max(1.0, float(np.abs(expected).max(initial=0)))
    gap = float(np.abs(expected - got).max(initial=0))  # nan stays nan, and is refused
    if not gap <= limit:
        raise ArtifactError(
            f"{folder} does not reproduce its golden rows: {what} differ by {gap:.3g}, allowed is "
            f"{limit:.3g}; the files were altered or a library changed what the encoders compute"
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise ArtifactError(f"{path.parent} is incomplete: {path.name} is missing")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    flat = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    path.write_bytes(to_bytes(flat))  # `save_file` would let nobody else read it


def golden_cells(
    column: Column, rows: int, rng: np.random.Generator, wide: Mapping[str, int]
) -> pd.Series:
    """Cells drawn for a column; `wide` tells the length of vectors by column."""
    words = (
        "red",
        "Blue",
        "OLD",
        "élan",
        "42.5",
        "£,",
        "дом",
        "猫",
        "🦊",
        "x" * 4000,
    )  # all tokenizers differ
    values: list[Any] = {
        "numeric": lambda: list(rng.normal(size=rows)),
        "categorical": lambda: [f"golden {i}" for i in rng.integers(0, 3, rows)],
        "datetime": lambda: [f"20{i:02d}-0{i % 9 + 1}-11" for i in rng.integers(10, 30, rows)],
        "image": lambda: list(rng.integers(0, 256, (rows, 48, 64, 3), np.uint8)),
        "text": lambda: [" ".join(rng.permutation(words)[: 9 + i]) for i in range(rows)],
        "audio": lambda: [(rng.uniform(-0.5, 0.5, 8_000), 16_000) for _ in range(rows)],
        "video": lambda: list(rng.integers(0, 256, (rows, 3, 48, 64, 3), np.uint8)),
        "vector": lambda: list(rng.normal(size=(rows, wide.get(column.name, 1)))),
    }.get(column.kind, lambda: [None] * rows)()
    return pd.Series(values, dtype=object)
