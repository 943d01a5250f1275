r"""Pretrain the starter tabular encoders: two small TabICLs, from scratch, on synthetic tables.

    python pretraining/tabular.py --task classification --steps 2000 --out FIRST --log LOG
    python pretraining/tabular.py --task classification --steps 700 --seed 1 --rate 1.5e-3 \
        --start FIRST/tabular-classifier --tables FIRST/tables --out SECOND --log LOG

and for the regressor 1200 and 900 steps. The second run sees tables of every size from its start.

The columns come from tabicl's own prior (`tabicl.prior`, mix_scm; it needs xgboost). Most of that
prior's targets cannot be predicted by any model, so they are kept where they can, and otherwise
the target is a random function of the columns, a cluster, or a class that moves the columns.
Generating columns is slower than learning from them: every table is generated once, kept under
`--tables`, and shown many times, each time with other rows, another context length, another
target and the columns in another order. The same tables serve both tasks.

A run is a function of its seed, its steps and the thread count: step i draws its batch from
(seed, i), so a run that was stopped goes on where it was. The clock enters only when it is ahead
of the steps (see `progress`); the log says how often that happened. One thread is enough.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tabicl._model.tabicl import TabICL
from torch import Tensor, nn

ARCHITECTURE = {
    "embed_dim": 32,
    "col_num_blocks": 2,
    "col_nhead": 2,
    "col_num_inds": 16,
    "col_affine": False,
    "col_feature_group": "same",
    "col_feature_group_size": 3,
    "col_target_aware": True,
    "col_ssmax": "ssmax",
    "row_num_blocks": 2,
    "row_nhead": 2,
    "row_num_cls": 3,
    "row_rope_interleaved": False,
    "icl_num_blocks": 5,
    "icl_nhead": 4,
    "icl_ssmax": "ssmax",
    "ff_factor": 2,
    "zero_init": False,
}
STARTERS = {"classification": "tabular-classifier", "regression": "tabular-regressor"}
HEADS = {
    "classification": {"max_classes": 10},
    "regression": {"max_classes": 0, "num_quantiles": 99},
}

TABLES_PER_CHUNK = 64
CHUNK_ROWS = (256, 256, 512, 256, 256, 768, 256, 512)  # chunk i has CHUNK_ROWS[i % 8] rows a table
HELD_OUT_CHUNKS = 8  # the last ones: never trained on
CELLS_PER_STEP = 12_000  # rows x columns x tables in one step: steps cost about the same
IGNORED = -100  # the target of a query row whose class the context does not show


@dataclass(frozen=True)
class Table:
    """One synthetic table: every row, every column, one continuous target."""

    features: np.ndarray
    target: np.ndarray


# Tables ---------------------------------------------------------------------------------------


def seed_everything(seed: int) -> None:
    """The prior draws from all three generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def write_chunk(path: Path, index: int) -> None:
    """Chunk i is always the same, whatever the run's seed. In every third, features are effects."""
    from tabicl.prior import PriorDataset  # needs xgboost, which only this function does
    from tabicl.prior._prior_config import DEFAULT_FIXED_HP

    seed_everything(index)
    prior = PriorDataset(
        regression=True,
        batch_size=TABLES_PER_CHUNK,
        batch_size_per_gp=2,
        min_features=2,
        max_features=60,
        log_n_features=True,
        max_seq_len=CHUNK_ROWS[index % len(CHUNK_ROWS)],
        prior_type="mix_scm",
        scm_fixed_hp=DEFAULT_FIXED_HP | {"is_causal": index % 3 == 1},
        n_jobs=1,
    )
    features, target, widths, _, _ = prior.get_batch()
    unfinished = path.with_suffix(".part")
    tensors = {"features": features.half(), "target": target, "widths": widths}
    save_file(tensors, unfinished)
    unfinished.rename(path)


