"""What mask tokens cost: CPU time a row of U2A with tokens beside the same without, in turns.

    python benchmarks/token_cost.py --out benchmarks/results/token_cost.csv

Networks of the usual sizes with random weights, whose values cost nothing: a picture of 224 pixels through
ViT-Tiny or ResNet-18, a sentence of some 20 words through MiniLM, three numbers in a trained network; LoRA of
rank 1 on every block, batches of 16. A step of training is forward, loss and backward; its rows are
complete, and "dropping" takes a modality from most of them for the loss. At prediction rows are complete, or all
lack their picture. Each turn runs every configuration once; medians over turns, ratios to "zeros" of the same turn.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import record
import torch
from torch import Tensor

from multiadapt import U2A, ImageEncoder, MLPEncoder, TextEncoder
from multiadapt.data.reading import Reading
from multiadapt.feed import Feed
from multiadapt.missing._base import FillSpec
from multiadapt.missing.token import MaskToken
from multiadapt.missing.zero import Zero
from multiadapt.model import AdaptedModel, build_encoders
from multiadapt.tasks.classification import Classification
from multiadapt.types import Column, Inputs, Stream

ROWS, CLASSES, SEED = 16, 4, 0
WORDS = ["red", "small", "soft", "shirt", "shoe", "bag", "watch", "for", "men", "of", "summer"]
NUMBERS = ("width", "height", "weight")
FILLINGS: dict[str, FillSpec] = {
    "zeros": Zero(),
    "zeros and dropping": Zero(drop=None),
    "tokens": MaskToken(),
    "tokens, full visibility": MaskToken(visibility="full"),
}
Batch = dict[str, Inputs]


def table() -> pd.DataFrame:
    rng = np.random.default_rng(SEED)
    photos = list(rng.integers(0, 256, (ROWS, 224, 224, 3), dtype=np.uint8))
    return pd.DataFrame(rng.normal(size=(ROWS, 3)), columns=list(NUMBERS)).assign(
        note=[" ".join(rng.choice(WORDS, 20)) for _ in range(ROWS)],
        photo=pd.Series(photos, dtype=object),
    )


class Side:
    """U2A with one filling: a step of training, and predictions."""

    def __init__(self, filling: FillSpec, image: str) -> None:
        frame, labels = table(), pd.Series(np.arange(ROWS) % CLASSES, name="label")
        columns = tuple(Column(n, "numeric", "told") for n in NUMBERS)
        streams = (
            Stream("tabular", "tabular", columns),
            Stream("photo", "image", (Column("photo", "image", "told"),)),
            Stream("note", "text", (Column("note", "text", "told"),)),
        )
        specs = {
            "tabular": MLPEncoder(),
            "photo": ImageEncoder(image),
            "note": TextEncoder("random:minilm"),
        }
        target = Classification().learn(labels)
        encoded = target.encode(labels)
        torch.manual_seed(SEED)
        encoders = build_encoders(streams, specs, "classification")
        encoders["tabular"].learn(frame[list(NUMBERS)], target.labels(encoded, None), SEED)
        self.model = AdaptedModel(encoders, U2A(missing=filling), target)
        self.answer: Tensor = torch.as_tensor(encoded)
        self.complete = self._batch(frame)
        self.holes = self._batch(frame.assign(photo=None))

    def _batch(self, frame: pd.DataFrame) -> Batch:
        encoders = dict(zip(self.model.streams, self.model.encoders, strict=True))
        feed = Feed(
            encoders, frame, Reading(None), self.model.cuts(), torch.device("cpu"), {}, budget=0  # type: ignore[arg-type]
        )  # fmt: skip
        return next(feed.batches([np.arange(ROWS)]))

    def step(self) -> None:
        self.model.train()
        self.model.loss(self.complete, self.answer, torch.ones(ROWS)).backward()
        self.model.zero_grad()

    @torch.no_grad()
    def complete_rows(self) -> None:
        self.model.eval()(self.complete)

    @torch.no_grad()
    def rows_with_holes(self) -> None:
        self.model.eval()(self.holes)


WORK: dict[str, Callable[[Side], None]] = {
    "training step": Side.step,
    "prediction, complete rows": Side.complete_rows,
    "prediction, no picture": Side.rows_with_holes,
}


def measure(image: str, turns: int) -> list[dict[str, Any]]:
    sides = {name: Side(filling, f"random:{image}") for name, filling in FILLINGS.items()}
    taken = {(what, name): [] for what in WORK for name in sides}
    for turn in range(turns + 1):
        for what, work in WORK.items():
            for name, side in sides.items():
                start = time.process_time()
                work(side)
                if turn:  # the first warms up
                    taken[what, name].append(time.process_time() - start)
    return [
        {
            "image": image,
            "what": what,
            "filling": name,
            "ms_a_row": 1000 * float(np.median(seconds)) / ROWS,
            "ratio": float(np.median(np.array(seconds) / np.array(taken[what, "zeros"]))),
            "turns": turns,
            "load": record.load(),
        }
        for (what, name), seconds in taken.items()
    ]


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "out")
    parser.add_argument("--turns", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [row for image in ("vit-tiny", "resnet-18") for row in measure(image, given.turns)]
    record.write(given.out, rows, record.origin("token_cost.py", given))


if __name__ == "__main__":
    main()
