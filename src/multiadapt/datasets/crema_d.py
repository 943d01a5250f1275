"""CREMA-D: 7,442 clips of 91 actors who say twelve sentences in six emotions.

Cao et al., "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE TAC 2014,
https://doi.org/10.1109/TAFFC.2014.2336244. Format: https://github.com/CheyneyComputerScience/CREMA-D (files
are kept there by git-lfs). The lists train.csv and test.csv, 6,698 and 744 clips of all actors, are those
of the audio-visual literature: https://github.com/GeWu-Lab/OGM-GE_CVPR2022 (`data/CREMAD`), and so are the
folders Image-01-FPS/CLIP of frames (`dataset/CramedDataset.py`).
"""

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd

from multiadapt.data.bad_cells import BadCell
from multiadapt.data.splits import holdout
from multiadapt.datasets._base import DataSet, held_kinds
from multiadapt.datasets._files import (
    OnError,
    checked,
    frames_in,
    home,
    in_one_split,
    lines,
    refuse,
)
from multiadapt.errors import SchemaError

__all__ = ["crema_d"]

LOG = logging.getLogger("multiadapt")
CLIP = re.compile(
    r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(XX?|LO|MD|HI)"
)
ADVICE = "Clone https://github.com/CheyneyComputerScience/CREMA-D with git-lfs"


def crema_d(
    folder: str | Path, *, seed: int = 0, frames: int = 3, on_error: OnError = "raise"
) -> DataSet:
    """Read AudioWAV/CLIP.wav with, where they are, VideoFlash/CLIP.flv and Image-01-FPS/CLIP/*.jpg.

    The emotion is the one that the actor was asked for. With train.csv and test.csv (and val.csv) in the
    folder, lines of CLIP,EMOTION, the splits are theirs: the same actors stand on both sides. Without
    them a fifth of the clips is "test" and a tenth "val", every actor's in one split, drawn with `seed`.
    Of a clip's pictures at most `frames` are read, evenly chosen.
    """
    root = home(folder, {"AudioWAV": "ACTOR_SENTENCE_EMOTION_LEVEL.wav"}, ADVICE)
    there = {path.stem for path in (root / "AudioWAV").glob("*.wav")}
    if not there:
        raise SchemaError(f"{root / 'AudioWAV'}: there is no .wav file. {ADVICE}")
    listed = (root / "train.csv").exists()
    splits = _listed(root, there) if listed else _drawn(sorted(there), root, seed)
    if listed and (left := len(there - splits.keys())):
        LOG.warning("%s: %d clips stand in no list and are left out", root / "AudioWAV", left)
    frame = checked(_table(root, splits, frames), ["audio", "video"], root, on_error)
    return DataSet(
        name="crema_d",
        frame=frame,
        root=root,
        label="emotion",
        column_types={
            **dict.fromkeys(("clip", "actor", "sentence", "video"), "ignore"),
            **held_kinds(frame, {"audio": "audio", "frames": "image"}),
        },
        expected={"train": 6_698, "test": 744} if listed else {"all": 7_442},
        source="https://github.com/CheyneyComputerScience/CREMA-D",
        citation='Cao et al., "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", 2014',
        licence="Open Database License, contents under the Database Contents License",
    ).counted()


def _named(names: list[str], root: Path) -> list[re.Match[str]]:
    parts = [(name, CLIP.fullmatch(name)) for name in names]
    bad = [
        BadCell(n, i, "clip", n, "not ACTOR_SENTENCE_EMOTION_LEVEL")
        for i, (n, part) in enumerate(parts)
        if part is None
    ]
    refuse(bad, len(names), root, "every clip must tell its emotion by its name")
    return [part for _, part in parts if part]


def _listed(root: Path, there: set[str]) -> dict[str, str]:
    """The splits of the lists. The one clip whose file lacks a letter has the file's name."""
    home(root, {"train.csv": "CLIP,EMOTION", "test.csv": "CLIP,EMOTION"}, "Add the other list")
    rows = {
        mark: [line.split(",") for line in lines(root / f"{mark}.csv")]
        for mark in ("train", "val", "test")
        if (root / f"{mark}.csv").exists()
    }
    for mark, found in rows.items():
        for row in found:
            part = CLIP.fullmatch(row[0].strip())
            if len(row) != 2 or part is None or part["emotion"] != row[1].strip():
                raise SchemaError(
                    f"{root / f'{mark}.csv'}: every line must be CLIP,EMOTION with the emotion of the "
                    f"clip's name, got {','.join(row)!r}: fetch the list again"
                )
    names = {mark: [row[0].strip() for row in found] for mark, found in rows.items()}
    return {_spelled(n, there): mark for n, mark in in_one_split(root, names).items()}


def _spelled(name: str, there: set[str]) -> str:
    """1040_ITH_SAD_XX of the lists is 1040_ITH_SAD_X.wav."""
    short = name.removesuffix("X")
    return short if name not in there and short in there else name


def _drawn(names: list[str], root: Path, seed: int) -> dict[str, str]:
    parts = _named(names, root)
    actors = np.array([part["actor"] for part in parts])
    emotions = np.array([part["emotion"] for part in parts])
    split = np.full(len(names), "train", dtype=object)
    rest, test = holdout(len(names), fraction=0.2, seed=seed, strata=emotions, groups=actors)
    split[test] = "test"
    _, val = holdout(
        len(rest), fraction=0.125, seed=seed, strata=emotions[rest], groups=actors[rest]
    )
    split[rest[val]] = "val"
    return dict(zip(names, split.tolist(), strict=True))


def _table(root: Path, splits: dict[str, str], frames: int) -> pd.DataFrame:
    parts = _named(list(splits), root)
    films = (root / "VideoFlash").is_dir()
    stills = [frames_in(root / "Image-01-FPS" / name, root, frames) for name in splits]
    return pd.DataFrame({
        "clip": list(splits),
        "actor": [part["actor"] for part in parts],
        "sentence": [part["sentence"] for part in parts],
        "audio": [f"AudioWAV/{name}.wav" for name in splits],
        "video": pd.Series([f"VideoFlash/{n}.flv" if films else None for n in splits], dtype=object),
        "frames": pd.Series(stills, dtype=object),
        "emotion": [part["emotion"] for part in parts],
        "split": list(splits.values()),
    })  # fmt: skip
