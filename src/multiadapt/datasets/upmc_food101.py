"""UPMC Food-101: a picture of a dish and the title of the page it was on, 101 dishes.

Wang et al., "Recipe Recognition with Large Multimodal Food Dataset", ICMEW 2015,
https://doi.org/10.1109/ICMEW.2015.7169757. Format: https://www.kaggle.com/datasets/gianmarco96/upmcfood101
and https://github.com/YiLunLee/missing_aware_prompts (DATA.md, `datasets/Food101/split.json`). In the
list that circulates one title opens a quotation mark that nothing closes, and some pictures are called
.txt: https://github.com/artelab/Image-and-Text-fusion-for-UPMC-Food-101-using-BERT-and-CNNs/issues/2.
"""

import re
from pathlib import Path, PurePosixPath

import pandas as pd

from multiadapt.datasets._base import DataSet
from multiadapt.datasets._files import OnError, checked, home, in_one_split, lines, split_lists
from multiadapt.errors import SchemaError

__all__ = ["upmc_food101"]

NEEDED = {
    "texts/train_titles.csv": "file name, title, class",
    "texts/test_titles.csv": "the same of the test rows",
    "images/train": "CLASS/FILE.jpg",
    "images/test": "CLASS/FILE.jpg",
}
ADVICE = "Give the folder that holds texts/ and images/"
START = re.compile(r"[^,\"]+\.(?:jpe?g|png|txt),", re.I)
ROW = re.compile(r"(?P<file>[^,\"]+)\.(?P<kind>\w+),(?P<title>.*),(?P<dish>[^,\"]+)", re.S)


def upmc_food101(folder: str | Path, *, on_error: OnError = "raise") -> DataSet:
    """Read texts/train_titles.csv and texts/test_titles.csv, and the pictures under images/.

    With split.json in the folder (train, val and test) the rows are those that it names, in its order;
    a picture without a title has none. Without it all of the first list are training rows.
    """
    root = home(folder, NEEDED, ADVICE)
    titles: dict[str, tuple[str, str, str | None]] = {}
    for part in ("train", "test"):
        for file, title, dish in _rows(root / f"texts/{part}_titles.csv"):
            if titles.setdefault(file, (part, dish, title)) != (part, dish, title):
                raise SchemaError(
                    f"{root / 'texts'}: a picture must have one row; {file} has {titles[file]} and "
                    f"{(part, dish, title)}: take one out"
                )
    splits = {file: part for file, (part, _, _) in titles.items()}
    listed = root / "split.json"
    if listed.exists():
        splits = in_one_split(listed, split_lists(listed))
    told = [titles.get(f) or (_side(m), f.rpartition("_")[0], None) for f, m in splits.items()]
    frame = pd.DataFrame({
        "picture": [f"images/{t[0]}/{t[1]}/{f}" for f, t in zip(splits, told, strict=True)],
        "title": pd.Series([title for _, _, title in told], dtype=object),
        "dish": [dish for _, dish, _ in told],
        "split": list(splits.values()),
    })  # fmt: skip
    val = {"val": 6_846} if listed.exists() else {}
    return DataSet(
        name="upmc_food101",
        frame=checked(frame, ["picture"], root, on_error),
        root=root,
        label="dish",
        column_types={"picture": "image", "title": "text"},
        expected={"train": 61_142 if val else 67_988, **val, "test": 22_716},
        source="https://www.kaggle.com/datasets/gianmarco96/upmcfood101",
        citation='Wang et al., "Recipe Recognition with Large Multimodal Food Dataset", ICMEW 2015',
        licence="none stated with the archive; made from a search for pictures, for research",
    ).counted()


def _side(mark: str) -> str:
    """The folder of a split: validation rows are taken from the training pictures."""
    return "test" if mark == "test" else "train"


def _rows(path: Path) -> list[tuple[str, str | None, str]]:
    """File, title and dish. A row begins with a file's name, whatever the quotation marks say."""
    records: list[str] = []
    for line in lines(path):
        if START.match(line) or not records:
            records.append(line)
        else:
            records[-1] += f" {line}"  # a title over several lines
    parts = [(record, ROW.fullmatch(record)) for record in records]
    wrong = [record[:100] for record, row in parts if row is None or not START.match(record)]
    if wrong:
        raise SchemaError(
            f"{path}: every row must be file name, title, class; {len(wrong)} of {len(records)} are not, "
            f"for example {wrong[:3]}: fetch the list again"
        )
    return [(_picture(r), _title(r["title"]), r["dish"].strip()) for _, r in parts if r]


def _picture(row: re.Match[str]) -> str:
    kind = "jpg" if row["kind"].lower() == "txt" else row["kind"]
    return PurePosixPath(f"{row['file'].strip()}.{kind}").name


def _title(told: str) -> str | None:
    told = told.strip()
    if told.startswith('"'):
        told = told[1:].removesuffix('"').replace('""', '"')
    return told.strip() or None
