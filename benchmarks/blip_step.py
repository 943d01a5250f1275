"""A training step of retrieval on BLIP-base: adapters against full fine-tuning, and what the teacher costs.

    python benchmarks/blip_step.py --out benchmarks/results/blip_step.csv

BLIP-base at 224 pixels with random weights, generated pictures and captions; contrast with a full queue and
a teacher, and matching with hard pairs, as UniAdapter trains. Every method runs in a process of its own,
--turns times, the methods in turns. `seconds` is the median CPU time of a step after the first, forward,
backward, AdamW and the teacher's average; `step_mb` the peak above what the process held before the first
step. `ema_ms` is the teacher's average alone, `without_teacher_seconds` a step with no teacher at all.
`saved_mb` is the file that is saved, the trained tensors as float32; `resume_mb` adds the optimizer's
two numbers a parameter, the teacher and the queue, as a resume file holds them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import record
from memory import forget, held, peak

QUEUE, WIDTH = 4096, 224
METHODS = ("probe", "bitfit", "lora r 16", "uniadapter r 64", "uniadapter r 128",
           "uniadapter r 512", "full")  # fmt: skip
WORDS = ("a", "red", "dress", "on", "the", "beach", "with", "two", "dogs", "and", "boats")


def method(name: str) -> Any:
    from multiadapt import BitFit, Frozen, Full, LoRA, PlainLoRA, UniAdapter

    kind, _, rank = name.partition(" r ")
    if kind == "uniadapter":
        return UniAdapter(r=int(rank))
    plain: Mapping[str, Any] = {"probe": Frozen, "bitfit": BitFit, "full": Full}
    return plain[kind]() if kind in plain else PlainLoRA(LoRA(r=int(rank), lora_alpha=int(rank)))


def opened(name: str, momentum: float | None) -> Any:
    import torch

    from multiadapt import Contrast
    from multiadapt.crossmodal._retrieval import RetrievalModel
    from multiadapt.crossmodal.blip import Blip
    from multiadapt.types import Column, Stream

    torch.manual_seed(0)
    columns = {"caption": "text", "photo": "image"}
    streams = [Stream(n, k, (Column(n, k, "told"),)) for n, k in columns.items()]  # type: ignore[arg-type]
    joint = Blip("random:blip-base", size=WIDTH).open(streams)
    queue = {} if momentum is None else {"queue": QUEUE}
    return RetrievalModel(joint, method(name), Contrast(momentum=momentum, **queue), QUEUE).train()


def batches(model: Any, rows: int) -> Iterator[tuple[dict[str, Any], Any]]:
    """New pictures and captions each time, and which of the table's rows they are."""
    import torch

    rng = np.random.default_rng(0)
    seen = 0
    while True:
        captions = [[" ".join(rng.choice(WORDS, 12))] for _ in range(rows)]
        photos = [[rng.integers(0, 256, (WIDTH, WIDTH, 3), np.uint8)] for _ in range(rows)]
        cells = {"caption": captions, "photo": photos}
        ids = torch.arange(seen, seen + rows) % QUEUE
        seen += rows
        yield {s: model.encoder(s).prepare(c) for s, c in cells.items()}, torch.stack([ids, ids], 1)


def stepper(model: Any, rows: int) -> tuple[Callable[[], float], Any]:
    """What runs a step and gives its CPU seconds, the preparing of the batch aside."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.05, fused=True)
    given = batches(model, rows)

    def step() -> float:
        batch, ids = next(given)
        since = time.process_time()
        model.loss(batch, ids, torch.ones(rows)).backward()
        optimizer.step()
        optimizer.zero_grad()
        model.stepped()
        return time.process_time() - since

    return step, optimizer


def fill(model: Any, rows: int) -> None:
    """A queue as long as it gets."""
    import torch
    from torch.nn import functional as F

    for start in range(0, QUEUE, rows):
        sides = [F.normalize(torch.randn(rows, 1, 256), dim=-1) for _ in range(2)]
        ids = torch.arange(start, start + rows)
        model.queue.put(tuple(sides), torch.stack([ids, ids], 1))


def one(name: str, rows: int, steps: int, *, teacher: bool) -> dict[str, float]:
    """Measure in this process."""
    import torch

    torch.set_num_threads(1)
    model = opened(name, 0.995 if teacher else None)
    if teacher:
        fill(model, rows)
    step, optimizer = stepper(model, rows)
    forget()
    before = held()
    first = step()
    taken = [step() for _ in range(steps)]
    found = {"seconds": float(np.median(taken)), "step_mb": peak() - before, "first": first}
    saved = sum(t.numel() * 4 for t in model.trained_state().values())
    moments = [t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)]
    kept = [*model.memory().values(), *moments]
    since = time.process_time()
    model.stepped()
    found["ema_ms"] = 1e3 * (time.process_time() - since)
    sizes = {p.part: p.trainable for p in model.parts()}
    found["adapters"] = sum(n for part, n in sizes.items() if part != "heads")
    found["heads"] = sizes["heads"]
    found["saved_mb"] = saved / 1e6
    return found | {"resume_mb": (saved + sum(t.numel() * t.element_size() for t in kept)) / 1e6}


def alone(name: str, given: argparse.Namespace, *, teacher: bool) -> dict[str, float]:
    """Measure in a process of its own, whose allocator returns what is freed."""
    command = [sys.executable, __file__, "--one", name, "--batch", str(given.batch)]
    command += ["--steps", str(given.steps)]
    allocator = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    asked = subprocess.run(
        command + ["--teacher"] * teacher,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **allocator},
    )
    return json.loads(asked.stdout.splitlines()[-1])


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    bare: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(given.turns):
        for name in METHODS:
            found[name].append(alone(name, given, teacher=True))
            bare[name].append(alone(name, given, teacher=False)["seconds"])
            print(name, found[name][-1], bare[name][-1], flush=True)
    median = {
        name: {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        for name, runs in found.items()
    }
    full = median["full"]
    return [
        {
            "method": name,
            "batch": given.batch,
            "adapters": int(own["adapters"]),
            "heads": int(own["heads"]),
            "seconds": own["seconds"],
            "share_of_full_seconds": own["seconds"] / full["seconds"],
            "without_teacher_seconds": float(np.median(bare[name])),
            "ema_ms": own["ema_ms"],
            "step_mb": own["step_mb"],
            "share_of_full_step_mb": own["step_mb"] / full["step_mb"],
            "saved_mb": own["saved_mb"],
            "resume_mb": own["resume_mb"],
            "load": record.load(),
        }
        for name, own in median.items()
    ]


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--one", help="a method to measure in this process")
    parser.add_argument("--teacher", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.batch, given.steps, teacher=given.teacher)))
        return
    record.write(given.out, measure(given), record.origin("blip_step.py", given))


if __name__ == "__main__":
    main()
