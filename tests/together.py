"""Fits that test_processes.py runs in one process and in two: `python together.py NETWORKS OUT`.

Each writes what it has trained, and what it was told, under its name; a second process under its own.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from multiadapt import (
    U2A,
    Blip,
    Contrast,
    CrossModalRetriever,
    MLPEncoder,
    MultimodalClassifier,
    MultimodalRegressor,
    TIAdapter,
    Training,
    cli,
    feed,
    training,
)
from multiadapt.errors import MultiadaptError
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.resume_file import ResumeFile

RANK = int(os.environ.get("RANK", "0"))
TABLE = MLPEncoder(dropout=0.0)


class PowerCutError(Exception):
    """Stands for the power going out."""


class Run:
    """Where the networks and the table are, and where results go."""

    def __init__(self, networks: Path, out: Path) -> None:
        self.networks, self.out = networks, out
        self.table = pd.read_parquet(networks / "table.parquet").iloc[:44].drop(columns="price")

    def classifier(self, method: Any, recipe: Training, **options: Any) -> MultimodalClassifier:
        given = {"image": str(self.networks / "resnet"), "tabular": TABLE} | options.pop(
            "encoders", {}
        )
        return MultimodalClassifier(
            method, encoders=given, training=recipe, verbose=False, **options
        )

    def gaps(self) -> pd.DataFrame:
        """A table in which most rows lack their second photo, so that many a part of a batch has none."""
        return self.table.assign(back=self.table["back"].where(np.arange(len(self.table)) % 9 == 2))


BC1 = TIAdapter(image=ImageBranch(variant="bc1"))
STEPS = Training(epochs=2, batch_size=10, learning_rate=3e-3, patience=None)


def norm(run: Run) -> Any:
    """BatchNorm adapters, weights, gaps, accumulation and clipping; validation chooses the epoch."""
    recipe = replace(STEPS, accumulate=2, clip=0.5, epochs=3)
    weight = np.linspace(0.0, 2.0, len(run.table))
    model = run.classifier(BC1, recipe)
    return model.fit(run.gaps(), label="kind", root=run.networks, sample_weight=weight)


def single(run: Run) -> Any:
    """Batches of one row: a second process has nothing of its own. A norm of one row amplifies rounding."""
    recipe = replace(STEPS, batch_size=1, learning_rate=1e-6)
    model = run.classifier(BC1, recipe, validation=0.0)
    return model.fit(run.table.iloc[:6], label="kind", root=run.networks)


def streamed(run: Run) -> Any:
    """Nothing fits in memory: rows are read in every epoch; the mean stands for what is missing."""
    method = TIAdapter(image=ImageBranch(variant="bc1", norm=False), missing="mean")
    model = run.classifier(method, STEPS, memory=0.0)
    return model.fit(run.gaps(), label="kind", root=run.networks)


def tokens(run: Run) -> Any:
    """Mask tokens, one modality of most rows left out at random."""
    encoders = {"image": str(run.networks / "vit")}
    model = MultimodalRegressor(
        U2A(), encoders={**encoders, "tabular": TABLE}, training=STEPS, verbose=False
    )
    table = run.gaps().assign(price=np.arange(len(run.table)) % 7)
    return model.fit(table.drop(columns="kind"), label="price", root=run.networks)


def pairs(run: Run, contrast: Contrast) -> Any:
    words = np.where(run.table["kind"] == "red", "w7", "w8")
    caption = [f"{word} w{20 + i}" for i, word in enumerate(words)]
    table = pd.DataFrame({"caption": caption, "photo": run.table["front"]})
    model = CrossModalRetriever(
        backbone=Blip("random:blip-tiny"),
        contrast=contrast,
        training=STEPS,
        device="cpu",
        verbose=False,
    )
    return model.fit(table[:24], query="caption", target="photo", root=run.networks)


def taught(run: Run) -> Any:
    """A teacher, its queue, and hard negatives."""
    return pairs(run, Contrast(queue=12, distill=0.4))


def untaught(run: Run) -> Any:
    """Gradients through what other processes say."""
    return pairs(run, Contrast(momentum=None))


def cached(run: Run) -> Any:
    """What does not fit in memory is kept on the disk, by each process."""
    before = os.environ.get("MULTIADAPT_CACHE", "")
    os.environ["MULTIADAPT_CACHE"] = str(run.out / "cache")
    try:
        return streamed(run)
    finally:
        os.environ["MULTIADAPT_CACHE"] = before


FITS: Mapping[str, Callable[[Run], Any]] = {
    f.__name__: f for f in (norm, single, streamed, cached, tokens, taught, untaught)
}
LOOKED = 3
"""So many of the first steps' gradients are kept: later ones differ by what AdamW makes of rounding."""


def resumed(run: Run) -> dict[str, torch.Tensor]:
    """The first fit, broken off in the middle of an accumulated step and taken up again."""
    ResumeFile.every, write = 0.0, ResumeFile.write
    calls: list[int] = []

    def cut_after(self: ResumeFile, *given: Any) -> None:
        write(self, *given)
        calls.append(1)
        if len(calls) == 3:
            raise PowerCutError("cut")

    file = run.out / "resume"
    fit = MultimodalClassifier.fit
    MultimodalClassifier.fit = lambda self, *a, **k: fit(self, *a, resume=file, **k)  # type: ignore[method-assign]
    ResumeFile.write = cut_after  # type: ignore[method-assign]
    try:
        error(lambda: norm(run))
        ResumeFile.write = write  # type: ignore[method-assign]
        return norm(run).fitted_.model.trained_state()
    finally:
        MultimodalClassifier.fit = fit  # type: ignore[method-assign]
        ResumeFile.every, ResumeFile.write = 30.0, write  # type: ignore[method-assign]


