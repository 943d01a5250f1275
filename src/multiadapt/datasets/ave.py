"""AVE: 4,143 events of 28 categories in ten-second clips, each both seen and heard.

Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018,
https://arxiv.org/abs/1803.08842. Format: AVE_Dataset.zip of https://github.com/YapengTian/AVE-ECCV18, its
ReadMe.txt, and `data/Annotations.txt` there. One clip may hold several events.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from multiadapt.data.splits import LeakWarning
from multiadapt.datasets._base import DataSet, held_kinds
from multiadapt.datasets._files import OnError, checked, frames_in, home, lines
from multiadapt.errors import SchemaError

__all__ = ["ave"]

LOG = logging.getLogger("multiadapt")
NEEDED = {
    "trainSet.txt": "Category&VideoID&Quality&StartTime&EndTime",
    "valSet.txt": "the same",
    "testSet.txt": "the same",
    "AVE": "VideoID.mp4",
}
HEADER = "Category&"
SOUNDS = ("audio", "AVE")
"""Folders that the sound of a clip may lie in."""


def ave(folder: str | Path, *, frames: int = 3, on_error: OnError = "raise") -> DataSet:
    """Read trainSet.txt, valSet.txt and testSet.txt, whose lines Annotations.txt repeats: a row an event.

    The distribution holds clips alone, and this version reads no film. The sound is in the column
    `audio` where audio/ID.wav or AVE/ID.wav exists, and pictures are in `frames` where visual/ID/*.jpg
    exist, at most that many, evenly chosen; both are made of the clips by ffmpeg. `start` and `end` are
    the seconds of the event. A clip with events in two splits is told in a LeakWarning.
    """
    root = home(folder, NEEDED, "Unpack AVE_Dataset.zip and give its folder")
    rows = [
        (*event, mark)
        for mark in ("train", "val", "test")
        for event in _events(root / f"{mark}Set.txt")
    ]
    frame = pd.DataFrame(rows, columns=["category", "video_id", "start", "end", "split"])
    _warn_shared(frame)
    ids = frame["video_id"].tolist()
    frame["video"] = [f"AVE/{name}.mp4" for name in ids]
    frame["audio"] = pd.Series([_sound(root, name) for name in ids], dtype=object)
    stills = [frames_in(root / "visual" / name, root, frames) for name in ids]
    frame["frames"] = pd.Series(stills, dtype=object)
    kinds = held_kinds(frame, {"audio": "audio", "frames": "image"})
    if set(kinds.values()) == {"ignore"}:
        LOG.warning(
            "%s: there are clips alone, which this version does not read. For each of them: "
            "`ffmpeg -i AVE/ID.mp4 -ac 1 -ar 16000 audio/ID.wav -vf fps=1 visual/ID/%%03d.jpg`",
            root,
        )
    return DataSet(
        name="ave",
        frame=checked(frame, ["video", "audio"], root, on_error),
        root=root,
        label="category",
        column_types=dict.fromkeys(("video_id", "start", "end", "video"), "ignore") | kinds,
        expected={"train": 3_339, "val": 402, "test": 402},
        source="https://github.com/YapengTian/AVE-ECCV18",
        citation='Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018',
        licence="none stated with the archive; the clips are their YouTube owners'",
    ).counted()


def _events(path: Path) -> list[tuple[str, str, float, float]]:
    found: list[tuple[str, str, float, float]] = []
    for line in lines(path):
        if line.startswith(HEADER):
            continue
        try:
            category, name, _, start, end = (part.strip() for part in line.split("&"))
            found.append((category, name, float(start), float(end)))
        except ValueError as error:
            raise SchemaError(
                f"{path}: every line must be {NEEDED['trainSet.txt']}, got {line!r}: fetch it again"
            ) from error
    return found


def _sound(root: Path, name: str) -> str | None:
    places = (f"{folder}/{name}.wav" for folder in SOUNDS)
    return next((place for place in places if (root / place).is_file()), None)


def _warn_shared(frame: pd.DataFrame) -> None:
    splits: Any = frame.groupby("video_id")["split"].nunique()
    shared = splits.index[splits > 1].tolist()
    if shared:
        warnings.warn(
            f"{len(shared)} clips have events in more than one split, for example {shared[0]!r}: scores "
            "will be too good",
            LeakWarning,
            stacklevel=3,
        )
