"""What the starter vision-language network knows of unseen scenes, and what each method adds in another world.

    PYTHONPATH=pretraining python benchmarks/starter_vision_language.py --work WORK \
        --out benchmarks/results/starter_vision_language.csv

Pictures of two worlds are drawn anew, none of them in pretraining: the one that it was pretrained on, and
a shifted one with other colours, shapes, patterns, words, relations and style. The last --held pictures are
tested on, one caption and one question a picture; retrieval is among them, the 10 nearest ranked by the
cross-modal pass too. In the shifted world each method trains on the first --rows pictures for a fixed number
of epochs. Its learning rate is the better of two on as many validation pictures as test pictures, by one
run with a seed of its own. The methods have about as many parameters inside the network as UniAdapter with
r = 32; variants of UniAdapter take its rate. Zero-shot is the network as it is. Answers are ranked among
those of the training rows. Finished runs are kept in WORK.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import record
import torch
from worlds.tables import make_clips, make_table

from multiadapt import (
    BitFit,
    Blip,
    Captioner,
    Contrast,
    CrossModalRetriever,
    Frozen,
    Full,
    LoRA,
    PlainLoRA,
    QuestionAnswerer,
    Training,
    UniAdapter,
    Unified,
)
from multiadapt.methods._base import Method
from multiadapt.reports.meter import Meter
from multiadapt.types import Kind


def unified(r: int = 32, **options: Any) -> UniAdapter:
    return UniAdapter(Unified(r=r, **options))


METHODS: Mapping[str, tuple[Method, tuple[float, ...]]] = {
    "uniadapter": (unified(), (1e-2, 3e-2)),
    "separate adapters": (unified(21, share="none", query_residual=False), (1e-2, 3e-2)),
    "vision and text adapters": (unified(43, branches=("vision", "text")), (1e-2, 3e-2)),
    "lora": (PlainLoRA(LoRA(r=11, lora_alpha=11)), (5e-3, 2e-2)),
    "bitfit": (BitFit(), (1e-2, 3e-2)),
    "probe": (Frozen(), (1e-2, 3e-2)),
    "full": (Full(), (1e-3, 3e-3)),
}
"""With the learning rates to choose from."""
VARIANTS: Mapping[str, Method] = {
    "separate adapters, r 32": unified(share="none", query_residual=False),
    "sharing up": unified(share="up"),
    "sharing all": unified(share="all"),
    "no query residual": unified(query_residual=False),
    "r 8": unified(8),
    "r 128": unified(128),
    "last 2 of 4 blocks": unified(blocks="last 2"),
}
"""Of UniAdapter with r = 32."""
ALIKE = "frames alike"
"""UniAdapter on clips whose frames are not weighed by what asks."""
_WRITING = tuple(name for name in METHODS if name != "probe")  # there is no new head to train
ADAPTED: Mapping[str, Sequence[str]] = {
    "retrieval": (*METHODS, *VARIANTS),
    "answering": _WRITING,
    "captioning": _WRITING,
    "clips": ("uniadapter", ALIKE, "probe", "full"),
}
DECIDES: Mapping[str, Sequence[str]] = {
    "retrieval": ("caption to picture_r@10", "picture to caption_r@10"),
    "clips": ("caption to clip_r@10", "clip to caption_r@10"),
    "answering": ("exact_match",),
    "captioning": ("cider_d",),
}
"""What a rate is chosen by, the mean of these."""
TUNING_SEED = 100
PAGE = Path(__file__).resolve().parents[1] / "docs/starter-vision-language.md"
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?<!-- end -->", re.DOTALL)
SHOWN: Mapping[str, Mapping[str, str]] = {
    "retrieval": {
        "text to image R@1": "caption to picture_r@1",
        "R@10": "caption to picture_r@10",
        "image to text R@1": "picture to caption_r@1",
        "R@10 ": "picture to caption_r@10",
    },
    "clips": {
        "text to clip R@1": "caption to clip_r@1",
        "R@10": "caption to clip_r@10",
        "clip to text R@1": "clip to caption_r@1",
        "R@10 ": "clip to caption_r@10",
    },
    "answering": {"exact match": "exact_match"},
    "captioning": {"CIDEr-D": "cider_d", "BLEU-4": "bleu_4"},
}
Fitted = CrossModalRetriever | QuestionAnswerer | Captioner


def method_of(name: str) -> Method:
    if name in METHODS:
        return METHODS[name][0]
    return VARIANTS[name] if name in VARIANTS else METHODS["uniadapter"][0]


def training(rate: float, given: argparse.Namespace) -> Training:
    return Training(
        learning_rate=rate, weight_decay=0.05, epochs=given.epochs, batch_size=32, patience=None,
        precision=given.precision,
    )  # fmt: skip


def retriever(name: str, how: Training, seed: int, rows: pd.DataFrame, root: Path) -> Fitted:
    method = method_of(name)
    target = "clip" if "clip" in rows else "picture"
    kinds: dict[str, Kind] = {"caption": "text", target: "video" if target == "clip" else "image"}
    network = Blip("starter", frames=4, frame_aware=name != ALIKE)
    model = CrossModalRetriever(
        method, backbone=network, training=how, contrast=Contrast(momentum=None), seed=seed,
        column_types=kinds, validation=0.0, device="cpu", verbose=False,
    )  # fmt: skip
    return model.fit(rows, query="caption", target=target, root=root)


def answerer(name: str, how: Training, seed: int, rows: pd.DataFrame, root: Path) -> Fitted:
    known = sorted(set(rows["answer"]))
    model = QuestionAnswerer(
        method_of(name), backbone="starter", training=how, seed=seed, answers=known,
        validation=0.0, device="cpu", verbose=False,
    )  # fmt: skip
    return model.fit(rows, image="picture", question="question", answer="answer", root=root)


def captioner(name: str, how: Training, seed: int, rows: pd.DataFrame, root: Path) -> Fitted:
    model = Captioner(
        method_of(name), backbone="starter", training=how, seed=seed, validation=0.0, device="cpu",
        verbose=False,
    )  # fmt: skip
    return model.fit(rows, image="picture", caption="caption", root=root)


TASKS: Mapping[str, Callable[..., Fitted]] = {
    "retrieval": retriever,
    "clips": retriever,
    "answering": answerer,
    "captioning": captioner,
}


def run(task: str, world: str, name: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Every number of one model on the test pictures of a world."""
    if name == "zero-shot":  # what is trained for a moment is not what is measured
        how, rows = training(1e-6, given).with_params(epochs=1), 32
        found = measured_run(task, world, "uniadapter", how, seed, rows, given, zero=True)
        return {key: value for key, value in found.items() if key not in ("trained", "seconds")}
    rate = chosen_rate(task, name, given)
    how = training(rate, given)
    return {"rate": rate} | measured_run(task, world, name, how, seed, given.rows, given)


