"""Two baselines written by hand, without multiadapt's encoders, adapters, head or loop."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from multiadapt.reports._cells import Cell
from multiadapt.reports.compare import _Run
from multiadapt.reports.meter import Meter
from multiadapt.tasks.classification import Classification

__all__ = ["PROBES", "Setting"]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STRENGTHS = tuple(10.0**power for power in np.arange(-4.5, 1.1, 0.5))
EPOCHS, BATCH, RATE = 12, 64, 1e-3


@dataclass(frozen=True)
class Setting:
    """The rows, files and options of one run."""

    table: pd.DataFrame
    root: Path
    trunk: Path
    run: _Run
    label: str
    attributes: Sequence[str]
    pixels: int

    def rows(self, split: str) -> np.ndarray:
        if split == "test":
            return self.run.test
        marks = self.table["split"].to_numpy()[self.run.train]
        return self.run.train[marks == split]

    def images(self, rows: np.ndarray) -> Tensor:
        found = []
        for name in self.table["image"].iloc[rows]:
            image = Image.open(self.root / name).convert("RGB")
            found.append(np.asarray(image.resize((self.pixels,) * 2, Image.Resampling.BICUBIC)))
        x = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255
        return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]

    def cell(
        self, name: str, meter: Meter, scores: np.ndarray, trainable: int, epochs: int
    ) -> Cell:
        task = Classification()
        target = task.learn(self.table[self.label].iloc[self.run.train])
        record: dict[str, Any] = {
            "method": name,
            "run": self.run.name,
            "seed": self.run.seed,
            "train_rows": len(self.run.train),
            "test_rows": len(self.run.test),
            "seconds": meter.seconds,
            "peak_mb": meter.peak_mb,
            "task": task.to_dict(),
            "target": target.state(),
            "epochs": epochs,
            "trainable": trainable,
        }
        return Cell(record, scores)


@dataclass(frozen=True)
class _Parts:
    """Trunk states or vectors, one-hot attributes and class numbers of each split."""

    images: dict[str, Tensor]
    attributes: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def _parts(setting: Setting, network: nn.Module, stages: int | None) -> _Parts:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    attributes = setting.table[list(setting.attributes)]
    encoder.fit(attributes.iloc[setting.rows("train")])
    classes = np.unique(setting.table[setting.label].iloc[setting.run.train])
    images, hot, labels = {}, {}, {}
    for split in ("train", "val", "test"):
        rows = setting.rows(split)
        parts = []
        for i in range(0, len(rows), BATCH):
            with torch.no_grad():
                x = network.embedder(setting.images(rows[i : i + BATCH]))
                for stage in network.encoder.stages[:stages]:
                    x = stage(x)
            parts.append(x if stages is not None else x.mean((2, 3)))
        images[split] = torch.cat(parts)
        hot[split] = encoder.transform(attributes.iloc[rows])
        labels[split] = np.searchsorted(classes, setting.table[setting.label].iloc[rows])
    return _Parts(images, hot, labels)


def linear_probe(setting: Setting) -> Cell:
    """Logistic regression on standardised trunk features and one-hot attributes, C chosen on validation."""
    with Meter("cpu") as meter:
        parts = _parts(setting, _trunk(setting.trunk), None)
        scaler = StandardScaler().fit(parts.images["train"].numpy())
        x = {
            s: np.hstack([scaler.transform(parts.images[s].numpy()), parts.attributes[s]])
            for s in parts.images
        }
        y = parts.labels
        fitted = [
            LogisticRegression(C=c, max_iter=2000).fit(x["train"], y["train"]) for c in STRENGTHS
        ]
        best = max(fitted, key=lambda m: m.score(x["val"], y["val"]))
    scores = best.decision_function(x["test"]).astype(np.float32)
    return setting.cell("linear probe", meter, scores, best.coef_.size + best.intercept_.size, 0)


class _Corrected(nn.Module):
    """A block of the trunk with a bottleneck of convolutions added to its output."""

    def __init__(self, block: nn.Module, channels: int) -> None:
        super().__init__()
        self.block = block
        self.down = nn.Conv2d(channels, 16, 3, padding=1)
        self.up = nn.Conv2d(16, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return y + self.norm(self.up(F.relu(self.down(y))))


class _Net(nn.Module):
    """The last two stages with an adapter after each block, and a linear head."""

    def __init__(self, network: nn.Module, attributes: int, classes: int) -> None:
        super().__init__()
        blocks = []
        for stage, channels in zip(
            network.encoder.stages[-2:], network.config.hidden_sizes[-2:], strict=True
        ):
            blocks += [_Corrected(block, channels) for block in stage.layers]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels + attributes, classes)

    def forward(self, x: Tensor, attributes: Tensor) -> Tensor:
        return self.head(torch.cat([self.blocks(x).mean((2, 3)), attributes], dim=1))

    def train(self, mode: bool = True) -> "_Net":  # noqa: FBT001, FBT002 - torch's signature
        super().train(mode)
        for block in self.blocks:
            block.block.eval()
        return self


def conv_adapter(setting: Setting) -> Cell:
    """Plain PyTorch: 3x3 down to 16, ReLU, 1x1 up, BatchNorm from zero, after every block of the last
    two stages; one-hot attributes; linear head. AdamW, 1e-3, batch 64, best of 12 epochs on validation."""
    torch.manual_seed(setting.run.seed)
    with Meter("cpu") as meter:
        network = _trunk(setting.trunk)
        parts = _parts(setting, network, len(network.encoder.stages) - 2)
        net = _Net(
            network, parts.attributes["train"].shape[1], int(parts.labels["train"].max()) + 1
        )
        epochs = _train(net, parts, setting.run.seed)
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    scores = _scores(net, parts, "test").numpy()
    return setting.cell("hand-written conv adapter", meter, scores, trainable, epochs)


def _train(net: _Net, parts: _Parts, seed: int) -> int:
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=RATE)
    hot, y = torch.tensor(parts.attributes["train"]).float(), torch.tensor(parts.labels["train"])
    generator, best, kept, chosen = torch.Generator().manual_seed(seed), -1.0, {}, 0
    for epoch in range(EPOCHS):
        net.train()
        for rows in torch.randperm(len(y), generator=generator).split(BATCH):
            loss = F.cross_entropy(net(parts.images["train"][rows], hot[rows]), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        answer = _scores(net, parts, "val").argmax(1).numpy()
        accuracy = float((answer == parts.labels["val"]).mean())
        if accuracy > best:
            best, chosen = accuracy, epoch + 1
            kept = {k: t.clone() for k, t in net.state_dict().items()}
    net.load_state_dict(kept)
    return chosen


@torch.no_grad()
def _scores(net: _Net, parts: _Parts, split: str) -> Tensor:
    net.eval()
    x, hot = parts.images[split], torch.tensor(parts.attributes[split]).float()
    rows = range(0, len(x), BATCH)
    return torch.cat([net(x[i : i + BATCH], hot[i : i + BATCH]) for i in rows])


def _trunk(folder: Path) -> nn.Module:
    network = AutoModel.from_pretrained(folder).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # half again as fast on a CPU


PROBES = {"linear probe": linear_probe, "hand-written conv adapter": conv_adapter}
