"""MSR-VTT: 10,000 clips of 10 to 30 seconds, twenty captions each.

Xu et al., "MSR-VTT: A Large Video Description Dataset for Bridging Video and Language", CVPR 2016.
Format: its own readme (videodatainfo.json), and for the split 1k-A of Yu et al., "A Joint Sequence
Fusion Model for Video Question Answering and Retrieval", https://arxiv.org/abs/1808.02559, the list
MSRVTT_JSFUSION_test.csv of https://github.com/antoine77340/howto100m as
https://github.com/ArrowLuo/CLIP4Clip distributes it.
"""

import csv
from pathlib import Path

import pandas as pd

from multiadapt.datasets._base import DataSet
from multiadapt.datasets._files import OnError, home, lines, opened_json
from multiadapt.datasets._items import film_of, listed, one_row_a_text
from multiadapt.errors import SchemaError, SpecError

__all__ = ["msr_vtt"]

LISTS = ("MSRVTT_data.json", "train_val_videodatainfo.json", "test_videodatainfo.json")
TEST = "MSRVTT_JSFUSION_test.csv"
MARKS = {"train": "train", "validate": "val", "test": "test"}
ROWS = {
    "1k-A": {"train": 180_000, "test": 1_000},
    "full": {"train": 130_260, "val": 9_940, "test": 59_800},
}
ADVICE = (
    "Give the folder that holds MSRVTT_data.json (or train_val_videodatainfo.json and "
    "test_videodatainfo.json), and the clips in videos/"
)


def msr_vtt(folder: str | Path, *, split: str = "1k-A", on_error: OnError = "raise") -> DataSet:
    """Read the captions and clips: a row a caption, with the clip in `video`.

    With "1k-A" the test rows are the 1,000 of MSRVTT_JSFUSION_test.csv, one caption a clip, and all
    captions of the other clips are training rows. With "full" splits are those of the list.
    """
    if split not in ROWS:
        raise SpecError(f"split must be one of {', '.join(ROWS)}, got {split!r}")
    needed = {TEST: "key, vid_key, video_id, sentence"} if split == "1k-A" else {}
    root = home(folder, needed, ADVICE)
    marks, captions = _told(root)
    if split == "1k-A":
        test = _test(root / TEST, captions)
        marks = dict.fromkeys(captions.keys() - test.keys(), "train") | dict.fromkeys(test, "test")
        captions |= test
    rows = [(name, told, marks[name]) for name, told in captions.items()]
    items = pd.DataFrame(rows, columns=["video_id", "caption", "split"])
    films = film_of(root, items["video_id"])
    items["video"] = [films[name] for name in items["video_id"]]
    frame = one_row_a_text(items, "caption", ["video"], root, on_error)
    return DataSet(
        name=f"msr_vtt {split}",
        frame=pd.DataFrame(frame, columns=["video_id", "video", "caption", "split"]),
        root=root,
        label="caption",
        column_types={"video_id": "ignore", "video": "video", "caption": "text"},
        expected=ROWS[split],
        source="https://github.com/ArrowLuo/CLIP4Clip",
        citation='Xu et al., "MSR-VTT: A Large Video Description Dataset", CVPR 2016',
        licence="none stated with the captions; the clips are their YouTube owners'",
    ).counted()


def _told(root: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The split and the captions of each clip."""
    paths = [root / name for name in LISTS if (root / name).is_file()]
    if not paths:
        held = sorted(p.name for p in root.iterdir())[:20]
        raise SchemaError(f"{root}: a copy must hold {LISTS[0]}, it holds {held}. {ADVICE}")
    marks: dict[str, str] = {}
    captions: dict[str, list[str]] = {}
    for path in paths[:1] if paths[0].name == LISTS[0] else paths:
        held = opened_json(path)
        for clip in listed(held, path, ("video_id", "split"), "videos"):
            if clip["split"] not in MARKS:
                raise SchemaError(
                    f"{path}: splits must be {', '.join(MARKS)}, got {clip['split']!r}"
                )
            marks[str(clip["video_id"])] = MARKS[clip["split"]]
            captions[str(clip["video_id"])] = []
        for told in listed(held, path, ("video_id", "caption"), "sentences"):
            if told["video_id"] not in captions:
                raise SchemaError(f"{path}: a caption is of {told['video_id']!r}, which is no clip")
            captions[told["video_id"]].append(told["caption"])
    return marks, captions


def _test(path: Path, captions: dict[str, list[str]]) -> dict[str, list[str]]:
    """The caption of each test clip."""
    rows = list(csv.DictReader(lines(path)))
    if not rows or not {"video_id", "sentence"} <= rows[0].keys():
        raise SchemaError(
            f"{path}: it must have the columns video_id and sentence, got {list(rows[0]) if rows else []}"
        )
    unknown = [row["video_id"] for row in rows if row["video_id"] not in captions]
    if unknown:
        raise SchemaError(
            f"{path}: {len(unknown)} of {len(rows)} clips stand in no list of captions, such as "
            f"{unknown[0]!r}"
        )
    return {row["video_id"]: [row["sentence"]] for row in rows}
