"""Made-up copies of data sets of captions and questions, in the formats that they are distributed in.

    python examples/caption_copies.py FOLDER

What `multiadapt.datasets` reads is shown on them, and tested. Nothing in them is real.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from copies import film, picture, put

__all__ = [
    "make_blip_lists",
    "make_caption_copies",
    "make_coco",
    "make_didemo",
    "make_flickr",
    "make_msr_vtt",
    "make_msrvtt_qa",
    "make_vqa",
]

SPLITS = ("train", "train", "restval", "val", "test", "test")


def make_caption_copies(folder: str | Path) -> None:
    folder = Path(folder)
    make_coco(folder / "coco")
    make_flickr(folder / "flickr30k")
    make_vqa(folder / "vqa")
    make_msr_vtt(folder / "msrvtt")
    make_msrvtt_qa(folder / "msrvtt")
    make_didemo(folder / "didemo")


def sentences(image: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "tokens": ["dog", str(image), "runs"],
            "raw": f"Dog {image} runs, told for the {i + 1}. time.",
            "imgid": image,
            "sentid": 5 * image + i,
        }
        for i in range(count)
    ]


def make_coco(folder: Path) -> Path:
    """dataset_coco.json, train2014/ and val2014/."""
    images: list[dict[str, Any]] = []
    for i, split in enumerate(SPLITS):
        part = "train2014" if split == "train" else "val2014"
        name = f"COCO_{part}_{i:012d}.jpg"
        picture(folder / part / name, 30 * i)
        told = sentences(i, 6 if i == 1 else 5)
        images.append({
            "filepath": part,
            "sentids": [s["sentid"] for s in told],
            "filename": name,
            "imgid": i,
            "split": split,
            "sentences": told,
            "cocoid": i,
        })  # fmt: skip
    put(folder / "dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))
    return folder


def make_flickr(folder: Path, name: str = "flickr30k") -> Path:
    """dataset_NAME.json, and images/."""
    images: list[dict[str, Any]] = []
    for i, split in enumerate(("train", "train", "val", "test")):
        picture(folder / f"images/{1000 + i}.jpg", 30 * i)
        told = sentences(i, 5)
        images.append({
            "sentids": [s["sentid"] for s in told],
            "imgid": i,
            "sentences": told,
            "split": split,
            "filename": f"{1000 + i}.jpg",
        })  # fmt: skip
    put(folder / f"dataset_{name}.json", json.dumps({"images": images, "dataset": name}))
    return folder


def make_blip_lists(folder: Path) -> Path:
    """The same captions as `make_coco`, in the three lists that BLIP reads."""
    make_coco(folder)
    listed = json.loads((folder / "dataset_coco.json").read_text())["images"]
    (folder / "dataset_coco.json").unlink()
    lists: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for entry in listed:
        image = f"{entry['filepath']}/{entry['filename']}"
        told = [s["raw"] for s in entry["sentences"]]
        if entry["split"] in ("train", "restval"):
            name = f"coco_{entry['cocoid']}"
            lists["train"] += [{"caption": t, "image": image, "image_id": name} for t in told]
        else:
            lists[entry["split"]].append({"image": image, "caption": told})
    for mark, entries in lists.items():
        put(folder / f"annotation/coco_karpathy_{mark}.json", json.dumps(entries))
    return folder


def make_vqa(folder: Path) -> Path:
    """Questions of three parts, the answers of two, and the pictures."""
    head = {"info": {"version": "2.0"}, "license": {}, "data_type": "mscoco"}
    for part, count in (("train2014", 3), ("val2014", 2), ("test2015", 1)):
        asked = [
            {"image_id": 9 + i // 2, "question": f"How many dogs, {i}?", "question_id": 9000 + i}
            for i in range(count)
        ]
        for question in asked:
            picture(folder / part / f"COCO_{part}_{question['image_id']:012d}.jpg")
        file = f"v2_OpenEnded_mscoco_{part}_questions.json"
        kind = {"task_type": "Open-Ended", "data_subtype": part}
        put(folder / file, json.dumps({**head, **kind, "questions": asked}))
        if part == "test2015":
            continue
        told = [
            {
                "question_type": "how many",
                "multiple_choice_answer": "2",
                "answers": [
                    {
                        "answer": "2" if n < 7 else "3",
                        "answer_confidence": "yes",
                        "answer_id": n + 1,
                    }
                    for n in range(10)
                ],
                "image_id": question["image_id"],
                "answer_type": "number",
                "question_id": question["question_id"],
            }
            for question in asked
        ]
        file = f"v2_mscoco_{part}_annotations.json"
        put(folder / file, json.dumps({**head, "data_subtype": part, "annotations": told}))
    return folder


def make_msr_vtt(folder: Path, *, parts: bool = False) -> Path:
    """MSRVTT_data.json (or the two lists that it was made of), the test list of 1k-A, and clips."""
    splits = ("train", "train", "validate", "test", "test")
    clips = [
        {"category": 3, "url": "", "video_id": f"video{i}", "start time": 1.0, "end time": 11.0,
         "split": split, "id": i}
        for i, split in enumerate(splits)
    ]  # fmt: skip
    told = [
        {"caption": f"clip {i} told for the {n + 1}. time", "video_id": f"video{i}", "sen_id": n}
        for i in range(len(splits))
        for n in range(3)
    ]
    for i in range(len(splits)):
        film(folder / f"videos/all/video{i}.mp4")
    lists = {"MSRVTT_data.json": range(5)}
    if parts:
        lists = {"train_val_videodatainfo.json": range(3), "test_videodatainfo.json": range(3, 5)}
    for name, chosen in lists.items():
        names = {f"video{i}" for i in chosen}
        held = {
            "info": {"version": "1.0"},
            "videos": [c for c in clips if c["video_id"] in names],
            "sentences": [t for t in told if t["video_id"] in names],
        }
        put(folder / name, json.dumps(held))
    test = 'ret0,msr2,video2,"clip 2, told for the test"\nret1,msr4,video4,clip 4 for the test\n'
    put(folder / "MSRVTT_JSFUSION_test.csv", f"key,vid_key,video_id,sentence\n{test}")
    return folder


def make_msrvtt_qa(folder: Path) -> Path:
    """The three lists of questions, and clips."""
    for number, (mark, count) in enumerate((("train", 4), ("val", 1), ("test", 2))):
        asked = [
            {"answer": "dog", "category_id": 14, "id": 10 * number + i,
             "question": f"what runs, {i}?", "video_id": number}
            for i in range(count)
        ]  # fmt: skip
        film(folder / f"videos/all/video{number}.mp4")
        put(folder / f"{mark}_qa.json", json.dumps(asked))
    return folder


def make_didemo(folder: Path) -> Path:
    """The three lists of sentences, and clips."""
    for number, mark in enumerate(("train", "val", "test")):
        told = [
            {"num_segments": 6, "description": f"a dog runs, {i}", "annotation_id": i,
             "video": f"9@N0_{number}{i // 2}.mov", "times": [[0, 0], [0, 1]]}
            for i in range(4)
        ]  # fmt: skip
        for clip in range(2):
            film(folder / f"videos/9@N0_{number}{clip}.{'mov' if clip else 'mp4'}")
        put(folder / f"{mark}_data.json", json.dumps(told))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make copies of a few rows of each data set.")
    parser.add_argument("folder", type=Path)
    make_caption_copies(parser.parse_args().folder)
