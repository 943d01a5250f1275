"""Search pictures by sentence, ask about them and describe them, in a world that pretraining never saw.

    PYTHONPATH=pretraining python examples/demo_search.py [--out runs/demo-search]

The starter vision-language network inside the package knows another world of drawn things: this one
has new colours, shapes, patterns, words, relations and a new style. A few hundred pictures adapt it.
All pictures are drawn by pretraining/worlds; no number printed here says anything about real data.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from worlds.tables import make_table

from multiadapt import (
    Captioner,
    Contrast,
    CrossModalRetriever,
    Frozen,
    QuestionAnswerer,
    Training,
    UniAdapter,
    Unified,
)
from multiadapt.methods._base import Method

METHOD = UniAdapter(Unified(r=32))
SPEAKERS: Mapping[str, Method] = {"zero-shot": Frozen(), "adapted": METHOD}
TRAINING = Training(learning_rate=1e-2, weight_decay=0.05, epochs=8, batch_size=32, patience=3)
ROWS, HELD = 480, 80
Model = CrossModalRetriever | QuestionAnswerer | Captioner


def main(out: Path) -> None:
    """Draw the world, adapt, index, search, ask, describe."""
    console = Console()
    path = make_table(out / "world", ROWS)
    table, root = pd.read_csv(path), path.parent
    train, test = table[:-HELD], table[-HELD:].reset_index(drop=True)
    console.print(f"{path}: {len(train)} pictures to learn from, {HELD} to search, all drawn")

    plain = Contrast(momentum=None)  # a teacher costs a third of the time and helps in long runs
    retriever = CrossModalRetriever(METHOD, contrast=plain, **options())
    fit(console, retriever, train, root, query="caption", target="picture")
    console.print(compared(retriever.evaluate(test, root=root, k=10), HELD))
    find(console, retriever, test, root)

    said = {
        name: speak(console, method, train, test[:4], root) for name, method in SPEAKERS.items()
    }
    for i, row in test[:4].iterrows():
        console.print(f"\n[bold]{row['shows']}[/bold]")
        for name, told in said.items():
            answer, caption = told.loc[i]
            console.print(f"  {name}: {row['question']} {answer} | {caption}")
        console.print(f"  true: {row['answer']} | {row['caption']}")


def options() -> dict[str, Any]:
    return {"backbone": "starter", "training": TRAINING, "verbose": False}


def fit(console: Console, model: Model, train: pd.DataFrame, root: Path, **columns: str) -> None:
    start = time.perf_counter()
    model.fit(train, root=root, **columns)
    trained = sum(part.trainable for part in model.fitted_.model.parts())
    took = time.perf_counter() - start
    console.print(f"{type(model).__name__}: {trained:,} parameters trained in {took:.0f} s")


def compared(found: pd.DataFrame, pool: int) -> Table:
    """Recall both ways, before and after training."""
    table = Table(f"among {pool}", "", "R@1", "R@5", "R@10")
    for way in found.index.unique("way"):
        for model in ("zero-shot", "adapted"):
            values = [found.loc[(way, f"r@{k}", model), "value"] for k in (1, 5, 10)]
            table.add_row(way, model, *(f"{value:.3f}" for value in values))
    return table


def find(console: Console, retriever: CrossModalRetriever, test: pd.DataFrame, root: Path) -> None:
    """Sentences of held-out pictures, what they find, and where their own picture comes."""
    index = retriever.index(test, root=root)
    shows = dict(zip(test["picture"], test["shows"], strict=True))
    for _, row in test[:3].iterrows():
        # By similarity alone: a few hundred pairs do not teach the cross-modal pass to re-rank.
        found = retriever.search(index, row["caption"], k=len(test), rerank=0, root=root)
        rank = 1 + found["id"].tolist().index(row["picture"])
        console.print(f"\n[bold]{row['caption']}[/bold]  (its own picture comes at {rank})")
        for place, name in enumerate(found["id"][:3], 1):
            console.print(f"  {place}. {name} shows {shows[name]}")


def speak(
    console: Console, method: Method, train: pd.DataFrame, some: pd.DataFrame, root: Path
) -> pd.DataFrame:
    """An answer and a caption of each row."""
    answerer, captioner = QuestionAnswerer(method, **options()), Captioner(method, **options())
    fit(console, answerer, train, root, image="picture", question="question", answer="answer")
    fit(console, captioner, train, root, image="picture", caption="caption")
    return pd.DataFrame(
        {
            "answer": answerer.predict(some, root=root),
            "caption": captioner.predict(some, root=root),
        }
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Search a drawn world by sentence.")
    parser.add_argument("--out", type=Path, default=Path("runs/demo-search"))
    main(parser.parse_args().out)
