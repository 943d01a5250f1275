"""DiDeMo: clips of up to 30 seconds, found by a paragraph: all sentences about a clip, one after the other.

Hendricks et al., "Localizing Moments in Video with Natural Language", ICCV 2017,
https://arxiv.org/abs/1708.01641. Format: `data/` of https://github.com/LisaAnne/LocalizingMoments; the
paragraphs are those of Zhang et al., "Cross-Modal and Hierarchical Modeling of Video and Text", ECCV 2018,
with the sentences in the order of the list, as published retrieval code has them.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from multiadapt.datasets._base import DataSet
from multiadapt.datasets._files import OnError, home, in_one_split, opened_json
from multiadapt.datasets._items import film_of, listed, one_row_a_text

__all__ = ["didemo"]

NEEDED = {
    "train_data.json": "a list of video, description",
    "val_data.json": "the same",
    "test_data.json": "the same",
}


def didemo(folder: str | Path, *, on_error: OnError = "raise") -> DataSet:
    """Read the three lists: a row a clip, with its paragraph in `caption`."""
    root = home(folder, NEEDED, "Give the folder that holds them, and the clips in videos/")
    told: dict[str, dict[str, list[str]]] = {"train": {}, "val": {}, "test": {}}
    for mark, clips in told.items():
        path = root / f"{mark}_data.json"
        for entry in listed(opened_json(path), path, ("video", "description")):
            clips.setdefault(Path(str(entry["video"])).stem, []).append(entry["description"])
    marks = in_one_split(root, told)
    items = pd.DataFrame({"video_id": list(marks), "split": list(marks.values())})
    items["caption"] = [[_joined(told[mark][name])] for name, mark in marks.items()]
    films = film_of(root, marks)
    items["video"] = [films[name] for name in marks]
    frame = one_row_a_text(items, "caption", ["video"], root, on_error)
    return DataSet(
        name="didemo",
        frame=pd.DataFrame(frame, columns=["video_id", "video", "caption", "split"]),
        root=root,
        label="caption",
        column_types={"video_id": "ignore", "video": "video", "caption": "text"},
        expected={"train": 8_395, "val": 1_065, "test": 1_004},
        source="https://github.com/LisaAnne/LocalizingMoments",
        citation='Hendricks et al., "Localizing Moments in Video with Natural Language", ICCV 2017',
        licence="BSD 2-clause for the sentences; the clips are their Flickr owners'",
    ).counted()


def _joined(sentences: Sequence[object]) -> str:
    """Blank where one of them is no text, which is refused."""
    texts = [s.strip() for s in sentences if isinstance(s, str)]
    return " ".join(texts) if len(texts) == len(sentences) and all(texts) else ""