def read_chunk(path: Path) -> Iterator[Table]:
    """The chunk's tables; a table whose target is constant teaches nothing and is left out."""
    chunk = load_file(path)
    columns = (chunk[key] for key in ("features", "target", "widths"))
    for features, target, width in zip(*columns, strict=True):
        table = Table(features[:, : int(width)].float().numpy(), target.numpy())
        if np.isfinite(table.features).all() and table.target.std() > 0.1:
            yield table


def load_tables(folder: Path, chunks: int) -> tuple[list[Table], list[Table]]:
    """Training and held-out tables, each sorted by width; whatever is missing is generated."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"tables-{index:04d}.safetensors" for index in range(chunks)]
    for index, path in enumerate(paths):
        if not path.exists():
            write_chunk(path, index)
    groups = paths[:-HELD_OUT_CHUNKS], paths[-HELD_OUT_CHUNKS:]
    loaded = ([table for path in group for table in read_chunk(path)] for group in groups)
    training, held_out = (sorted(t, key=lambda table: table.features.shape[1]) for t in loaded)
    return training, held_out


# Episodes -------------------------------------------------------------------------------------


def standardised(values: np.ndarray, context: int) -> np.ndarray:
    """Zero mean, unit spread on the context rows, as TabICL's own preprocessing does."""
    mean, spread = values[:context].mean(0), values[:context].std(0)
    spread = np.where(spread < 1e-3, 1.0, spread)
    return np.clip((values - mean) / spread, -20, 20).astype(np.float32)


def predictability(table: Table, rng: np.random.Generator) -> float:
    """R2 on half of the rows of a ridge regression on the columns and 48 random functions of them."""
    features = np.clip(table.features, -4, 4)
    weights = rng.normal(size=(features.shape[1], 48)) / np.sqrt(features.shape[1])
    bent = np.tanh(2 * features @ weights + rng.normal(size=48))
    inputs = np.column_stack([features, bent, np.ones(len(features))])
    half = len(inputs) // 2
    known, asked = inputs[:half], inputs[half:]
    penalty = 0.02 * half * np.eye(inputs.shape[1])
    solved = np.linalg.solve(known.T @ known + penalty, known.T @ table.target[:half])
    error = table.target[half:] - asked @ solved
    return float(1 - (error**2).mean() / (table.target[half:].var() + 1e-6))


def prior_target(table: Table, rng: np.random.Generator) -> Table | None:
    """The prior's own target or, as often, a column, which then gives its place to that target.

    Most of them are noise to any model: None for those.
    """
    if rng.random() < 0.5:
        column = int(rng.integers(table.features.shape[1]))
        features = table.features.copy()
        features[:, column] = table.target
        table = Table(features, table.features[:, column])
    if len(np.unique(table.target)) < 16 or predictability(table, rng) < 0.1:
        return None
    return table


BENDS = (np.tanh, np.sin, np.square, np.abs, np.sign, lambda x: np.maximum(x, 0))


def function_target(table: Table, rng: np.random.Generator) -> Table:
    """A random function of some columns, with some noise: linear, bent, or in between."""
    columns = np.clip(table.features, -4, 4)
    width = columns.shape[1]
    seen = columns[:, rng.choice(width, int(rng.integers(1, min(width, 30) + 1)), replace=False)]
    straight = seen @ rng.normal(size=seen.shape[1])
    hidden = seen @ rng.normal(size=(seen.shape[1], 6)) / np.sqrt(seen.shape[1])
    bend = BENDS[rng.integers(len(BENDS))]
    bent = bend(rng.uniform(0.5, 2) * hidden + rng.normal(size=6)) @ rng.normal(size=6)
    share = rng.choice([0.0, rng.random(), 1.0])
    target = share * straight / (straight.std() + 1e-6) + (1 - share) * bent / (bent.std() + 1e-6)
    noise = rng.choice([0.0, 0.1, 0.3, 0.6]) * rng.normal(size=len(target))
    return Table(table.features, target + noise)


def continuous_target(table: Table, rng: np.random.Generator) -> Table:
    prior = prior_target(table, rng) if rng.random() < 0.5 else None
    return prior or function_target(table, rng)