def error(fit: Callable[[], Any]) -> str:
    """What it ends with."""
    try:
        fit()
    except (MultiadaptError, OSError, PowerCutError) as found:
        return f"{type(found).__name__}: {found}"
    return ""


def broken(run: Run) -> None:
    """A picture that only the second process reads."""
    table = run.table.assign(
        front=run.table["front"].where(np.arange(len(run.table)) != 11, "none.png")
    )
    model = run.classifier(BC1, STEPS, validation=0.0, column_types={"front": "image"})
    model.fit(table, label="kind", root=run.networks)


def failing(run: Run) -> None:
    """A disk that fails in one process, while it trains."""
    on_device, calls = feed.Feed._on_device, []

    def fails(self: feed.Feed, *given: Any) -> Any:
        calls.append(1)
        if RANK == 1 and len(calls) == 2:
            raise OSError("the disk is gone")
        return on_device(self, *given)

    feed.Feed._on_device = fails  # type: ignore[method-assign]
    try:
        run.classifier(BC1, STEPS).fit(run.table, label="kind", root=run.networks)
    finally:
        feed.Feed._on_device = on_device  # type: ignore[method-assign]


def unlike(run: Run) -> None:
    """Another seed in each process."""
    run.classifier(BC1, STEPS, seed=RANK).fit(run.table, label="kind", root=run.networks)


def shorter(run: Run) -> None:
    """Fewer rows in one process."""
    table = run.table if RANK == 0 else run.table.iloc[:-9]
    run.classifier(BC1, STEPS).fit(table, label="kind", root=run.networks)


def interrupted(run: Run) -> dict[str, Any]:
    """Ctrl-C in one process, in the middle of an epoch."""
    tell = training._Run._tell

    def press(self: Any, *given: Any) -> None:
        tell(self, *given)
        if RANK == 1 and (self.at.epoch, self.at.batch) == (1, 2):
            os.kill(os.getpid(), signal.SIGINT)

    training._Run._tell = press  # type: ignore[method-assign]
    try:
        model = run.classifier(BC1, replace(STEPS, epochs=9)).fit(
            run.table, label="kind", root=run.networks
        )
    finally:
        training._Run._tell = tell  # type: ignore[method-assign]
    return model.fitted_.info["history"]


def limited(run: Run) -> dict[str, Any]:
    """A time limit, on clocks that do not agree."""
    recipe = replace(STEPS, epochs=10_000)
    given = {"label": "kind", "root": run.networks, "time_limit": 0.5 + 30 * RANK}
    return run.classifier(BC1, recipe).fit(run.table, **given).fitted_.info["history"]


def shell(run: Run) -> dict[str, Any]:
    """The command line."""
    words = [
        "fit", "table.csv", "--label", "kind", "--encoder", "image=resnet", "--encoder", "tabular=mlp",
        "--set", "encoders.tabular.dropout=0", "--set", "image.variant=embedding", "--set",
        "training.epochs=1", "--device", "cpu", "--resume", "--out", run.out / "shell",
    ]  # fmt: skip
    with chdir(run.networks):
        done = CliRunner().invoke(cli.main, [str(word) for word in words])
    return {"code": done.exit_code, "stdout": done.stdout, "output": done.output}


@contextmanager
def gradients() -> Iterator[dict[str, torch.Tensor]]:
    """Those of the first steps."""
    found: dict[str, torch.Tensor] = {}
    steps: list[int] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        steps.append(1)
        own = [p.grad for group in optimizer.param_groups for p in group["params"]]
        if len(steps) <= LOOKED:
            some = enumerate(own)
            found.update({f"step:{len(steps)}:{i}": g.clone() for i, g in some if g is not None})

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield found
    finally:
        handle.remove()


def keep(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    flat = {k: t.detach().contiguous().clone() for k, t in tensors.items()}
    save_file(flat, path.with_name(f"{path.name}-{RANK}.safetensors"))


def main(networks: Path, out: Path) -> None:
    """All of it."""
    torch.set_num_threads(1)
    feed.BLOCK = 8  # several blocks of rows, so that each process has some
    run = Run(networks, out)
    told: dict[str, Any] = {}
    for name, fit in FITS.items():
        with gradients() as found:
            fitted = fit(run).fitted_
        state = {f"state:{k}": t for k, t in fitted.model.trained_state().items()}
        keep(state | found, out / name)
        told[name] = fitted.info
    told["shell"] = shell(run)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        keep({f"state:{k}": t for k, t in resumed(run).items()}, out / "resumed")
        wrongs = {"broken": broken, "failing": failing, "unlike": unlike, "shorter": shorter}
        for name, wrong in wrongs.items():
            told[name] = error(lambda wrong=wrong: wrong(run))
        told |= {"interrupted": interrupted(run), "limited": limited(run)}
        norm(run).save(out / "saved")
    (out / f"told-{RANK}.json").write_text(json.dumps(told, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
