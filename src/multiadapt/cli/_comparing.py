"""What `compare` does: methods from texts, the comparison, its table and picture."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd

from multiadapt.cli._documentation import trains
from multiadapt.cli._options import Request
from multiadapt.cli._output import show_table
from multiadapt.cli._running import estimator, read, task_of
from multiadapt.cli._setting import method_of
from multiadapt.errors import ExtraError, SpecError
from multiadapt.reports.compare import Compared, Design, compare
from multiadapt.spec import parse_value

__all__ = ["run"]


def run(
    request: Request, methods: Sequence[str], *, folds: int | None, seeds: int, against: str | None, out: Path
) -> None:  # fmt: skip
    """Compare, print the table, write CSV files and a picture."""
    entries = _entries(methods)
    shared, own = _divided(request.changes, entries)
    common = _for_each(shared, entries)
    table = read(request)
    task = task_of(request, table.frame)
    estimators = {
        e.name: estimator(
            request, e.method, task, {**common[e.name], **own[e.name], **e.changes}
        ).set_params(verbose=False)
        for e in entries
    }
    design = Design(
        label=request.labels if isinstance(request.labels, str) else tuple(request.label),
        folds=folds,
        split_column=request.split_column,
        seeds=seeds,
        groups=request.groups,
        sample_weight=request.sample_weight,
        root=table.root,
        seed=request.seed,
    )
    try:
        found = compare(
            estimators, table.frame, design, folder=out, against=against,
            tell=lambda line: None if request.quiet else click.echo(line, err=True),
        )  # fmt: skip
    except KeyboardInterrupt:
        raise click.ClickException(
            f"interrupted: finished runs are kept in {out}, and the same call continues"
        ) from None
    _show(found)
    found.save(out)
    try:
        found.plot(out / "compare.png")
    except ExtraError as error:
        click.echo(f"no picture: {error}", err=True)
    click.echo(f"tables in {out}", err=True)


@dataclass(frozen=True)
class _Entry:
    name: str
    method: str
    changes: Mapping[str, Any]


def _entries(methods: Sequence[str]) -> list[_Entry]:
    """`name` or `name:option=value:option=value`, separated by commas outside of brackets."""
    texts = [t.strip() for m in methods for t in re.split(r",(?![^\[]*\])", m) if t.strip()]
    repeated = sorted({t for t in texts if texts.count(t) > 1})
    if repeated:
        raise SpecError(f"each method must stand once in --methods; repeated: {repeated}")
    return [_entry(t) for t in texts]


def _entry(text: str) -> _Entry:
    method, *options = text.split(":")
    pairs = [o.partition("=") for o in options]
    wrong = [o for o, (path, sign, _) in zip(options, pairs, strict=True) if not (sign and path)]
    if wrong:
        raise SpecError(f"{text!r}: options must be written name:option=value, got {wrong}")
    return _Entry(text, method, {path: parse_value(value) for path, _, value in pairs})


def _divided(
    changes: Mapping[str, Any], entries: Sequence[_Entry]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Options of all methods, and those of one: `METHOD.option`, by its name or by an entry's."""
    shared: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {e.name: {} for e in entries}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        if head in ("training", "task", "encoders"):
            shared[path] = value
            continue
        meant = [e for e in entries if _plain(head) == _plain(e.method)]
        if not meant or not rest:
            raise SpecError(
                f"--set {path}: in a comparison an option starts with a method's name, or with "
                f"training., task. or encoders.; the methods are {', '.join(e.name for e in entries)}"
            )
        for entry in meant:
            own[entry.name][rest] = value
    return shared, own


def _for_each(shared: Mapping[str, Any], entries: Sequence[_Entry]) -> dict[str, dict[str, Any]]:
    """The options of all, the recipe's for those that follow one. Where none does they stay, to be refused."""
    follow = {e.name: trains(method_of(e.method, {})) for e in entries}
    none = not any(follow.values())
    return {
        name: {k: v for k, v in shared.items() if follows or none or not k.startswith("training.")}
        for name, follows in follow.items()
    }


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _show(found: Compared) -> None:
    """The metric with its interval, the test and the costs; the CSV has the other metrics too."""
    table, name = found.table, found.metric
    shown = pd.DataFrame(
        {
            name: table[name],
            "95 %": [
                _interval(*pair)
                for pair in zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
            ],
            f"minus {found.against}": table["difference"],
            "p": table["p"],
            "trainable": table["trainable"],
            "seconds": table["seconds"],
            "peak MB": table["peak_mb"],
        }
    )
    show_table(shown, index=True)


def _interval(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}"
