"""Made-up copies of the field's data sets, a few rows each, in the formats that they are distributed in.

    python examples/copies.py FOLDER

What `multiadapt.datasets` reads is shown on them, and tested. Nothing in them is real.
"""

import argparse
import json
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

__all__ = [
    "CREMA",
    "KINETICS",
    "add",
    "film",
    "make_ave",
    "make_copies",
    "make_crema",
    "make_food",
    "make_kinetics",
    "make_mm_imdb",
    "make_prompts",
    "picture",
    "put",
    "sound",
]

WORDS = (
    "a",
    "tale",
    "of",
    "two",
    "thieves",
    "who",
    "leave",
    "the",
    "harbour",
    "at",
    "night",
    "alone",
)
ACTORS = range(1001, 1011)
CREMA = [f"{a}_IEO_{e}" for a in ACTORS for e in ("ANG_HI", "NEU_XX", "SAD_LO")]
KINETICS = {
    "tap_dancing": ["-made-up-01_000002_000012", "made_up__02_000037_000047"],
    "bowling": ["made-up-0_3_000006_000016", "made-up--04_000094_000104"],
}
"""A clip for training and one for testing of each class."""


def make_copies(folder: str | Path) -> None:
    """A copy of each data set, in a folder of its name."""
    folder = Path(folder)
    make_mm_imdb(folder / "mmimdb")
    make_food(folder / "food101")
    make_crema(folder / "CREMA-D")
    make_ave(folder / "AVE_Dataset")
    make_kinetics(folder / "kinetics-sounds", "splits")
    make_prompts(folder / "prompts", "mmimdb")


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (shade, 90, 120)).save(path)


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<80h", *range(80)))


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def add(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def film(path: Path) -> None:
    """A file that begins as a film does, and is none."""
    put(path, b"\0\0\0\x18ftypmp42" + b"\0" * 12)


def make_mm_imdb(folder: Path, films: int = 24) -> Path:
    """split.json, and dataset/ with a .json and a .jpeg for each film."""
    rng = np.random.default_rng(0)
    splits: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for i in range(films):
        name, dark = f"{i:07d}", i % 2
        plots = [" ".join(rng.choice(WORDS, 4)), " ".join(rng.choice(WORDS, 12))]
        genres = ["Drama", "News"] if dark else ["Comedy", "Short", "Drama"][: 1 + i % 3]
        held = {"plot": plots, "genres": genres, "title": f"Film {i}", "year": 1950 + i}
        put(folder / f"dataset/{name}.json", json.dumps(held))
        picture(folder / f"dataset/{name}.jpeg", 200 * dark + i)
        splits["train" if i < films - 8 else "dev" if i < films - 4 else "test"].append(name)
    put(folder / "split.json", json.dumps(splits))
    return folder


def make_food(folder: Path, *, split: bool = True) -> Path:
    """texts/ and images/; with the list of splits."""
    dishes, lists = ("apple_pie", "pho"), {"train": "", "test": ""}
    for dish in dishes:
        for i in range(5):
            part = "test" if i == 4 else "train"
            picture(folder / f"images/{part}/{dish}/{dish}_{i}.jpg", i)
            lists[part] += f'{dish}_{i}.jpg,"How to make {dish}, part {i}",{dish}\r\n'
    for part, rows in lists.items():
        put(folder / f"texts/{part}_titles.csv", rows)
    if split:
        names = {"train": range(3), "val": [3], "test": [4]}
        held = {m: [f"{d}_{i}.jpg" for d in dishes for i in at] for m, at in names.items()}
        put(folder / "split.json", json.dumps(held))
    return folder


def make_crema(folder: Path, *, lists: bool = True) -> Path:
    """AudioWAV/ and VideoFlash/; with the lists that circulate: a byte order mark, ends as in Windows."""
    for name in CREMA:
        sound(folder / f"AudioWAV/{name}.wav")
        put(folder / f"VideoFlash/{name}.flv", b"FLV\x01\x05")
    if lists:
        for mark, names in (("train", CREMA[:-5]), ("test", CREMA[-5:])):
            rows = "".join(f"{n},{n.split('_')[2]}\r\n" for n in names)
            put(folder / f"{mark}.csv", b"\xef\xbb\xbf" + rows.encode())
    return folder


def make_ave(folder: Path, *, made: bool = True) -> Path:
    """The three lists and AVE/; with the sounds and frames that one makes of the clips."""
    rows = {
        "train": ["c---0000001", "made_up_002"],
        "val": ["made-up-003"],
        "test": ["made-up-004"],
    }
    for mark, names in rows.items():
        events = [f"Church bell&{n}&good&0&{3 + i}\n" for i, n in enumerate(names)]
        events += [f"Race car, auto racing&{names[0]}&good&6&10\n"]
        put(folder / f"{mark}Set.txt", "".join(events))
        for name in names:
            film(folder / f"AVE/{name}.mp4")
            if made:
                sound(folder / f"audio/{name}.wav")
                for i in range(4):
                    picture(folder / f"visual/{name}/{i:03d}.jpg", i)
    return folder


def make_kinetics(folder: Path, layout: str) -> Path:
    """Folders of splits, or class folders with lists of class "numbers" or as "kinetics" has them."""
    for number, (kind, clips) in enumerate(KINETICS.items()):
        for mark, clip in zip(("train", "test"), clips, strict=True):
            if layout == "splits":
                film(folder / mark / kind / f"{clip}.mp4")
                sound(folder / "audio" / mark / kind / f"{clip}.wav")
                picture(folder / "visual" / mark / kind / clip / "1.jpg")
                continue
            film(folder / kind / f"{clip}.mp4")
            sound(folder / kind / f"{clip}.wav")
            name, start = clip[:11], int(clip[12:18])
            if layout == "numbers":
                short = clip if mark == "train" else f"{name}_{start}"
                add(folder / f"my_{mark}.txt", f"{short},10,{number}\n")
            else:
                path = folder / f"{mark}.csv"
                if not path.exists():
                    put(path, "label,youtube_id,time_start,time_end,split\n")
                add(path, f"{kind},{name},{start},{start + 10},{mark}\n")
    return folder


def make_prompts(folder: Path, name: str) -> Path:
    """The Arrow files of one data set, and a missing table for its test rows."""
    picture(folder / "one.png")
    image = (folder / "one.png").read_bytes()
    np.save(folder / f"{name}_test_missing_both_07.npy", np.array([0, 1, 2, 0, 1, 2]))
    for mark in ("train", "val" if name == "food101" else "dev", "test"):
        rows: list[dict[str, Any]] = []
        for i in range(6):
            row = {"image": image, "label": i % 2, "split": mark}
            if name == "mmimdb":
                genres = ["Drama", "Adult"] if i % 2 else ["Western", "Comedy"]
                row |= {"plots": [f"plot {i}", "other"], "genres": genres, "image_id": f"{i:07d}"}
            elif name == "food101":
                row |= {"text": [f"title {i}"], "image_id": f"beef_tartare_{i}.jpg"}
            else:
                row |= {"text": [f"meme {i}"]}
            rows.append(row)
        table = pa.Table.from_pandas(pd.DataFrame(rows))
        with (
            pa.OSFile(str(folder / f"{name}_{mark}.arrow"), "wb") as sink,
            pa.RecordBatchFileWriter(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make copies of a few rows of each data set.")
    parser.add_argument("folder", type=Path)
    make_copies(parser.parse_args().folder)
