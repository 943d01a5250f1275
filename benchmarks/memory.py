"""Peak memory of one training step on ResNet-50 and ViT-B/16: adapters against full fine-tuning.

    python benchmarks/memory.py --out benchmarks/results/memory.csv

224 pixels, a head of 10 classes on the image and an mlp embedding, weights at random. Every variant
runs in a process of its own. `step_mb` is the peak of the second training step, forward, backward and
AdamW, above what the process held before the first; the frozen part is computed in the step, without a
graph. `kept_mb` is the same with the frozen part computed before. `process_mb` is the peak above the
process with its libraries imported: the weights are in it. `recomputed` is LoRA with
`gradient_checkpointing`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import record

VARIANTS = {
    "resnet-50": ("frozen", "embedding", "bc1", "bc2", "bc3", "bc4", "full"),
    "vit-base": ("lora", "recomputed", "full"),
}
PAPER = {"frozen": 17.0, "embedding": 17.1, "bc1": 17.3, "bc2": 38.4, "bc3": 73.0, "bc4": 126.0}
"""Percent of Full: table of the paper, bc3 and bc4 from its text."""


def held() -> float:
    """Million bytes resident now."""
    return _status("VmRSS")


def peak() -> float:
    """Largest since `forget`, as the kernel counts it."""
    return _status("VmHWM")


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(key)) * 1024 / 1e6


def one(network: str, variant: str, batch: int, *, kept: bool) -> dict[str, float]:
    """Measure in this process."""
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    from multiadapt import Frozen, Full, ImageEncoder, MLPEncoder, PlainLoRA, TIAdapter
    from multiadapt.attach import recomputing
    from multiadapt.methods._image_branch import ImageBranch
    from multiadapt.model import AdaptedModel, build_encoders
    from multiadapt.tasks.classification import Classification
    from multiadapt.types import Column, Inputs, Stream

    imported = held()
    number = Column("number", "numeric", "told")
    photo = Column("photo", "image", "told")
    streams = (Stream("tabular", "tabular", (number,)), Stream("photo", "image", (photo,)))
    specs = {"tabular": MLPEncoder(), "photo": ImageEncoder(f"random:{network}", size=224)}
    frame = pd.DataFrame({"number": [float(i) for i in range(20)]})
    labels = pd.Series([i % 10 for i in range(20)], name="label")
    target = Classification().learn(labels)
    encoders = build_encoders(streams, specs, "classification")
    encoders["tabular"].learn(frame, target.labels(target.encode(labels), None), 0)
    methods = {"frozen": Frozen(), "full": Full(), "lora": PlainLoRA(), "recomputed": PlainLoRA()}
    method = methods.get(variant) or TIAdapter(ImageBranch(variant))
    model = AdaptedModel(encoders, method, target).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    pixels = Inputs({"pixels": torch.rand(batch, 3, 224, 224)}, torch.ones(batch, dtype=torch.long))
    table = encoders["tabular"].prepare(pd.DataFrame({"number": [1.0] * batch}))
    answer, cut = torch.arange(batch) % 10, model.cuts()["photo"]

    def step(image: Inputs) -> None:
        image = encoders["photo"].prefix(image, cut)
        with recomputing(variant == "recomputed"):
            scores = model({"tabular": table, "photo": image}).scores
        torch.nn.functional.cross_entropy(scores, answer).backward()
        optimizer.step()
        optimizer.zero_grad()

    image = encoders["photo"].prefix(pixels, cut) if kept else pixels
    if kept:
        del pixels
    forget()
    before = held()
    step(image)
    step(image)
    return {"step": peak() - before, "process": peak() - imported}


def alone(network: str, variant: str, batch: int, *, kept: bool) -> dict[str, float]:
    """Measure in a process of its own, whose allocator returns what is freed."""
    asks = ["--network", network, "--one", variant, "--batch", str(batch)]
    asked = subprocess.run(
        [sys.executable, __file__, *asks, *["--kept"] * kept],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **record.GIVES_BACK},
    )
    return json.loads(asked.stdout)


def measure(network: str, batches: list[int]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        variants = VARIANTS[network]
        found = {v: alone(network, v, batch, kept=False) for v in variants}
        kept = {v: alone(network, v, batch, kept=True) for v in variants}
        full = found["full"]
        for variant, row in found.items():
            yield {
                "network": network,
                "variant": variant,
                "batch": batch,
                "step_mb": row["step"],
                "step_percent_of_full": 100 * row["step"] / full["step"],
                "kept_mb": kept[variant]["step"],
                "kept_percent_of_full": 100 * kept[variant]["step"] / full["step"],
                "process_mb": row["process"],
                "process_percent_of_full": 100 * row["process"] / full["process"],
                "paper_percent_of_full": PAPER.get(variant, 100.0),
            }


def main() -> None:
    parser = record.parser(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batches", default="8,32")
    parser.add_argument("--network", default=",".join(VARIANTS))
    parser.add_argument("--one", help="a variant to measure in this process")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--kept", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.network, given.one, given.batch, kept=given.kept)))
        return
    batches = [int(b) for b in given.batches.split(",")]
    rows = [r for network in given.network.split(",") for r in measure(network, batches)]
    record.write(given.out, rows, record.origin("memory.py", given))


if __name__ == "__main__":
    main()
