"""COCO, Flickr30K and Flickr8K with Karpathy's splits: pictures with about five captions each.

Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions", CVPR 2015,
https://arxiv.org/abs/1412.2306. Format: caption_datasets.zip of
https://cs.stanford.edu/people/karpathy/deepimagesent/, and the lists that BLIP reads
(https://github.com/salesforce/BLIP, `data/coco_karpathy_dataset.py`). COCO's `restval` pictures, of its
validation part, are training pictures in all that is published.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from multiadapt.datasets._base import DataSet
from multiadapt.datasets._files import OnError, home, in_one_split, opened_json
from multiadapt.datasets._items import listed, one_row_a_text
from multiadapt.errors import SchemaError, SpecError

__all__ = ["karpathy"]

ROWS = {
    "coco": {"train": 566_747, "val": 25_010, "test": 25_010},
    "flickr30k": {"train": 145_000, "val": 5_070, "test": 5_000},
    "flickr8k": {"train": 30_000, "val": 5_000, "test": 5_000},
}
MARKS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
BLIP = {"coco": "coco_karpathy_{}.json", "flickr30k": "flickr30k_{}.json"}
PLACES = (".", "karpathy", "caption_datasets", "annotation", "annotations")
PICTURES = (
    *("images", "Images", "flickr30k-images", "flickr30k_images", "Flickr8k_Dataset"),
    *("Flicker8k_Dataset", "."),
)
ADVICE = (
    "Unpack caption_datasets.zip there, beside the pictures: train2014/ and val2014/ for COCO, "
    "images/ or flickr30k-images/ for Flickr"
)
SOURCES = {
    "coco": (
        'Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014',
        "annotations CC BY 4.0; the pictures are their Flickr owners'",
    ),
    "flickr30k": (
        'Young et al., "From image descriptions to visual denotations", TACL 2014',
        "for research; the pictures are their Flickr owners'",
    ),
    "flickr8k": (
        'Hodosh et al., "Framing Image Description as a Ranking Task", JAIR 2013',
        "for research; the pictures are their Flickr owners'",
    ),
}


def karpathy(
    folder: str | Path,
    name: str = "coco",
    *,
    on_error: OnError = "raise",
) -> DataSet:
    """Read dataset_NAME.json, or where there is none the three lists that BLIP reads: a row a caption.

    `image` is the picture and `caption` the text; a picture has several rows, all in one split. COCO's
    restval pictures are training rows. With on_error="missing" the cells of a picture that is not there
    are missing.
    """
    if name not in ROWS:
        raise SpecError(f"name must be one of {', '.join(ROWS)}, got {name!r}")
    root = home(folder, {}, ADVICE)
    items = _whole(root, name) if _list(root, f"dataset_{name}.json") else _blip(root, name)
    frame = one_row_a_text(items, "caption", ["image"], root, on_error)
    citation, licence = SOURCES[name]
    return DataSet(
        name=f"karpathy {name}",
        frame=pd.DataFrame(frame, columns=["image", "caption", "split"]),
        root=root,
        label="caption",
        column_types={"image": "image", "caption": "text"},
        expected=ROWS[name],
        source="https://cs.stanford.edu/people/karpathy/deepimagesent/",
        citation=citation,
        licence=licence,
    ).counted()


def _list(root: Path, name: str) -> Path | None:
    return next((p for place in PLACES if (p := root / place / name).is_file()), None)


def _whole(root: Path, name: str) -> pd.DataFrame:
    path = _list(root, f"dataset_{name}.json") or root
    found = listed(opened_json(path), path, ("filename", "split", "sentences"), "images")
    unknown = sorted({str(e["split"]) for e in found} - MARKS.keys())
    if unknown:
        raise SchemaError(f"{path}: splits must be {', '.join(MARKS)}, got {unknown} too")
    rows = [
        (_place(root, entry), [_raw(s) for s in entry["sentences"]], MARKS[entry["split"]])
        for entry in found
    ]
    return _table(path, rows)


def _raw(sentence: Any) -> str | None:
    return sentence.get("raw") if isinstance(sentence, dict) else None


def _place(root: Path, entry: dict[str, Any]) -> str:
    """Where a picture lies: in the folder that the list names, or one that copies have."""
    if entry.get("filepath"):
        return f"{entry['filepath']}/{entry['filename']}"
    return f"{_pictures(root)}{entry['filename']}"


def _pictures(root: Path) -> str:
    held = next(place for place in PICTURES if (root / place).is_dir())
    return "" if held == "." else f"{held}/"


def _blip(root: Path, name: str) -> pd.DataFrame:
    names = {mark: BLIP.get(name, "-").format(mark) for mark in ("train", "val", "test")}
    lists = {mark: _list(root, file) for mark, file in names.items()}
    if None in lists.values():
        held = sorted(p.name for p in root.iterdir())[:20]
        raise SchemaError(
            f"{root}: a copy must hold dataset_{name}.json, or {', '.join(names.values())}; it holds {held}. "
            f"{ADVICE}"
        )
    rows: list[tuple[str, list[Any], str]] = []
    for mark, path in lists.items():
        captions: dict[str, list[Any]] = {}
        for entry in listed(opened_json(path or root), path or root, ("image", "caption")):
            told = entry["caption"]
            captions.setdefault(str(entry["image"]), []).extend(
                told if isinstance(told, list) else [told]
            )
        rows.extend((image, told, mark) for image, told in captions.items())
    return _table(root, rows)


def _table(path: Path, rows: Sequence[tuple[str, list[Any], str]]) -> pd.DataFrame:
    marks = ("train", "val", "test")
    in_one_split(
        path, {m: [Path(image).name for image, _, mark in rows if mark == m] for m in marks}
    )
    return pd.DataFrame(list(rows), columns=["image", "caption", "split"])
