"""MSRVTT-QA: 243,680 questions about the clips of MSR-VTT, each with one word as its answer.

Xu et al., "Video Question Answering via Gradually Refined Attention over Appearance and Motion", ACM
Multimedia 2017. Format: train_qa.json, val_qa.json and test_qa.json of
https://github.com/xudejing/video-question-answering.
"""

from pathlib import Path

import pandas as pd

from multiadapt.datasets._base import DataSet
from multiadapt.datasets._files import OnError, checked, home, opened_json
from multiadapt.datasets._items import film_of, listed

__all__ = ["msrvtt_qa"]

NEEDED = {
    "train_qa.json": "a list of id, video_id, question, answer",
    "val_qa.json": "the same",
    "test_qa.json": "the same",
}
COLUMNS = ["question_id", "video_id", "video", "question", "answer", "split"]


def msrvtt_qa(folder: str | Path, *, on_error: OnError = "raise") -> DataSet:
    """Read the three lists: a row a question, with MSR-VTT's clip in `video`."""
    root = home(folder, NEEDED, "Give the folder that holds them, and the clips in videos/")
    parts: list[pd.DataFrame] = []
    for mark in ("train", "val", "test"):
        path = root / f"{mark}_qa.json"
        found = listed(opened_json(path), path, ("id", "video_id", "question", "answer"))
        rows = [(e["id"], f"video{e['video_id']}", e["question"], e["answer"]) for e in found]
        columns = ["question_id", "video_id", "question", "answer"]
        parts.append(pd.DataFrame(rows, columns=columns).assign(split=mark))
    frame = pd.concat(parts, ignore_index=True)
    films = film_of(root, frame["video_id"].unique())
    clips = pd.DataFrame({"video": list(films.values())}, index=list(films))
    clips = checked(clips, ["video"], root, on_error)
    frame["video"] = clips["video"].reindex(frame["video_id"]).to_numpy()
    return DataSet(
        name="msrvtt_qa",
        frame=pd.DataFrame(frame, columns=COLUMNS),
        root=root,
        label="answer",
        column_types={
            "question_id": "ignore",
            "video_id": "ignore",
            "video": "video",
            "question": "text",
        },
        expected={"train": 158_581, "val": 12_278, "test": 72_821},
        source="https://github.com/xudejing/video-question-answering",
        citation='Xu et al., "Video Question Answering via Gradually Refined Attention", MM 2017',
        licence="none stated with the questions; the clips are their YouTube owners'",
    ).counted()
