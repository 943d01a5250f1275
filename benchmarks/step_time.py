"""Time of a training step: multiadapt's loop against one written by hand, same adapters, same tensors.

    python benchmarks/step_time.py --out benchmarks/results/step_time.csv

ResNet-18 at 128 pixels with random weights, generated pictures, two numbers and a category in an mlp
encoder, ten classes. The hand-written side has the frozen part computed before, as multiadapt keeps it, in
tensors; it writes its adapters into the network and runs forward, loss, backward, AdamW as torch gives it
by default (multiadapt asks for torch's fused update, which rounds a little differently). Its frozen layers are
torch's own, which keep what a gradient of their weights would need. Both sides start
from the same weights and meet the same batches, and their losses are checked to agree. They run in turns,
a step of one and then the same step of the other: multiadapt tells of every step, and is timed from telling
to telling. Times are CPU seconds of one thread. The first epoch warms up. A step's ratio is the median over
steps, those left out that follow the end of an epoch; an epoch's has everything in it.
"""

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import record
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt import Full, ImageEncoder, MLPEncoder, PlainLoRA, TIAdapter, Training
from multiadapt.data.reading import Reading
from multiadapt.feed import Feed
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.model import AdaptedModel, build_encoders
from multiadapt.tasks.classification import Classification
from multiadapt.training import Data, Event, Session, train
from multiadapt.types import Column, Stream

VARIANTS = ("embedding", "bc1", "bc2", "full")
PIXELS, CLASSES = 128, 10
RATE, SEED = 1e-3, 0
COLUMNS = {"width": "numeric", "height": "numeric", "colour": "categorical", "photo": "image"}


def table(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    photos = list(rng.integers(0, 256, (rows, PIXELS, PIXELS, 3), dtype=np.uint8))
    return pd.DataFrame(
        {
            "width": rng.normal(size=rows),
            "height": rng.normal(size=rows),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "photo": pd.Series(photos, dtype=object),
        }
    )


class Library:
    """multiadapt's own model, feed and loop, one batch at a time."""

    def __init__(
        self,
        variant: str,
        frame: pd.DataFrame,
        labels: pd.Series,
        network: str = "random:resnet-18",
        *,
        pixels: bool = False,
    ) -> None:
        """`pixels`: nothing of the picture's network is computed before."""
        columns = [Column(n, k, "told") for n, k in COLUMNS.items()]  # type: ignore[arg-type]
        streams = (
            Stream("tabular", "tabular", tuple(columns[:3])),
            Stream("photo", "image", (columns[3],)),
        )
        specs = {
            "tabular": MLPEncoder(dropout=0.0),
            "photo": ImageEncoder(network, size=PIXELS),
        }
        target = Classification().learn(labels)
        encoded = target.encode(labels)
        others = {"full": Full(), "lora": PlainLoRA()}
        method = others.get(variant) or TIAdapter(ImageBranch(variant))  # type: ignore[arg-type]
        torch.manual_seed(0)
        encoders = build_encoders(streams, specs, "classification")
        encoders["tabular"].learn(frame[list(COLUMNS)[:3]], target.labels(encoded, None), 0)
        self.model = AdaptedModel(encoders, method, target)
        self.feed = Feed(
            encoders,
            frame,
            Reading(None),
            {**self.model.cuts(), "photo": 0} if pixels else self.model.cuts(),
            torch.device("cpu"),
            {},
            budget=int(8e9),
        )
        self.feed.keep()
        self.answer = torch.as_tensor(encoded)
        self.data = Data(self.feed, self.answer, torch.ones(len(frame)))

    def train(
        self,
        batch: int,
        epochs: int,
        tell: Callable[[Event], None],
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        training = Training(
            batch_size=batch, learning_rate=RATE, epochs=epochs, decay=1.0, precision=precision
        )
        train(self.model, self.data, None, training, seed=SEED, session=Session(tell=tell))


class Corrected(nn.Module):
    """A block followed by its adapter, written into the network."""

    def __init__(self, block: nn.Module, adapter: Any) -> None:
        super().__init__()
        self.block, self.down, self.up, self.norm = block, adapter.down, adapter.up, adapter.norm

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return y + self.norm(self.up(F.relu(self.down(y))))


class Embedded(nn.Module):
    def __init__(self, adapter: Any) -> None:
        super().__init__()
        self.down, self.up = adapter.down, adapter.up

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.relu(self.down(x)))


class Net(nn.Module):
    """The same network without multiadapt around it: blocks from the cut on, perceptron, head."""

    def __init__(self, library: Library, variant: str) -> None:
        super().__init__()
        table, photo = library.model.encoder("tabular"), library.model.encoder("photo")
        family = copy.deepcopy(photo.backbone.family)  # type: ignore[union-attr]
        for module in family.network.modules():
            module._forward_hooks.clear()
            vars(module).pop("forward", None)
        adapters = {s.key: copy.deepcopy(a) for s, a in library.model.placed.items()}
        cut = library.feed.cuts["photo"]
        blocks = [] if cut else [family.network.embedder]
        if (late := adapters.get(f"photo/{cut - 1}/block")) is not None:
            blocks.append(Corrected(nn.Identity(), late))  # what is kept is that block's output
        for index in range(cut, photo.blocks):
            own = adapters.get(f"photo/{index}/block")
            layer = family.layers[index]
            blocks.append(layer if own is None else Corrected(layer, own))
        self.blocks = nn.Sequential(*blocks)
        self.frozen = cut > 0
        parts = copy.deepcopy((table.numbers, table.categories, table.body))  # type: ignore[union-attr]
        self.numbers, self.categories, self.body = parts
        self.row = Embedded(adapters["tabular/0/pooled"]) if variant != "full" else nn.Identity()
        pooled = adapters.get(f"photo/{photo.blocks}/pooled")
        self.picture = nn.Identity() if pooled is None else Embedded(pooled)
        self.head = copy.deepcopy(library.model.head.linear)  # type: ignore[union-attr]

    def train(self, mode: bool = True) -> "Net":  # noqa: FBT001, FBT002 - torch's signature
        super().train(mode)
        for module in self.blocks:
            (module.block if isinstance(module, Corrected) else module).eval()
        return self

    def forward(self, x: Tensor, numbers: Tensor, codes: Tensor) -> Tensor:
        x = self.blocks(x)
        picture = self.picture(x.mean((2, 3)) if x.ndim == 4 else x)
        cells = torch.cat([self.numbers(numbers), self.categories(codes)], dim=1)
        row = self.row(self.body(cells.flatten(1)))
        return self.head(torch.cat([row, picture], dim=1))


class ByHand:
    """Prepared tensors, a network and an optimizer: what one writes without a library."""

    def __init__(self, library: Library, variant: str) -> None:
        kept, photo = library.feed._kept, library.feed._kept["photo"].tensors
        if library.feed.cuts["photo"] == 0:
            backbone: Any = library.model.encoder("photo").get_submodule("backbone")
            photo = backbone.preparation.numbers(photo)
        (self.x,) = photo.values()
        if self.x.ndim == 4:
            self.x = self.x.to(memory_format=torch.channels_last)
        self.numbers = kept["tabular"].tensors["numbers"]
        self.codes = kept["tabular"].tensors["codes"]
        self.answer = library.answer
        self.net = Net(library, variant)
        trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)

    def step(self, rows: Tensor) -> float:
        self.net.train()
        scores = self.net(self.x[rows], self.numbers[rows], self.codes[rows])
        loss = F.cross_entropy(scores, self.answer[rows])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