def thresholded(
    table: Table, classes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The prior's own way to classes: cut the target at random ranks or at random values."""
    table = continuous_target(table, rng)
    target = table.target
    if rng.random() < 0.5:
        cuts = rng.choice(target, classes - 1)
    else:
        cuts = rng.normal(target.mean(), target.std(), classes - 1)
    return table.features, (target[:, None] > cuts).sum(1)


def clustered(
    table: Table, classes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Classes without an order: the nearest of a few rows, seen through a few columns."""
    width = table.features.shape[1]
    seen = rng.choice(width, min(width, int(rng.integers(1, 13))), replace=False)
    view = np.clip(table.features[:, seen], -4, 4) * rng.uniform(0.2, 1.0, len(seen))
    centres = view[rng.choice(len(view), classes, replace=False)]
    return table.features, ((view[:, None] - centres) ** 2).sum(2).argmin(1)


def shifted(table: Table, classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random classes that each move the mean of some columns."""
    rows, width = table.features.shape
    labels = rng.choice(classes, rows, p=rng.dirichlet(np.full(classes, 3.0)))
    moved = rng.random(width) < rng.uniform(0.2, 1.0)
    strength = rng.uniform(0.5, 3.0) / np.sqrt(max(1, moved.sum()))
    means = strength * rng.normal(size=(classes, width)) * moved
    return table.features + means[labels], labels


def relabelled(labels: np.ndarray, context: int, rng: np.random.Generator) -> np.ndarray | None:
    """Classes renumbered at random among those the context shows; None if it shows only one."""
    shown, counts = np.unique(labels[:context], return_counts=True)
    if len(shown) < 2 or counts.max() > context - 2:
        return None
    names = np.full(labels.max() + 1, IGNORED)
    names[shown] = rng.permutation(len(shown))
    return names[labels]


def classification_target(
    table: Table, context: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    labels = None
    while labels is None:
        classes = 2 if rng.random() < 0.35 else int(rng.integers(2, 11))
        kind = (thresholded, thresholded, clustered, shifted)[rng.integers(4)]
        features, labels = kind(table, classes, rng)
        labels = relabelled(labels, context, rng)
    return features, labels


def regression_target(
    table: Table, context: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    table = continuous_target(table, rng)
    return table.features, np.clip(standardised(table.target, context), -6, 6)


TARGETS = {"classification": classification_target, "regression": regression_target}


def episode(
    table: Table, task: str, rows: int, context: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Other rows, another target, the columns in another order."""
    chosen = rng.choice(len(table.target), rows, replace=False)
    table = Table(table.features[chosen], table.target[chosen])
    features, target = TARGETS[task](table, context, rng)
    features = features[:, rng.permutation(features.shape[1])]
    return standardised(features, context), target


def batch(
    tables: list[Table], task: str, done: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, int]:
    """Tables of similar width, cut to the narrowest, with one length and one context length.

    Small tables first: they cost little, so that a step shows many, and reading in context is
    learned on them. The largest come in when half of the run is `done`.
    """
    most_rows = int(160 * (768 / 160) ** min(1.0, 2 * done))
    most_columns = int(6 * (60 / 6) ** min(1.0, 2 * done))
    rows = int(np.exp(rng.uniform(np.log(48), np.log(most_rows))))
    context = int(rows * rng.uniform(0.3, 0.9))
    fitting = [t for t in tables if len(t.target) >= rows and t.features.shape[1] <= most_columns]
    start = int(rng.integers(len(fitting)))
    width = fitting[start].features.shape[1]
    size = int(np.clip(CELLS_PER_STEP // (rows * (width + 2)), 2, 48))
    near = fitting[max(0, start - 2 * size) : start + 2 * size]
    picked = rng.choice(len(near), min(size, len(near)), replace=False)
    pairs = [episode(near[i], task, rows, context, rng) for i in picked]
    narrowest = min(features.shape[1] for features, _ in pairs)
    features = np.stack([features[:, :narrowest] for features, _ in pairs])
    target = np.stack([target for _, target in pairs])
    return torch.from_numpy(features), torch.from_numpy(target), context


# Learning -------------------------------------------------------------------------------------


def classification_loss(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=IGNORED)


def regression_loss(output: Tensor, target: Tensor) -> Tensor:
    """Pinball loss at TabICL's quantile levels, twice its size: at the median the absolute error."""
    count = output.shape[-1]
    levels = torch.linspace(0, 1, count + 2, device=output.device)[1:-1]
    error = target[..., None] - output
    return 2 * torch.maximum(levels * error, (levels - 1) * error).mean()


LOSSES = {"classification": classification_loss, "regression": regression_loss}


def loss_of(model: TabICL, task: str, drawn: tuple[Tensor, Tensor, int], device: str) -> Tensor:
    features, target, context = drawn
    features, target = features.to(device), target.to(device)
    output = model(features, target[:, :context].float())
    return LOSSES[task](output, target[:, context:])


def guessing_loss(task: str, drawn: tuple[Tensor, Tensor, int]) -> Tensor:
    """What the target's distribution in the context alone would reach."""
    _, target, context = drawn
    known, asked = target[:, :context], target[:, context:]
    if task == "classification":
        counts = nn.functional.one_hot(known, 10).sum(1, keepdim=True) + 0.1
        output = (counts / counts.sum(-1, keepdim=True)).log().expand(-1, asked.shape[1], -1)
    else:
        levels = torch.linspace(0, 1, 101)[1:-1]
        output = known.quantile(levels, dim=1).T[:, None].expand(-1, asked.shape[1], -1)
    return LOSSES[task](output, asked)


def held_out_batches(tables: list[Table], task: str) -> list[tuple[Tensor, Tensor, int]]:
    """The same for every run, whatever its seed."""
    return [batch(tables, task, 1.0, np.random.default_rng([0, 7, i])) for i in range(12)]


@torch.no_grad()
def held_out_loss(model: TabICL, task: str, batches: list, device: str) -> float:
    return float(np.mean([loss_of(model, task, drawn, device).item() for drawn in batches]))


def optimizers_of(model: TabICL) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, where it needs about half of AdamW's steps; AdamW elsewhere."""
    named = dict(model.named_parameters())
    hidden = [p for name, p in named.items() if "blocks" in name and p.ndim == 2]
    matrices = {id(p) for p in hidden}
    others = [p for p in named.values() if id(p) not in matrices]
    return [
        torch.optim.Muon(hidden, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate(peak: float, done: float, warmup: float = 0.04) -> float:
    """Linear up, then a cosine down to a hundredth; `done` runs from 0 to 1."""
    if done < warmup:
        return peak * (done + 0.001) / warmup
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))))


def fresh_model(config: dict) -> TabICL:
    """Scalable softmax starts as an ordinary one at 128 rows: TabICL's start is too sharp for us."""
    model = TabICL(**config)
    for name, parameter in model.named_parameters():
        if name.endswith("ssmax_layer.scales"):
            nn.init.constant_(parameter, 1 / math.log(128))
    return model


class Run:
    """One pretraining run: what a checkpoint holds, and the steps that change it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.config = ARCHITECTURE | HEADS[options.task]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        seed_everything(options.seed)
        self.model = fresh_model(self.config).to(self.device).train()
        if options.start:
            self.model.load_state_dict(load_file(options.start / "model.safetensors"))
        self.optimizers = optimizers_of(self.model)
        self.step = 0
        self.seconds = 0.0
        self.led_by_clock = 0
        self.held_out = math.nan

    def progress(self) -> float:
        """The share of the run that is done, by steps, or by the clock if that is ahead."""
        by_steps = self.step / self.options.steps
        by_clock = self.seconds / (60 * self.options.minutes) - 0.01  # the first step is slow
        return max(by_steps, by_clock)

    def learn(self, tables: list[Table]) -> tuple[float, float]:
        """One step; returns the loss and what guessing would have reached."""
        start = time.perf_counter()
        for group in (group for one in self.optimizers for group in one.param_groups):
            group["lr"] = learning_rate(self.options.rate, self.progress())
        rng = np.random.default_rng([self.options.seed, 1, self.step])
        size = 1.0 if self.options.start else self.progress()
        drawn = batch(tables, self.options.task, size, rng)
        loss = loss_of(self.model, self.options.task, drawn, self.device)
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.seconds += time.perf_counter() - start
        self.led_by_clock += self.progress() > min(1, self.step / self.options.steps)
        return loss.item(), guessing_loss(self.options.task, drawn).item()

    def save(self, path: Path) -> None:
        state = {
            name: getattr(self, name) for name in ("step", "seconds", "led_by_clock", "held_out")
        }
        state["model"] = self.model.state_dict()
        state["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        unfinished = path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.rename(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state.pop("model"))
        for optimizer, saved in zip(self.optimizers, state.pop("optimizers"), strict=True):
            optimizer.load_state_dict(saved)
        for name, value in state.items():
            setattr(self, name, value)


def train(run: Run, training: list[Table], batches: list, log: Path) -> None:
    options, checkpoint = run.options, run.options.out / f"{run.options.task}.checkpoint"
    if checkpoint.exists():
        run.resume(checkpoint)
    recent: list[tuple[float, float]] = []
    while run.progress() < 1:
        recent.append(run.learn(training))
        if run.step % options.every == 0 or run.progress() >= 1:
            loss, guess = np.mean(recent, axis=0)
            run.held_out = held_out_loss(run.model, options.task, batches, run.device)
            say(
                log,
                f"step {run.step} minutes {run.seconds / 60:.1f} "
                f"steps/s {run.step / run.seconds:.2f} loss {loss:.4f} guessing {guess:.4f} "
                f"held-out {run.held_out:.4f} led by clock {run.led_by_clock}",
            )
            run.save(checkpoint)
            recent.clear()


def say(log: Path, line: str) -> None:
    print(line, flush=True)
    with log.open("a") as file:
        file.write(line + "\n")


def export(run: Run, folder: Path, dtype: torch.dtype, guess: float) -> None:
    """The package's two files: what TabICL's constructor takes, and the tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    options = run.options
    before = json.loads((options.start / "config.json").read_text()) if options.start else {}
    tensors = {k: v.to(dtype).contiguous().cpu() for k, v in run.model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    card = {
        "task": options.task,
        "licence": "Apache-2.0",
        "stored_dtype": str(dtype).removeprefix("torch."),
        "config": run.config,
        "origin": {
            "script": "pretraining/tabular.py",
            "seed": options.seed,
            "rate": options.rate,
            "steps": run.step,
            "planned_steps": options.steps,
            "minutes": round(run.seconds / 60, 1),
            "held_out_loss": round(run.held_out, 4),
            "held_out_guessing": round(guess, 4),
            "tabicl": version("tabicl"),
            "torch": version("torch"),
            "started_from": before.get("origin"),
        },
    }
    (folder / "config.json").write_text(json.dumps(card, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=sorted(HEADS), required=True)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint and exported weights")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="an exported starter to go on from")
    parser.add_argument("--tables", type=Path, help="where generated tables are kept")
    parser.add_argument("--chunks", type=int, default=42, help="of 64 tables each")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=40, help="of learning, at most")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=100, help="steps between log lines")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    folder = options.tables or options.out / "tables"
    training, held_out = load_tables(folder, options.chunks)
    run = Run(options)
    batches = held_out_batches(held_out, options.task)
    guess = float(np.mean([guessing_loss(options.task, drawn).item() for drawn in batches]))
    size = sum(p.numel() for p in run.model.parameters())
    say(options.log, f"{len(training)} tables, {size} parameters, held-out guessing {guess:.4f}")
    train(run, training, batches, options.log)
    export(run, options.out / STARTERS[options.task], torch.float16, guess)


if __name__ == "__main__":
    main()
