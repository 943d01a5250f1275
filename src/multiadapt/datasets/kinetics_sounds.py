"""Kinetics-Sounds: clips of the Kinetics classes that can be both seen and heard, 31 to 34 of them.

Arandjelovic and Zisserman, "Look, Listen and Learn", ICCV 2017, https://arxiv.org/abs/1705.08168. There is no
archive: everyone fetches what is left of the clips, so no numbers of rows are compared. Formats: the folders
and CSV lists of https://github.com/cvdfoundation/kinetics-dataset (label, youtube_id, time_start, time_end,
split); the lists `data/KineticSound/my_train.txt` and `my_test.txt` of
https://github.com/GeWu-Lab/OGM-GE_CVPR2022 (CLIP,SECONDS,NUMBER OF THE CLASS), and its folders of frames.
"""

import csv
import logging
import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

from multiadapt.data.bad_cells import BadCell
from multiadapt.datasets._base import DataSet, held_kinds
from multiadapt.datasets._files import OnError, entries, frames_in, home, lines, tell, why_unusable
from multiadapt.errors import SchemaError

__all__ = ["kinetics_sounds"]

LOG = logging.getLogger("multiadapt")
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
LISTS = ("{}.csv", "{}.txt", "my_{}.txt")
TREES = ("video", "audio", "visual")
"""Folders beside the clips' own that may hold the same clips as sounds or frames."""
FILMS = (".mp4", ".mkv", ".webm", ".avi")
STEM = re.compile(r"(.{11})_(\d+)(?:_\d+)?")
ADVICE = (
    "Make a folder of the clips of each class, in train/ and test/ or beside train.txt and test.txt"
)

Clip = dict[str, str]
"""The paths of a clip's film, sound and frames, and its class."""


def kinetics_sounds(folder: str | Path, *, frames: int = 3, on_error: OnError = "raise") -> DataSet:
    """Read clips in folders by class: SPLIT/CLASS/CLIP.mp4, or CLASS/CLIP.mp4 with a list for each split.

    A split is train, val or test. Beside CLIP.mp4 or in place of it CLIP.wav is its sound and the pictures
    in CLIP/ are its frames; both may lie under audio/ and visual/ instead, in the same folders. The class
    is the folder's name. A list is train.csv as Kinetics has it, or train.txt (also my_train.txt) with
    the clip at the start of each line, and its class's number at the end or not. Of a clip's pictures at
    most `frames` are read, evenly chosen. With on_error="missing" a listed clip that is not there is no
    row of the table, and told.
    """
    root = home(folder, {}, ADVICE)
    chosen: dict[str, dict[str, Clip]] = defaultdict(dict)
    for name, mark in SPLITS.items():
        chosen[mark].update(_clips(root, name, frames) if _has(root, name) else {})
    if not any(_has(root, name) for name in SPLITS):
        chosen = _listed(root, _clips(root, "", frames), on_error)
    _check_apart(root, chosen)
    rows = [(clip, mark) for mark, found in chosen.items() for clip in found.values()]
    _check_whole(root, [clip for clip, _ in rows], on_error)
    rows = [(clip, mark) for clip, mark in rows if len(clip) > 1]
    if not rows:
        held = sorted(p.name for p in root.iterdir())[:20]
        raise SchemaError(f"{root}: no clip is there, it holds {held}. {ADVICE}")
    _tell_films(root, rows)
    columns = ("class", "video", "audio", "frames")
    cells = {c: pd.Series([clip.get(c) for clip, _ in rows], dtype=object) for c in columns}
    frame = pd.DataFrame({**cells, "split": [mark for _, mark in rows]})
    kinds = {"video": "ignore", "audio": "audio", "frames": "image"}
    return DataSet(
        name="kinetics_sounds",
        frame=frame,
        root=root,
        label="class",
        column_types=held_kinds(frame, kinds),
        source="https://github.com/cvdfoundation/kinetics-dataset",
        citation='Arandjelovic and Zisserman, "Look, Listen and Learn", ICCV 2017',
        licence="annotations CC BY 4.0 (Kinetics); the clips are their YouTube owners'",
    )


def _has(root: Path, split: str) -> bool:
    return any((root / tree / split).is_dir() for tree in ("", *TREES))


def _clips(root: Path, split: str, frames: int) -> dict[str, Clip]:
    """The clips of a split's class folders; "" is a copy without folders of splits."""
    found: dict[str, Clip] = defaultdict(dict)
    for tree in ("", *TREES):
        base = root / tree / split
        folders = sorted(p for p in base.iterdir() if p.is_dir()) if base.is_dir() else []
        for kind in folders:
            if tree or split or kind.name not in TREES:
                for key, clip in _of_class(kind, root, frames).items():
                    held = found[f"{kind.name}/{key}"]
                    held.update(clip)
    return dict(found)