class Turns:
    """Told of every step of multiadapt's, it runs the same step by hand and times both."""

    def __init__(self, theirs: ByHand, rows: int, batch: int) -> None:
        self.theirs, self.rows, self.batch = theirs, rows, batch
        self.ours_s: list[list[float]] = []
        self.theirs_s: list[list[float]] = []
        self.gap, self.total = 0.0, 0.0
        self.since = time.process_time()

    def __call__(self, event: Event) -> None:
        passed = time.process_time() - self.since
        if event.rows < event.of or len(self.ours_s[-1]) < self.rows // self.batch:
            if event.rows == self.batch:
                self.ours_s.append([])
                self.theirs_s.append([])
                self.total = 0.0
            self.ours_s[-1].append(passed)
            self._step(event)
        self.since = time.process_time()

    def _step(self, event: Event) -> None:
        order = np.random.default_rng([SEED, event.epoch - 1]).permutation(self.rows)
        rows = torch.from_numpy(order[event.rows - self.batch : event.rows])
        start = time.process_time()
        self.total += self.theirs.step(rows) * len(rows)
        self.theirs_s[-1].append(time.process_time() - start)
        if event.epoch == 1:  # later, rounding in directions without a gradient has grown by AdamW
            self.gap = max(self.gap, abs(self.total / event.rows - event.loss))


def measure(variant: str, given: argparse.Namespace) -> dict[str, Any]:
    frame = table(given.rows)
    labels = pd.Series(np.arange(given.rows) % CLASSES, name="label")
    ours = Library(variant, frame, labels)
    turns, load = Turns(ByHand(ours, variant), given.rows, given.batch), record.load()
    ours.train(given.batch, given.turns + 1, turns)
    if not turns.gap < 1e-3:
        raise SystemExit(f"{variant}: the two sides differ, their mean losses by {turns.gap}")
    mine, hand = (np.array(s[1:]) for s in (turns.ours_s, turns.theirs_s))
    ratio = (mine[:, 1:] / hand[:, 1:]).ravel()
    low, high = _bootstrap(ratio)
    return {
        "variant": variant,
        "batch": given.batch,
        "ours_ms": 1000 * float(np.median(mine[:, 1:])),
        "by_hand_ms": 1000 * float(np.median(hand[:, 1:])),
        "step_ratio": float(np.median(ratio)),
        "step_ratio_low": low,
        "step_ratio_high": high,
        "epoch_ratio": float(np.median(mine.sum(1) / hand.sum(1))),
        "steps": len(ratio),
        "epochs": given.turns,
        "largest_loss_gap": turns.gap,
        "load": load,
    }


def _bootstrap(ratio: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratio, (2000, len(ratio))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0], "out")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [measure(v, given) for v in given.variants.split(",")]
    record.write(given.out, rows, record.origin("step_time.py", given))


if __name__ == "__main__":
    main()
