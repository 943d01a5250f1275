"""MM-IMDb: poster and plot of 25,959 films, 23 genres, any number of them for a film.

Arevalo et al., "Gated Multimodal Units for Information Fusion", https://arxiv.org/abs/1702.01992.
Format: the archive mmimdb.tar.gz of https://github.com/johnarevalo/gmu-mmimdb (its own page is
http://lisi1.unal.edu.co/mmimdb/, a mirror https://archive.org/details/mmimdb), `make_dataset.py` there;
and the folders that https://github.com/YiLunLee/missing_aware_prompts (DATA.md) makes of it.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from multiadapt.data.bad_cells import BadCell
from multiadapt.datasets._base import DataSet
from multiadapt.datasets._files import (
    OnError,
    checked,
    home,
    in_one_split,
    opened_json,
    refuse,
    split_lists,
)
from multiadapt.datasets._genres import joined
from multiadapt.errors import SchemaError, SpecError

__all__ = ["mm_imdb"]

PLOTS = ("longest", "first", "all")
ADVICE = (
    "Unpack mmimdb.tar.gz and give the folder that holds split.json. The single file "
    "multimodal_imdb.hdf5 is not read: its plots are numbers of words whose list is a pickle"
)


def mm_imdb(folder: str | Path, *, plot: str = "longest", on_error: OnError = "raise") -> DataSet:
    """Read split.json, and of every film that it names ID.json and ID.jpeg.

    The two files lie in dataset/, or in labels/ and images/. `plot` tells which of a film's plots is its
    text: the longest, as in the publication; the first; or all, one after the other. With
    on_error="missing" a poster that is not there is a missing cell; a film without its ID.json is always
    an error.
    """
    if plot not in PLOTS:
        raise SpecError(f"plot must be one of {PLOTS}, got {plot!r}")
    root = home(folder, {"split.json": "the ids of train, dev and test"}, ADVICE)
    one = (root / "dataset").is_dir()
    texts, posters = ("dataset", "dataset") if one else ("labels", "images")
    home(root, {texts: "ID.json of each film", posters: "ID.jpeg of each film"}, ADVICE)
    splits = in_one_split(root / "split.json", split_lists(root / "split.json"))
    frame = _films(root, texts, splits, plot)
    frame["poster"] = [f"{posters}/{name}.jpeg" for name in frame["id"]]
    frame["split"] = list(splits.values())
    return DataSet(
        name="mm_imdb",
        frame=checked(frame, ["poster"], root, on_error),
        root=root,
        label="genres",
        separator="|",
        column_types={"id": "ignore", "plot": "text", "poster": "image"},
        expected={"train": 15_552, "val": 2_608, "test": 7_799},
        source="https://github.com/johnarevalo/gmu-mmimdb",
        citation='Arevalo et al., "Gated Multimodal Units for Information Fusion", 2017',
        licence="none stated with the archive; plots and posters are their owners'",
    ).counted()


def _films(root: Path, texts: str, splits: dict[str, str], plot: str) -> pd.DataFrame:
    rows: list[tuple[str, str | None, str]] = []
    bad: list[BadCell] = []
    for position, name in enumerate(splits):
        try:
            held = opened_json(root / texts / f"{name}.json")
        except SchemaError as error:
            bad.append(BadCell(name, position, "genres", f"{texts}/{name}.json", str(error)))
            continue
        if not (isinstance(held, dict) and isinstance(held.get("genres"), list)):
            bad.append(
                BadCell(name, position, "genres", f"{texts}/{name}.json", "no list of genres")
            )
            continue
        rows.append((name, _plot(held.get("plot"), plot), joined(held["genres"])))
    refuse(bad, len(splits), root, "every film of split.json must have its genres in ID.json")
    return pd.DataFrame(rows, columns=["id", "plot", "genres"])


def _plot(told: Any, which: str) -> str | None:
    listed = told if isinstance(told, list) else [told]
    plots = [p for p in listed if isinstance(p, str) and p.strip()]
    if not plots:
        return None
    return {"longest": max(plots, key=len), "first": plots[0], "all": " ".join(plots)}[which]
