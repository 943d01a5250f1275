"""Readers of captions and questions about pictures and clips, on small folders of the exact formats."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from caption_copies import (
    make_blip_lists,
    make_caption_copies,
    make_coco,
    make_didemo,
    make_flickr,
    make_msr_vtt,
    make_msrvtt_qa,
    make_vqa,
)
from copies import put

from multiadapt.datasets import CountWarning, DataSet, didemo, karpathy, msr_vtt, msrvtt_qa, vqa_v2
from multiadapt.errors import CellError, SchemaError, SpecError
from multiadapt.tasks._retrieval_metrics import paired


def small(read: Callable[..., DataSet], *args: Any, **options: Any) -> DataSet:
    with pytest.warns(CountWarning, match="other numbers of rows than the publication"):
        return read(*args, **options)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    held = json.loads(path.read_text())
    changed = change(held)
    put(path, json.dumps(held if changed is None else changed))


# COCO and Flickr


def test_coco_is_a_row_a_caption_and_restval_is_for_training(tmp_path: Path) -> None:
    data = small(karpathy, make_coco(tmp_path))
    assert data.counts == {"train": 16, "val": 5, "test": 10}
    assert list(data.frame) == ["image", "caption", "split"]
    first = data.frame.iloc[0]
    assert first["image"] == "train2014/COCO_train2014_000000000000.jpg"
    assert first["caption"] == "Dog 0 runs, told for the 1. time."
    assert data.part("train")["image"].nunique() == 3
    assert data.column_types == {"image": "image", "caption": "text"}
    assert data.expected == {"train": 566_747, "val": 25_010, "test": 25_010}


def test_every_picture_is_in_one_split(tmp_path: Path) -> None:
    frame = small(karpathy, make_coco(tmp_path)).frame
    assert (frame.groupby("image")["split"].nunique() == 1).all()


def test_the_lists_that_blip_reads_give_the_same_rows(tmp_path: Path) -> None:
    a = small(karpathy, make_coco(tmp_path / "a")).frame
    b = small(karpathy, make_blip_lists(tmp_path / "b")).frame
    assert a.to_dict("records") == b.to_dict("records")


@pytest.mark.parametrize("name", ["flickr30k", "flickr8k"])
@pytest.mark.parametrize("place", ["images", "flickr30k-images", "Flicker8k_Dataset", "."])
def test_flickr_pictures_are_found_where_copies_have_them(
    tmp_path: Path, name: str, place: str
) -> None:
    folder = make_flickr(tmp_path, name)
    if place == ".":
        for path in list((folder / "images").iterdir()):
            path.rename(folder / path.name)
        (folder / "images").rmdir()
    else:
        (folder / "images").rename(folder / place)
    data = small(karpathy, folder, name)
    assert data.counts == {"train": 10, "val": 5, "test": 5}
    assert (folder / data.frame["image"].iloc[0]).is_file()


def test_the_lists_may_lie_in_their_own_folder(tmp_path: Path) -> None:
    folder = make_coco(tmp_path)
    (folder / "caption_datasets").mkdir()
    (folder / "dataset_coco.json").rename(folder / "caption_datasets/dataset_coco.json")
    assert len(small(karpathy, folder).frame) == 31


def test_retrieval_takes_the_table_as_it_is(tmp_path: Path) -> None:
    test = small(karpathy, make_coco(tmp_path)).part("test")
    pairs = paired(test["caption"], test["image"], test.index.tolist())
    assert (pairs.relevance.queries, pairs.relevance.pool) == (10, 2)
    assert pairs.relevance.turned().starts.tolist() == [0, 5, 10]


def test_pictures_that_are_gone_are_counted_once_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_coco(tmp_path)
    (folder / "val2014/COCO_val2014_000000000004.jpg").unlink()
    with pytest.raises(CellError, match=r"1 of 6 files:\n.*000000000004.jpg: no such file"):
        karpathy(folder)
    with caplog.at_level(logging.WARNING, "multiadapt"):
        frame = small(karpathy, folder, on_error="missing").frame
    assert frame["image"].isna().sum() == 5
    assert "1 of 6 files" in caplog.text


@pytest.mark.parametrize("told", [[], [{"raw": " "}], [{"tokens": ["a"]}], ["a dog"]])
def test_a_picture_without_a_caption_is_an_error(tmp_path: Path, told: list[Any]) -> None:
    folder = make_coco(tmp_path)
    edit(folder / "dataset_coco.json", lambda h: h["images"][2].update(sentences=told))
    with pytest.raises(CellError, match="every image must have its caption; 1 of 6 do not"):
        karpathy(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h: h["images"][0].update(split_=h["images"][0].pop("filename")),
            "filename, split, sentences; 1 of 6 have not",
        ),
        (lambda h: {"images": 3}, "'images' in it must be a list, got int"),
        (lambda h: [1, 2], "every entry must have .*2 of 2 have not"),
        (
            lambda h: h["images"][0].update(split="dev"),
            r"splits must be train, .*got \['dev'\] too",
        ),
        (
            lambda h: h["images"][5].update(filename="COCO_train2014_000000000000.jpg"),
            "stands in 'train' and again in 'test'",
        ),
    ],
)
def test_a_broken_coco_list_is_an_error(
    tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    folder = make_coco(tmp_path)
    edit(folder / "dataset_coco.json", change)
    with pytest.raises(SchemaError, match=message):
        karpathy(folder)


def test_a_copy_without_lists_says_what_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        SchemaError,
        match=r"must hold dataset_coco.json, or coco_karpathy_train.json, .*it holds \[\]",
    ):
        karpathy(tmp_path)
    with pytest.raises(SchemaError, match="it is no folder"):
        karpathy(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="name must be one of coco, flickr30k, flickr8k, got 'sbu'"):
        karpathy(tmp_path, "sbu")
    put(tmp_path / "dataset_coco.json", '{"images": [')
    with pytest.raises(SchemaError, match="not a whole JSON file"):
        karpathy(tmp_path)


# VQA


def test_vqa_is_a_row_a_question_with_all_answers(tmp_path: Path) -> None:
    data = small(vqa_v2, make_vqa(tmp_path))
    assert data.counts == {"train": 3, "val": 2, "test": 1}
    row = data.frame.iloc[2]
    assert row["question"] == "How many dogs, 2?"
    assert row["image"] == "train2014/COCO_train2014_000000000010.jpg"
    assert row["answer"] == "2"
    assert row["answers"] == ["2"] * 7 + ["3"] * 3
    assert (row["question_type"], row["answer_type"]) == ("how many", "number")
    assert data.part("test")[["answer", "answers"]].isna().all(axis=None)
    assert {k for k, kind in data.column_types.items() if kind != "ignore"} == {
        "image",
        "question",
    }


def test_vqa_reads_the_parts_that_are_there(tmp_path: Path) -> None:
    folder = make_vqa(tmp_path)
    for path in [*folder.glob("*train2014*.json"), *folder.glob("*test2015*.json")]:
        path.unlink()
    data = small(vqa_v2, folder)
    assert data.counts == {"val": 2}
    assert data.expected == {"val": 214_354}
    for path in folder.glob("*.json"):
        path.unlink()
    with pytest.raises(
        SchemaError, match=r"must hold v2_OpenEnded_mscoco_train2014_questions\.json or that"
    ):
        vqa_v2(folder)


def test_vqa_pictures_that_are_gone_are_missing_cells_if_asked(tmp_path: Path) -> None:
    folder = make_vqa(tmp_path)
    (folder / "train2014/COCO_train2014_000000000009.jpg").unlink()
    with pytest.raises(CellError, match="1 of 4 files"):
        vqa_v2(folder)
    frame = small(vqa_v2, folder, on_error="missing").frame
    assert frame["image"].isna().tolist() == [True, True, False, False, False, False]


def test_a_question_without_answers_is_an_error(tmp_path: Path) -> None:
    folder = make_vqa(tmp_path)
    answers = folder / "v2_mscoco_val2014_annotations.json"
    edit(answers, lambda h: h.update(annotations=h["annotations"][:1]))
    with pytest.raises(SchemaError, match="needs its answers; 1 of 2 have none, such as 9001"):
        vqa_v2(folder)
    answers.unlink()
    with pytest.raises(SchemaError, match="not a whole JSON file"):
        vqa_v2(folder)
    put(answers, "[]")
    with pytest.raises(SchemaError, match="2 of 2 have none, such as 9000"):
        vqa_v2(folder)
    put(folder / "v2_OpenEnded_mscoco_val2014_questions.json", '{"questions": {}}')
    with pytest.raises(SchemaError, match="'questions' in it must be a list, got dict"):
        vqa_v2(folder)


# MSR-VTT


def test_the_1k_a_split_tests_one_caption_a_clip_and_trains_on_all_others(tmp_path: Path) -> None:
    data = small(msr_vtt, make_msr_vtt(tmp_path))
    assert data.counts == {"train": 9, "test": 2}
    test = data.part("test")
    assert test["caption"].tolist() == ["clip 2, told for the test", "clip 4 for the test"]
    assert test["video"].tolist() == ["videos/all/video2.mp4", "videos/all/video4.mp4"]
    assert not set(test["video_id"]) & set(data.part("train")["video_id"])
    assert data.column_types == {"video_id": "ignore", "video": "video", "caption": "text"}
    assert data.expected == {"train": 180_000, "test": 1_000}


@pytest.mark.parametrize("parts", [False, True])
def test_the_full_split_is_that_of_the_lists(tmp_path: Path, parts: bool) -> None:
    data = small(msr_vtt, make_msr_vtt(tmp_path, parts=parts), split="full")
    assert data.counts == {"train": 6, "val": 3, "test": 6}
    assert sum(data.expected.values()) == 200_000


@pytest.mark.parametrize("place", ["videos", "TrainValVideo", "."])
def test_clips_are_found_where_copies_have_them(tmp_path: Path, place: str) -> None:
    folder = make_msr_vtt(tmp_path)
    (folder / place).mkdir(exist_ok=True)
    for path in list((folder / "videos/all").iterdir()):
        path.rename(folder / place / path.name)
    (folder / "videos/all").rmdir()
    assert (folder / small(msr_vtt, folder).frame["video"].iloc[0]).is_file()


def test_clips_that_are_gone_are_counted_once_each(tmp_path: Path) -> None:
    folder = make_msr_vtt(tmp_path)
    (folder / "videos/all/video0.mp4").unlink()
    put(folder / "videos/all/video1.mp4", "")
    with pytest.raises(CellError, match=r"2 of 5 files:\n  videos/all/video0.mp4: no such file"):
        msr_vtt(folder)
    assert small(msr_vtt, folder, on_error="missing").frame["video"].isna().sum() == 6


def test_a_clip_without_captions_is_an_error(tmp_path: Path) -> None:
    folder = make_msr_vtt(tmp_path)
    edit(folder / "MSRVTT_data.json", lambda h: h.update(sentences=h["sentences"][3:]))
    with pytest.raises(CellError, match="every video must have its caption; 1 of 5 do not"):
        msr_vtt(folder)


def test_broken_msr_vtt_copies_are_errors(tmp_path: Path) -> None:
    folder = make_msr_vtt(tmp_path)
    with pytest.raises(SpecError, match="split must be one of 1k-A, full, got '1k-B'"):
        msr_vtt(folder, split="1k-B")
    put(folder / "MSRVTT_JSFUSION_test.csv", "key,video\na,b\n")
    with pytest.raises(SchemaError, match=r"columns video_id and sentence, got \['key', 'video'\]"):
        msr_vtt(folder)
    put(folder / "MSRVTT_JSFUSION_test.csv", "video_id,sentence\nvideo9,what\n")
    with pytest.raises(SchemaError, match=r"1 of 1 clips stand in no list .*such as 'video9'"):
        msr_vtt(folder)
    (folder / "MSRVTT_JSFUSION_test.csv").unlink()
    with pytest.raises(SchemaError, match=r"'MSRVTT_JSFUSION_test\.csv'. are not there"):
        msr_vtt(folder)
    edit(folder / "MSRVTT_data.json", lambda h: h["sentences"][0].update(video_id="video9"))
    with pytest.raises(SchemaError, match="a caption is of 'video9', which is no clip"):
        msr_vtt(folder, split="full")
    edit(folder / "MSRVTT_data.json", lambda h: h["videos"][0].update(split="dev"))
    with pytest.raises(SchemaError, match="splits must be train, validate, test, got 'dev'"):
        msr_vtt(folder, split="full")
    (folder / "MSRVTT_data.json").unlink()
    with pytest.raises(SchemaError, match=r"must hold MSRVTT_data\.json, it holds"):
        msr_vtt(folder, split="full")


# MSRVTT-QA


def test_msrvtt_qa_is_a_row_a_question(tmp_path: Path) -> None:
    data = small(msrvtt_qa, make_msrvtt_qa(tmp_path))
    assert data.counts == {"train": 4, "val": 1, "test": 2}
    row = data.frame.iloc[-1]
    assert (row["video"], row["question"], row["answer"]) == (
        "videos/all/video2.mp4",
        "what runs, 1?",
        "dog",
    )
    assert data.label == "answer"
    assert data.column_types["video"] == "video"


def test_broken_msrvtt_qa_copies_are_errors(tmp_path: Path) -> None:
    folder = make_msrvtt_qa(tmp_path)
    (folder / "videos/all/video2.mp4").unlink()
    with pytest.raises(CellError, match=r"1 of 3 files:\n  videos/all/video2.mp4: no such file"):
        msrvtt_qa(folder)
    assert small(msrvtt_qa, folder, on_error="missing").frame["video"].isna().sum() == 2
    put(folder / "val_qa.json", "{}")
    with pytest.raises(SchemaError, match=r"val_qa\.json: it must be a list, got dict"):
        msrvtt_qa(folder)
    (folder / "val_qa.json").unlink()
    with pytest.raises(SchemaError, match=r"\['val_qa.json'\] are not there"):
        msrvtt_qa(folder)


# DiDeMo


def test_didemo_is_a_row_a_clip_with_all_its_sentences(tmp_path: Path) -> None:
    data = small(didemo, make_didemo(tmp_path))
    assert data.counts == {"train": 2, "val": 2, "test": 2}
    row = data.part("val").iloc[1]
    assert (row["video"], row["caption"]) == ("videos/9@N0_11.mov", "a dog runs, 2 a dog runs, 3")
    assert data.part("val")["video"].iloc[0] == "videos/9@N0_10.mp4"


def test_broken_didemo_copies_are_errors(tmp_path: Path) -> None:
    folder = make_didemo(tmp_path)
    (folder / "videos/9@N0_00.mp4").unlink()
    with pytest.raises(CellError, match=r"1 of 6 files:\n  videos/9@N0_00\.mp4: no such file"):
        didemo(folder)
    assert small(didemo, folder, on_error="missing").frame["video"].isna().sum() == 1
    edit(folder / "test_data.json", lambda h: h[0].update(video="9@N0_00.mov"))
    with pytest.raises(SchemaError, match="'9@N0_00' stands in 'train' and again in 'test'"):
        didemo(folder)
    edit(folder / "test_data.json", lambda h: h[0].update(video="9@N0_20.mov", description=" "))
    with pytest.raises(CellError, match="every video must have its caption; 1 of 6 do not"):
        didemo(folder)
    (folder / "test_data.json").unlink()
    with pytest.raises(SchemaError, match=r"\['test_data\.json'\] are not there"):
        didemo(folder)


def test_all_copies_are_made_at_once(tmp_path: Path) -> None:
    make_caption_copies(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "coco",
        "didemo",
        "flickr30k",
        "msrvtt",
        "vqa",
    ]
