"""The model card: what a saved model is, in words a colleague can read."""

from collections.abc import Mapping, Sequence
from typing import Any

from multiadapt.model import Part

__all__ = ["card", "parts_table"]


def card(config: Mapping[str, Any], parts: Sequence[Part], sizes: Mapping[str, int]) -> str:
    """Markdown with the front matter that model hubs read."""
    answers = config.get("kind") == "answering"
    name, opened = ("QuestionAnswerer", "QuestionAnswerer.load") if answers else ("load", "load")
    blocks = [
        "---\nlibrary_name: multiadapt\ntags:\n- tabular\n- multimodal\n- parameter-efficient\n---",
        f"# {config['method']['name']} on {_columns(config)}",
        _task(config),
        "## Parts\n\n" + parts_table(parts),
        "## Encoders\n\n" + _encoders(config),
        "## Trained on\n\n" + _run(config["info"]),
        "## Columns\n\n" + "\n".join(_column_lines(config)),
        "## Files\n\n" + "\n".join(f"- `{name}`: {size:,} bytes" for name, size in sizes.items()),
        f'## Use\n\n```python\nfrom multiadapt import {name}\n\n{opened}("this folder").predict(table)\n```',
        _limits(config),
    ]
    return "\n\n".join(blocks) + "\n"


def _columns(config: Mapping[str, Any]) -> str:
    kinds = [c["kind"] for c in config["schema"]["columns"]]
    used = {k: kinds.count(k) for k in dict.fromkeys(kinds) if k in _USED}
    return ", ".join(f"{n} {k}" for k, n in used.items()) + " columns"


_USED = ("numeric", "categorical", "datetime", "image", "text", "audio", "video", "vector")


def _task(config: Mapping[str, Any]) -> str:
    label = config["info"].get("label", "the label")
    return f"A model that predicts `{label}` ({config['task']['name']}), made by multiadapt {config['multiadapt']}."


def parts_table(parts: Sequence[Part]) -> str:
    """How much of each part is trained."""
    lines = ["| part | trained | frozen |", "|---|---:|---:|"]
    lines += [f"| {p.part} | {p.trainable:,} | {p.frozen:,} |" for p in parts]
    total = sum(p.trainable for p in parts), sum(p.frozen for p in parts)
    return "\n".join([*lines, f"| **all** | **{total[0]:,}** | **{total[1]:,}** |"])


def _encoders(config: Mapping[str, Any]) -> str:
    lines = []
    for stream, saved in config["encoders"].items():
        origin = saved["origin"]
        digest = f", sha256 {origin['sha256'][:12]}…" if origin["sha256"] else ""
        lines.append(f"- `{stream}`: {origin['source']}, licence {origin['licence']}{digest}")
    return "\n".join(lines)


def _run(info: Mapping[str, Any]) -> str:
    lines = [
        f"- rows: {info.get('rows', '?')} for training, {info.get('validation_rows', 0)} for validation"
    ]
    history = info.get("history", {})
    if history:
        lines.append(
            f"- best epoch {history['best_epoch']} of {len(history['epochs'])} "
            f"(stopped by: {history['stopped']}), {history['seconds']:.0f} s"
        )
    for name, value in info.get("validation", {}).items():
        lines.append(
            f"- validation {name}: {value['value']:.4f} "
            f"(95 % interval {value['low']:.4f} to {value['high']:.4f}); the epoch was chosen on these rows"
        )
    return "\n".join(lines)


def _column_lines(config: Mapping[str, Any]) -> list[str]:
    return [f"- `{c['name']}`: {c['kind']}. {c['reason']}" for c in config["schema"]["columns"]]


def _limits(config: Mapping[str, Any]) -> str:
    holders = [s for s, saved in config["encoders"].items() if saved["holds_rows"]]
    rows = (
        f"**This folder holds training rows**: the context of {', '.join(f'`{h}`' for h in holders)} is "
        "part of the in-context encoder. Share it only with those who may see that table."
        if holders
        else "This folder holds no training rows."
    )
    return f"## Limits\n\n{rows} Predictions for rows unlike the training table are guesses."
