"""A table of pictures of a world with a caption, a question and its answer each."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from worlds.clips import clip, told
from worlds.drawing import drawn
from worlds.scenes import Scene, scene
from worlds.sentences import caption, question
from worlds.things import FIRST, SHIFTED, World

__all__ = ["WORLDS", "make_clips", "make_table"]

WORLDS = {"first": FIRST, "shifted": SHIFTED}


def make_table(
    folder: str | Path, rows: int = 300, *, world: str = "shifted", seed: int = 0
) -> Path:
    """Write `table.csv` and `pictures/` into `folder`, which is made; the path of the table.

    `shows` lists what is there, for people. Files that exist are replaced. No seed draws the scenes of
    pretraining.
    """
    folder, of, dice = Path(folder), WORLDS[world], _dice(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    found: list[dict[str, str]] = []
    for row in range(rows):
        one, name = scene(of, dice), f"pictures/{row:04d}.png"
        _save(one, of, dice, folder / name)
        asked = question(one, of, dice)
        said = {"caption": caption(one, of, dice), "question": asked.text, "answer": asked.answer}
        found.append({"picture": name, **said, "shows": shows(one)})
    pd.DataFrame(found).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def make_clips(
    folder: str | Path, rows: int = 300, *, world: str = "shifted", seed: int = 0
) -> Path:
    """Write `clips.csv` and a folder of four frames for each clip; the path of the table."""
    folder, of, dice = Path(folder), WORLDS[world], _dice(seed)
    found: list[dict[str, str]] = []
    for row in range(rows):
        one, name = clip(of, dice), f"clips/{row:04d}"
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, frame in enumerate(one.frames):
            _save(frame, of, dice, folder / name / f"{i}.png")
        found.append({"clip": name, "caption": told(one, of, dice)})
    pd.DataFrame(found).to_csv(folder / "clips.csv", index=False)
    return folder / "clips.csv"


def shows(one: Scene) -> str:
    """What there is, such as "small red striped star left of blue box"."""
    named = [
        " ".join(
            w for w in (t.size, t.colour, t.pattern if t.pattern != "plain" else "", t.shape) if w
        )
        for t in one.things
    ]
    first = f" {one.relation} ".join(named[:2]) if one.relation else named[0]
    return ", ".join([first, *named[2:]]) + f"; {one.ground}"


def _dice(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 0, 1])  # pretraining's seeds have two parts


def _save(one: Scene, of: World, dice: np.random.Generator, path: Path) -> None:
    Image.fromarray(drawn(one, of, dice)[0]).save(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw a table of pictures with captions.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--world", choices=sorted(WORLDS), default="shifted")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(make_table(given.folder, given.rows, world=given.world, seed=given.seed))