def chosen_rate(task: str, name: str, given: argparse.Namespace) -> float:
    """The better on the validation pictures; kept in WORK."""
    rates = METHODS[name][1] if name in METHODS else ()
    if not rates:
        return chosen_rate(task, "uniadapter", given)
    scores = {}
    for rate in rates:
        path = given.work / f"rate-{task}-{name}-{rate}.json"
        if not path.exists():
            how = training(rate, given)
            found = measured_run(
                task, "shifted", name, how, TUNING_SEED, given.rows, given, part="validation"
            )
            path.write_text(json.dumps(found))
        found = json.loads(path.read_text())
        scores[rate] = sum(found[key] for key in DECIDES[task])
    print(task, name, scores, flush=True)
    return max(scores, key=lambda rate: scores[rate])


def measured_run(
    task: str, world: str, name: str, how: Training, seed: int, rows: int,
    given: argparse.Namespace, *, zero: bool = False, part: str = "test",
) -> dict[str, Any]:  # fmt: skip
    """A fit on the first `rows`, and its numbers."""
    root = given.work / world
    table = pd.read_csv(root / ("clips.csv" if task == "clips" else "table.csv"))
    start = given.rows + (given.held if part == "test" else 0)
    with Meter("cpu") as meter:
        model = TASKS[task](name, how, seed, table.iloc[:rows], root)
    told = {"trained": sum(p.trainable for p in model.fitted_.model.parts())}
    told |= {"seconds": meter.seconds, "load": record.load(), "commit": record.commit()}
    return told | numbers(model, table.iloc[start : start + given.held], root, zero=zero)


