"""VQA v2: 1.1 million questions about COCO's pictures, ten people's answers to each.

Goyal et al., "Making the V in VQA Matter", CVPR 2017, https://arxiv.org/abs/1612.00837. Format:
https://visualqa.org/download.html.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from multiadapt.datasets._base import DataSet
from multiadapt.datasets._files import OnError, checked, home, opened_json
from multiadapt.datasets._items import listed
from multiadapt.errors import SchemaError

__all__ = ["vqa_v2"]

PARTS = {"train2014": "train", "val2014": "val", "test2015": "test"}
ROWS = {"train": 443_757, "val": 214_354, "test": 447_793}
QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANSWERS = "v2_mscoco_{}_annotations.json"
ADVICE = (
    "Unpack the questions and annotations of https://visualqa.org/download.html there, beside COCO's "
    "train2014/, val2014/ and test2015/"
)


def vqa_v2(folder: str | Path, *, on_error: OnError = "raise") -> DataSet:
    """Read the lists of questions and answers that are there, of train2014, val2014 and test2015: a row a
    question.

    `answer` is the most frequent answer and `answers` the list of all ten; the answers of test2015 are
    not published, so there both are missing. Scores are measured on the validation rows.
    """
    root = home(folder, {}, ADVICE)
    present = {
        part: mark for part, mark in PARTS.items() if (root / QUESTIONS.format(part)).exists()
    }
    if not present:
        held = sorted(p.name for p in root.iterdir())[:20]
        raise SchemaError(
            f"{root}: a copy must hold {QUESTIONS.format('train2014')} or that of another part, it holds "
            f"{held}. {ADVICE}"
        )
    frame = pd.concat([_part(root, p, m) for p, m in present.items()], ignore_index=True)
    pictures = pd.DataFrame({"image": frame["image"].unique()})
    kept = checked(pictures, ["image"], root, on_error)["image"].tolist()
    frame["image"] = frame["image"].where(frame["image"].isin(kept), None)
    return DataSet(
        name="vqa_v2",
        frame=frame,
        root=root,
        label="answer",
        column_types={
            "question_id": "ignore",
            "image": "image",
            "question": "text",
            "answers": "ignore",
            "question_type": "ignore",
            "answer_type": "ignore",
        },
        expected={mark: ROWS[mark] for mark in present.values()},
        source="https://visualqa.org/download.html",
        citation='Goyal et al., "Making the V in VQA Matter", CVPR 2017',
        licence="annotations CC BY 4.0; the pictures are their Flickr owners'",
    ).counted()


def _part(root: Path, part: str, mark: str) -> pd.DataFrame:
    path = root / QUESTIONS.format(part)
    asked = listed(opened_json(path), path, ("question_id", "image_id", "question"), "questions")
    told = {} if mark == "test" else _answers(root / ANSWERS.format(part))
    lacking = [q["question_id"] for q in asked if mark != "test" and q["question_id"] not in told]
    if lacking:
        raise SchemaError(
            f"{root / ANSWERS.format(part)}: every question needs its answers; {len(lacking)} of "
            f"{len(asked)} have none, such as {lacking[0]}: fetch both lists again"
        )
    rows = [_row(q, told.get(q["question_id"], {}), part) for q in asked]
    return pd.DataFrame(rows).assign(split=mark)


def _row(question: dict[str, Any], told: dict[str, Any], part: str) -> dict[str, Any]:
    return {
        "question_id": question["question_id"],
        "image": f"{part}/COCO_{part}_{int(question['image_id']):012d}.jpg",
        "question": question["question"],
        "answer": told.get("multiple_choice_answer"),
        "answers": [a["answer"] for a in told["answers"]] if told else None,
        "question_type": told.get("question_type"),
        "answer_type": told.get("answer_type"),
    }


def _answers(path: Path) -> dict[Any, dict[str, Any]]:
    fields = ("question_id", "answers", "multiple_choice_answer")
    found = listed(opened_json(path), path, fields, "annotations")
    return {entry["question_id"]: entry for entry in found}