def _of_class(folder: Path, root: Path, frames: int) -> dict[str, Clip]:
    found: dict[str, Clip] = defaultdict(lambda: {"class": folder.name})
    for column, suffixes in (("video", FILMS), ("audio", (".wav",))):
        for path in entries(folder, suffixes):
            found[_key(path.stem)][column] = path.relative_to(root).as_posix()
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        stills = frames_in(path, root, frames)
        if stills is not None:
            found[_key(path.name)]["frames"] = stills
    return dict(found)


def _key(stem: str) -> str:
    """ID_000037_000047 and ID_37 are one clip."""
    parts = STEM.fullmatch(stem)
    return f"{parts[1]}_{int(parts[2])}" if parts else stem


def _listed(root: Path, there: dict[str, Clip], on_error: OnError) -> dict[str, dict[str, Clip]]:
    lists = {
        mark: path
        for mark in ("train", "val", "test")
        for path in (root / name.format(mark) for name in LISTS)
        if path.exists()
    }
    if there and not {"train", "test"} <= lists.keys():
        raise SchemaError(
            f"{root}: class folders need a list for train and one for test, got {sorted(lists)}. {ADVICE}"
        )
    by_key = {key.split("/", 1)[1]: clip for key, clip in there.items()}
    if len(by_key) != len(there):
        raise SchemaError(
            f"{root}: a clip must lie in one class folder; {len(there) - len(by_key)} lie in two"
        )
    chosen: dict[str, dict[str, Clip]] = {mark: {} for mark in lists}
    numbers: dict[str, set[str]] = defaultdict(set)
    bad: list[BadCell] = []
    listed = [(mark, *line) for mark, path in lists.items() for line in _lines(path)]
    for i, (mark, name, number) in enumerate(listed):
        clip = by_key.get(_key(name))
        if clip is None:
            bad.append(
                BadCell(name, i, "clip", name, f"listed in {lists[mark].name}, in no class folder")
            )
            continue
        chosen[mark][_key(name)] = clip
        numbers[number].add(clip["class"])
    if bad:
        tell(bad, len(listed), root, on_error)
    _check_numbers(root, numbers)
    return chosen


def _lines(path: Path) -> list[tuple[str, str]]:
    """The clip of each line and the number of its class, or ""."""
    told = lines(path)
    if told and "youtube_id" in told[0]:
        rows = list(csv.DictReader(told))
        return [(f"{r['youtube_id']}_{r['time_start']}", "") for r in rows]
    parts = [re.split(r"[,\s]+", line.strip()) for line in told]
    return [(Path(p[0]).name.removesuffix(".mp4"), p[-1] if p[-1].isdigit() else "") for p in parts]


def _check_apart(root: Path, chosen: dict[str, dict[str, Clip]]) -> None:
    marks: dict[str, set[str]] = defaultdict(set)
    for mark, found in chosen.items():
        for key in found:
            marks[key.rpartition("/")[2]].add(mark)
    both = {key: sorted(held) for key, held in marks.items() if len(held) > 1}
    if both:
        example = next(iter(both.items()))
        raise SchemaError(
            f"{root}: a clip must stand in one split; {len(both)} stand in several, for example {example}: "
            "take them out of the training rows"
        )


def _check_numbers(root: Path, numbers: dict[str, set[str]]) -> None:
    wrong = {n: sorted(kinds) for n, kinds in numbers.items() if n and len(kinds) > 1}
    if wrong:
        raise SchemaError(
            f"{root}: clips with one class's number must lie in one folder; not so {wrong}: the lists are "
            "of other folders, or clips lie in the wrong one"
        )


def _check_whole(root: Path, clips: list[Clip], on_error: OnError) -> None:
    """Every film and sound is a whole file; else it is an error, or taken out of its clip."""
    bad = [
        BadCell(i, i, column, clip[column], why)
        for i, clip in enumerate(clips)
        for column in ("video", "audio")
        if column in clip and (why := why_unusable(root / clip[column]))
    ]
    if bad:
        tell(bad, sum(len(clip) - 1 for clip in clips), root, on_error)
        for cell in bad:
            del clips[cell.position][cell.column]


def _tell_films(root: Path, rows: list[tuple[Clip, str]]) -> None:
    if not any("audio" in clip or "frames" in clip for clip, _ in rows):
        LOG.warning(
            "%s: there are clips alone, which this version does not read. For each of them: `ffmpeg -i "
            "CLASS/CLIP.mp4 -ac 1 -ar 16000 CLASS/CLIP.wav -vf fps=1 CLASS/CLIP/%%03d.jpg`",
            root,
        )