def numbers(model: Fitted, test: pd.DataFrame, root: Path, *, zero: bool) -> dict[str, float]:
    """By name, with their intervals."""
    near: dict[str, Any] = {"k": 10} if isinstance(model, CrossModalRetriever) else {}
    found = model.evaluate(test, root=root, zero_shot=zero, **near).reset_index()
    wanted = "zero-shot" if zero else "adapted"
    named: dict[str, float] = {}
    for _, row in found[found["model"] == wanted].iterrows():
        key = "_".join(str(row[k]) for k in ("way", "metric") if k in row)
        named |= {key: row["value"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
    return named


def cases(given: argparse.Namespace) -> Iterator[tuple[str, str, str, int]]:
    """Task, world, method and seed."""
    for task in TASKS:
        yield task, "first", "zero-shot", 0
        yield task, "shifted", "zero-shot", 0
    for seed in range(given.seeds):
        for task, methods in ADAPTED.items():
            for name in methods:
                yield task, "shifted", name, seed


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    size = given.rows + 2 * given.held
    for number, world in enumerate(("first", "shifted")):
        if not (given.work / world / "clips.csv").exists():
            make_table(given.work / world, size, world=world, seed=1000 + number)
            make_clips(given.work / world, size, world=world, seed=2000 + number)
    rows: list[dict[str, Any]] = []
    origin = record.origin("starter_vision_language.py", given)
    for case in cases(given):
        rows.append(kept(case, given))
        record.write(given.out, rows, origin)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), pd.DataFrame(rows)), encoding="utf-8")


def filled(page: str, table: pd.DataFrame) -> str:
    """The page with every table between its marks made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{shown(table, found[2])}<!-- end -->", page)


def shown(table: pd.DataFrame, task: str) -> str:
    """Rows of a task, means over seeds."""
    own = table.loc[table["task"] == task]
    columns = SHOWN[task]
    head = ["world", "method", "trained", *columns, "seconds", "seeds"]
    lines = [head, ["---"] * len(head)]
    for world, name in own[["world", "method"]].drop_duplicates().to_numpy():
        part = own.loc[(own["world"] == world) & (own["method"] == name)]
        spent = ["", ""]
        if name != "zero-shot":
            spent = [f"{part['trained'].mean():,.0f}", f"{part['seconds'].median():.0f}"]
        told = [measured(part, column) for column in columns.values()]
        lines.append([world, name, spent[0], *told, spent[1], str(part["seed"].nunique())])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def measured(part: pd.DataFrame, column: str) -> str:
    ends = [part[f"{column}_{end}"].mean() for end in ("low", "high")]
    interval = "" if pd.isna(ends).any() else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
    return f"{part[column].mean():.3f}{interval}"


def kept(case: tuple[str, str, str, int], given: argparse.Namespace) -> dict[str, Any]:
    """From WORK where it has run before."""
    task, world, name, seed = case
    path = given.work / f"{task}-{world}-{name}-{seed}.json"
    if not path.exists():
        named = {"task": task, "world": world, "method": name, "seed": seed}
        path.write_text(json.dumps(named | run(*case, given)))
    found = json.loads(path.read_text())
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in list(found.items())[:14]})
    return found


def arguments() -> argparse.Namespace:
    parser = record.parser(__doc__.splitlines()[0], "work", "out")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000, help="pictures that are trained on")
    parser.add_argument("--held", type=int, default=400, help="pictures that are tested on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
