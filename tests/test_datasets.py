"""Readers of the field's data sets, on small folders of the exact formats."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from copies import (
    CREMA,
    KINETICS,
    add,
    film,
    make_ave,
    make_crema,
    make_food,
    make_kinetics,
    make_mm_imdb,
    make_prompts,
    picture,
    put,
    sound,
)
from tiny import make_transformer
from tiny_text import TINY, make_text_network

from multiadapt import Frozen, MultimodalClassifier, Training
from multiadapt.data.schema import guess_schema
from multiadapt.data.splits import LeakWarning
from multiadapt.datasets import (
    CountWarning,
    DataSet,
    ave,
    crema_d,
    kinetics_sounds,
    missing_aware_prompts,
    mm_imdb,
    upmc_food101,
    with_holes,
)
from multiadapt.errors import CellError, SchemaError, SpecError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def kinds(data: DataSet) -> dict[str, str]:
    schema = guess_schema(
        data.frame,
        root=data.root,
        reserved={data.label: "label", data.split: "split"},
        column_types=data.column_types,
    )
    return {c.name: c.kind for c in schema.columns if c.name not in (data.label, data.split)}


def small(read: Callable[..., DataSet], *args: Any, **options: Any) -> DataSet:
    with pytest.warns(CountWarning, match="other numbers of rows than the publication"):
        return read(*args, **options)


# MM-IMDb


def test_mm_imdb_has_the_published_columns_and_kinds(tmp_path: Path) -> None:
    data = small(mm_imdb, make_mm_imdb(tmp_path))
    assert data.counts == {"train": 16, "val": 4, "test": 4}
    assert kinds(data) == {"id": "ignore", "plot": "text", "poster": "image"}
    assert data.frame["genres"].tolist()[:3] == ["Comedy", "Drama", "Drama|Comedy|Short"]
    held = json.loads((tmp_path / "dataset/0000003.json").read_text())
    assert data.frame["plot"].iloc[3] == max(held["plot"], key=len)


def test_mm_imdb_reads_folders_of_labels_and_images(tmp_path: Path) -> None:
    first = small(mm_imdb, make_mm_imdb(tmp_path / "a"))
    other = tmp_path / "b"
    (other / "images").mkdir(parents=True)
    (tmp_path / "a/dataset").rename(other / "labels")
    (tmp_path / "a/split.json").rename(other / "split.json")
    for path in (other / "labels").glob("*.jpeg"):
        path.rename(other / "images" / path.name)
    again = small(mm_imdb, other)
    pd.testing.assert_frame_equal(
        first.frame.drop(columns="poster"), again.frame.drop(columns="poster")
    )
    assert again.frame["poster"].str.startswith("images/").all()


def test_mm_imdb_plots_are_chosen(tmp_path: Path) -> None:
    folder = make_mm_imdb(tmp_path)
    plots = json.loads((folder / "dataset/0000000.json").read_text())["plot"]
    first, every = (small(mm_imdb, folder, plot=p).frame["plot"].iloc[0] for p in ("first", "all"))
    assert (first, every) == (plots[0], " ".join(plots))
    with pytest.raises(SpecError, match=r"plot must be one of .*got 'last'"):
        mm_imdb(folder, plot="last")


def test_mm_imdb_without_a_plot_is_missing_text_and_without_a_genre_has_no_label(
    tmp_path: Path,
) -> None:
    folder = make_mm_imdb(tmp_path)
    put(folder / "dataset/0000000.json", json.dumps({"genres": ["News"]}))
    row = small(mm_imdb, folder).frame.iloc[0]
    assert pd.isna(row["plot"])
    assert row["genres"] == "|"


def test_mm_imdb_trains(tmp_path: Path) -> None:
    data = small(mm_imdb, make_mm_imdb(tmp_path / "data"))
    make_text_network(tmp_path / "text", **TINY)
    image = make_transformer(tmp_path / "image")
    model = MultimodalClassifier(
        Frozen(),
        encoders={"image": str(image), "text": str(tmp_path / "text")},
        column_types=dict(data.column_types),
        separator=data.separator,
        training=Training(epochs=1, batch_size=8),
        verbose=False,
    )
    model.fit(data.frame, **data.roles)
    predicted = model.predict(data.part("test"), root=data.root)
    assert predicted.index.equals(data.part("test").index)
    assert {"Drama", "Comedy"} <= set(predicted)


def test_missing_posters_are_counted_and_listed_in_a_file(tmp_path: Path) -> None:
    folder = make_mm_imdb(tmp_path)
    for i in range(12):
        (folder / f"dataset/{i:07d}.jpeg").unlink()
    with pytest.raises(
        CellError, match=r"not so 12 of 24 files:\n.*0000000.jpeg: no such"
    ) as caught:
        mm_imdb(folder)
    assert str(caught.value).count("no such file") == 10
    listed = Path(str(caught.value).split("listed in ")[1].splitlines()[0])
    assert len(pd.read_csv(listed)) == 12
    listed.unlink()


def test_missing_posters_are_missing_cells_if_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_mm_imdb(tmp_path)
    (folder / "dataset/0000001.jpeg").unlink()
    put(folder / "dataset/0000002.jpeg", "")
    with caplog.at_level(logging.WARNING, "multiadapt"):
        data = small(mm_imdb, folder, on_error="missing")
    assert data.frame["poster"].isna().tolist() == [False, True, True] + [False] * 21
    assert "2 of 24 files" in caplog.text
    assert "0 bytes" in caplog.text


def test_a_film_without_its_file_is_an_error(tmp_path: Path) -> None:
    folder = make_mm_imdb(tmp_path)
    (folder / "dataset/0000001.json").unlink()
    put(folder / "dataset/0000002.json", '{"genres": ["Dra')
    put(folder / "dataset/0000003.json", '{"plot": [], "genres": "Drama"}')
    with pytest.raises(CellError, match=r"genres in ID.json; 3 of 24 do not") as caught:
        mm_imdb(folder, on_error="missing")
    assert "no list of genres" in str(caught.value)


def test_a_copy_without_its_lists_says_what_must_be_there(tmp_path: Path) -> None:
    put(tmp_path / "multimodal_imdb.hdf5", b"\x89HDF")
    message = r"must hold split.json \(the ids.*it holds \['multimodal_imdb.hdf5'\].*is a pickle"
    with pytest.raises(SchemaError, match=message):
        mm_imdb(tmp_path)
    with pytest.raises(SchemaError, match="it is no folder"):
        mm_imdb(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ('{"train": ["1"]', "not a whole JSON file"),
        ('["1"]', "under train, dev"),
        ('{"train": ["1"], "test": ["1"]}', "'1' stands in 'train' and again in 'test'"),
        (
            '{"train": ["../1"], "test": []}',
            "without folders and semicolons, got '../1' in 'train'",
        ),
        ('{"train": ["1"], "trial": []}', "got .'train', 'trial'."),
    ],
)
def test_a_broken_split_list_is_an_error(tmp_path: Path, held: str, message: str) -> None:
    folder = make_mm_imdb(tmp_path)
    put(folder / "split.json", held)
    with pytest.raises(SchemaError, match=message):
        mm_imdb(folder)


def test_counts_are_compared_with_the_published(tmp_path: Path) -> None:
    folder = make_mm_imdb(tmp_path)
    with pytest.warns(CountWarning, match=r"train 16 of 15552 \(-15536\), val 4 of 2608"):
        data = mm_imdb(folder)
    with pytest.raises(
        SpecError, match=r"mm_imdb has the splits .'train', 'val', 'test'., not 'dev'"
    ):
        data.part("dev")


# UPMC Food-101


def test_food_has_the_published_columns_and_kinds(tmp_path: Path) -> None:
    data = small(upmc_food101, make_food(tmp_path))
    assert data.counts == {"train": 6, "val": 2, "test": 2}
    assert kinds(data) == {"picture": "image", "title": "text"}
    row = data.frame.iloc[0]
    assert row["title"] == "How to make apple_pie, part 0"
    assert row["picture"] == "images/train/apple_pie/apple_pie_0.jpg"
    assert set(data.frame["dish"]) == {"apple_pie", "pho"}


def test_food_without_a_list_of_splits_has_no_validation_rows(tmp_path: Path) -> None:
    data = small(upmc_food101, make_food(tmp_path, split=False))
    assert data.counts == {"train": 8, "test": 2}
    assert data.expected["train"] == 61_142 + 6_846


def test_food_reads_the_titles_that_circulate(tmp_path: Path) -> None:
    folder = make_food(tmp_path, split=False)
    rows = (
        'pho_0.jpg,"never closed, it says,pho\n'
        "pho_1.txt,a picture called a text,pho\n"
        'pho_2.jpg,"so ""good"", really",pho\n'
        "pho_3.jpg,,pho\n"
    )
    put(folder / "texts/train_titles.csv", rows)
    frame = small(upmc_food101, folder).part("train")
    titles = ["never closed, it says", "a picture called a text", 'so "good", really', None]
    assert frame["title"].astype(object).where(frame["title"].notna(), None).tolist() == titles
    assert frame["picture"].iloc[1] == "images/train/pho/pho_1.jpg"


def test_food_listed_without_a_title_is_missing_text(tmp_path: Path) -> None:
    folder = make_food(tmp_path)
    put(folder / "texts/test_titles.csv", "pho_4.jpg,soup,pho\n")
    test = small(upmc_food101, folder).part("test")
    assert test["title"].isna().tolist() == [True, False]
    assert test["dish"].tolist() == ["apple_pie", "pho"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "file,title,class\npho_0.jpg,soup,pho\n",
            "1 of 2 are not, for example .'file,title,class'",
        ),
        ("pho_0.jpg,soup,pho\npho_0.jpg,broth,pho\n", "a picture must have one row; pho_0.jpg"),
        ("pho_0.jpg\n", "1 of 1 are not"),
    ],
)
def test_a_broken_list_of_titles_is_an_error(tmp_path: Path, rows: str, message: str) -> None:
    folder = make_food(tmp_path)
    put(folder / "texts/train_titles.csv", rows)
    with pytest.raises(SchemaError, match=message):
        upmc_food101(folder)


def test_food_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    folder = make_food(tmp_path)
    put(folder / "texts/train_titles.csv", b"pho_0.jpg,caf\xe9,pho\n")
    with pytest.raises(SchemaError, match="not a readable list"):
        upmc_food101(folder)


# CREMA-D


def test_crema_has_the_kinds_of_its_copy(tmp_path: Path) -> None:
    data = small(crema_d, make_crema(tmp_path))
    assert data.counts == {"train": 25, "test": 5}
    found = kinds(data)
    assert {name for name, kind in found.items() if kind != "ignore"} == {"audio"}
    assert data.frame["video"].iloc[0] == f"VideoFlash/{CREMA[0]}.flv"
    assert set(data.frame["emotion"]) == {"ANG", "NEU", "SAD"}


def test_crema_frames_are_pictures_evenly_chosen(tmp_path: Path) -> None:
    folder = make_crema(tmp_path)
    for name in CREMA:
        for i in range(6):
            picture(folder / f"Image-01-FPS/{name}/{i:04d}.jpg")
    data = small(crema_d, folder, frames=2)
    chosen = [Path(p).name for p in data.frame["frames"].iloc[0].split(";")]
    assert chosen == ["0001.jpg", "0004.jpg"]
    assert kinds(data)["frames"] == "image"
    with pytest.raises(SpecError, match="frames must be at least 1, got 0"):
        crema_d(folder, frames=0)


def test_crema_without_lists_keeps_actors_apart_by_seed(tmp_path: Path) -> None:
    folder = make_crema(tmp_path, lists=False)
    data, again, other = (small(crema_d, folder, seed=s) for s in (0, 0, 1))
    assert list(data.counts) == ["train", "val", "test"]
    assert (data.frame.groupby("actor")["split"].nunique() == 1).all()
    assert data.counts["test"] == 6
    pd.testing.assert_frame_equal(data.frame, again.frame)
    assert not data.frame["split"].equals(other.frame["split"])


def test_crema_knows_the_clip_whose_file_lacks_a_letter(tmp_path: Path) -> None:
    folder = make_crema(tmp_path)
    sound(folder / "AudioWAV/1040_ITH_SAD_X.wav")
    put(folder / "VideoFlash/1040_ITH_SAD_X.flv", b"FLV")
    add(folder / "train.csv", "1040_ITH_SAD_XX,SAD\r\n")
    assert "1040_ITH_SAD_X" in set(small(crema_d, folder).frame["clip"])


def test_crema_clips_in_no_list_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_crema(tmp_path)
    sound(folder / "AudioWAV/1011_IEO_HAP_HI.wav")
    assert len(small(crema_d, folder).frame) == len(CREMA)
    assert "1 clips stand in no list" in caplog.text


def test_crema_pointers_of_git_lfs_are_no_sounds(tmp_path: Path) -> None:
    folder = make_crema(tmp_path)
    for path in (folder / "AudioWAV").iterdir():
        put(path, POINTER)
    with pytest.raises(CellError, match=r"30 of 60 files:\n.*a pointer of git-lfs.*git lfs pull"):
        crema_d(folder)


def test_crema_names_without_an_emotion_are_an_error(tmp_path: Path) -> None:
    folder = make_crema(tmp_path, lists=False)
    sound(folder / "AudioWAV/song.wav")
    with pytest.raises(CellError, match=r"1 of 31 do not:\n  song: not ACTOR"):
        crema_d(folder)


def test_crema_lists_that_disagree_with_the_names_are_an_error(tmp_path: Path) -> None:
    folder = make_crema(tmp_path)
    put(folder / "train.csv", f"{CREMA[0]},SAD\n")
    with pytest.raises(SchemaError, match=f"got '{CREMA[0]},SAD'"):
        crema_d(folder)
    for path in (folder / "AudioWAV").iterdir():
        path.rename(path.with_suffix(".mp3"))
    with pytest.raises(SchemaError, match=r"AudioWAV: there is no .wav file"):
        crema_d(folder)
    sound(folder / "AudioWAV/1001_IEO_ANG_HI.wav")
    (folder / "test.csv").unlink()
    with pytest.raises(SchemaError, match=r"\['test.csv'\] are not there"):
        crema_d(folder)


# AVE


def test_ave_has_a_row_for_each_event(tmp_path: Path) -> None:
    data = small(ave, make_ave(tmp_path), frames=2)
    assert data.counts == {"train": 3, "val": 2, "test": 2}
    found = kinds(data)
    assert {n: k for n, k in found.items() if k != "ignore"} == {
        "audio": "audio",
        "frames": "image",
    }
    last = data.frame.iloc[2]
    assert (last["category"], last["start"], last["end"]) == ("Race car, auto racing", 6.0, 10.0)


def test_ave_of_clips_alone_says_how_to_make_sounds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = small(ave, make_ave(tmp_path, made=False))
    assert set(kinds(data).values()) == {"ignore"}
    assert "ffmpeg -i AVE/ID.mp4" in caplog.text
    assert "visual/ID/%03d.jpg" in caplog.text


def test_ave_events_of_one_clip_in_two_splits_are_told(tmp_path: Path) -> None:
    folder = make_ave(tmp_path)
    put(
        folder / "testSet.txt",
        "Category&VideoID&Quality&StartTime&EndTime\nBark&made_up_002&good&0&1",
    )
    with pytest.warns(LeakWarning, match="1 clips have events in more than one split"):
        small(ave, folder)


def test_broken_ave_copies_are_errors(tmp_path: Path) -> None:
    folder = make_ave(tmp_path)
    (folder / "AVE/made-up-004.mp4").unlink()
    with pytest.raises(CellError, match=r"2 of 14 files:\n  AVE/made-up-004.mp4: no such file"):
        ave(folder)
    put(folder / "valSet.txt", "Bark&made_up_002&good&0\n")
    with pytest.raises(SchemaError, match="got 'Bark&made_up_002&good&0'"):
        ave(folder)
    (folder / "valSet.txt").unlink()
    with pytest.raises(SchemaError, match=r"\['valSet.txt'\] are not there"):
        ave(folder)


# Kinetics-Sounds


@pytest.mark.parametrize("layout", ["splits", "numbers", "kinetics"])
def test_kinetics_layouts_give_the_same_rows(tmp_path: Path, layout: str) -> None:
    data = kinetics_sounds(make_kinetics(tmp_path, layout))
    assert data.counts == {"train": 2, "test": 2}
    assert set(data.part("train")["class"]) == set(KINETICS)
    stems = {Path(p).stem for p in data.part("test")["audio"]}
    assert stems == {clips[1] for clips in KINETICS.values()}
    found = kinds(data)
    assert found["audio"] == "audio"
    assert found["video"] == "ignore"
    assert found["frames"] == ("image" if layout == "splits" else "ignore")


def test_kinetics_of_films_alone_says_how_to_make_sounds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film(tmp_path / "train/bowling/a.mp4")
    film(tmp_path / "validate/bowling/b.mp4")
    film(tmp_path / "val/bowling/c.mp4")
    assert kinetics_sounds(tmp_path).counts == {"train": 1, "val": 2}
    assert "ffmpeg -i CLASS/CLIP.mp4" in caplog.text


def test_kinetics_listed_clips_that_are_gone_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_kinetics(tmp_path, "numbers")
    add(folder / "my_train.txt", "made-up--05_000004_000014,10,6\n")
    with pytest.raises(
        CellError, match=r"1 of 5 files:\n  made-up--05_000004_000014: listed in my_tr"
    ):
        kinetics_sounds(folder)
    assert len(kinetics_sounds(folder, on_error="missing").frame) == 4
    assert "1 of 5 files" in caplog.text


def test_broken_kinetics_copies_are_errors(tmp_path: Path) -> None:
    folder = make_kinetics(tmp_path, "numbers")
    put(folder / "bowling/made-up--04_000094_000104.mp4", "")
    with pytest.raises(CellError, match=r"1 of 8 files:\n.*0 bytes"):
        kinetics_sounds(folder)
    kept = kinetics_sounds(folder, on_error="missing").frame
    assert kept["video"].isna().sum() == 1
    assert kept["audio"].notna().all()
    add(folder / "my_train.txt", "made-up--04_94,10,1\n")
    with pytest.raises(
        SchemaError, match=r"1 stand in several.*'made-up--04_94', \['test', 'train'\]"
    ):
        kinetics_sounds(folder)
    put(folder / "my_train.txt", "".join(f"{c[0]},10,7\n" for c in KINETICS.values()))
    with pytest.raises(SchemaError, match=r"not so \{'7': \['bowling', 'tap_dancing'\]\}"):
        kinetics_sounds(folder)
    (folder / "my_test.txt").unlink()
    with pytest.raises(SchemaError, match=r"a list for train and one for test, got \['train'\]"):
        kinetics_sounds(folder)
    film(folder / "tap_dancing/made-up--04_94.mp4")
    put(folder / "my_test.txt", "")
    with pytest.raises(SchemaError, match="must lie in one class folder; 1 lie in two"):
        kinetics_sounds(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SchemaError, match=r"no clip is there, it holds \[\]"):
        kinetics_sounds(tmp_path / "empty")


# Missing-aware prompts


@pytest.mark.parametrize(
    ("name", "label", "text"),
    [
        ("mmimdb", "Comedy|Western", "plot 0"),
        ("food101", "beef_tartare", "title 0"),
        ("hatememes", 0, "meme 0"),
    ],
)
def test_arrow_tables_are_rows_with_pictures(
    tmp_path: Path, name: Any, label: object, text: str
) -> None:
    folder = make_prompts(tmp_path, name)
    compared = name != "hatememes"
    data = (
        small(missing_aware_prompts, folder, name)
        if compared
        else missing_aware_prompts(folder, name)
    )
    assert data.counts == {"train": 6, "val": 6, "test": 6}
    assert kinds(data) == {"image_id": "ignore", "image": "image", "text": "text"}
    assert data.frame[data.label].iloc[0] == label
    assert data.frame["text"].iloc[0] == text


def test_broken_arrow_copies_are_errors(tmp_path: Path) -> None:
    folder = make_prompts(tmp_path, "mmimdb")
    with pytest.raises(SchemaError, match=r"\['food101_train.arrow', .* are not there.*make_arrow"):
        missing_aware_prompts(folder, "food101")
    with pytest.raises(SpecError, match=r"name must be one of .*got 'imdb'"):
        missing_aware_prompts(folder, "imdb")
    pd.DataFrame({"image": [b"1"]}).to_feather(
        folder / "mmimdb_dev.arrow", compression="uncompressed"
    )
    with pytest.raises(SchemaError, match=r"columns \['plots', 'genres', 'image_id'\] are absent"):
        missing_aware_prompts(folder)


@pytest.fixture
def prompts(tmp_path: Path) -> DataSet:
    return small(missing_aware_prompts, make_prompts(tmp_path, "mmimdb"))


LACK = np.array([0, 1, 2, 0, 1, 2])


def save_table(path: Path) -> Path:
    if path.suffix == ".pt":
        torch.save(torch.tensor(LACK, dtype=torch.float32), path)
    elif path.suffix == ".npy":
        np.save(path, LACK)
    elif path.suffix == ".csv":
        pd.DataFrame({"missing": LACK}).to_csv(path, index=False)
    else:
        pd.DataFrame({"missing": LACK}).to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".npy", ".csv", ".parquet"])
def test_missing_tables_empty_the_cells_of_their_split(
    tmp_path: Path, prompts: DataSet, suffix: str
) -> None:
    before = prompts.frame.copy()
    held = with_holes(prompts, {"test": save_table(tmp_path / f"table{suffix}")})
    test = held.part("test")
    assert test["text"].isna().tolist() == (LACK == 1).tolist()
    assert test["image"].isna().tolist() == (LACK == 2).tolist()
    assert held.frame[held.frame["split"] != "test"].notna().all(axis=None)
    pd.testing.assert_frame_equal(prompts.frame, before)


def test_missing_tables_fit_a_copy_with_files(tmp_path: Path) -> None:
    data = small(mm_imdb, make_mm_imdb(tmp_path))
    np.save(tmp_path / "table.npy", np.array([2, 0, 0, 1]))
    test = with_holes(data, {"test": tmp_path / "table.npy"}).part("test")
    assert test["poster"].isna().tolist() == [True, False, False, False]
    assert test["plot"].isna().tolist() == [False, False, False, True]


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm-was-done"),))


def test_pickles_are_never_run(
    tmp_path: Path, prompts: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("table.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    torch.save(Harmful(), "table.pt")
    torch.save({"a": torch.zeros(6)}, "other.pt")
    Path("table.pkl").write_bytes(b"\x80\x04.")
    for name, why in (
        ("table.npy", "no table of numbers alone"),
        ("table.pt", "no table of numbers alone"),
        ("other.pt", "it holds dict, not a tensor"),
        ("table.pkl", "a pickle is never opened"),
    ):
        with pytest.raises(SchemaError, match=f"{why}.*") as caught:
            with_holes(prompts, {"test": name})
        assert "numpy.save('table.npy'" in str(caught.value)
    assert not Path("harm-was-done").exists()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.zeros(5), r"one number for each of the 6 rows of 'test', got 5"),
        (np.full(6, 3), r"a list of 0 \(complete\), 1 \(no text\) and 2 \(no picture\), got int64"),
        (np.zeros((6, 2)), r"of shape \(6, 2\)"),
        (np.array(list("abcdef")), "got <U1 of shape"),
    ],
)
def test_a_missing_table_that_does_not_fit_is_an_error(
    tmp_path: Path, prompts: DataSet, numbers: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "table.npy", numbers)
    with pytest.raises(SchemaError, match=message):
        with_holes(prompts, {"test": tmp_path / "table.npy"})


def test_missing_tables_need_a_text_and_a_picture(tmp_path: Path, prompts: DataSet) -> None:
    data = small(crema_d, make_crema(tmp_path / "crema"))
    with pytest.raises(SpecError, match="are about a text and a picture, it has"):
        with_holes(data, {})
    with pytest.raises(SchemaError, match="there is no such missing table"):
        with_holes(prompts, {"test": tmp_path / "none.npy"})
