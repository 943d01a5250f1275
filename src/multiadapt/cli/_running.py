"""What `fit` and `compare` do with a request: choose the task, build estimators, run them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from multiadapt.cli._documentation import trains
from multiadapt.cli._keeping import begin, finish
from multiadapt.cli._options import Request
from multiadapt.cli._output import show_profile, show_table, show_validation
from multiadapt.cli._setting import MODALITIES, changed, check_read, divided, encoders, method_of
from multiadapt.data.tables import Table, read_table
from multiadapt.errors import SpecError
from multiadapt.estimators import MultimodalClassifier, MultimodalRegressor
from multiadapt.gather import labels_of
from multiadapt.methods._base import Method

__all__ = ["estimator", "fit", "read", "task_of"]

MANY = 20
"""More different numbers than this are a regression."""


def fit(
    request: Request,
    method: str,
    *,
    val: Path | None,
    time_limit: float | None,
    resume: bool,
    profile: bool,
    out: Path | None,
) -> None:
    """Fit, print what was trained and how well, save."""
    given = {"--resume": resume, "--time-limit": time_limit is not None, "--profile": profile}
    _check_used(request, method, [option for option, is_given in given.items() if is_given])
    file = begin(out, resume=resume)
    table = read(request)
    task = task_of(request, table.frame)
    model = estimator(request, method, task, request.changes)
    model.fit(
        table.frame,
        label=request.labels,
        val_data=val,
        split_column=request.split_column,
        groups=request.groups,
        sample_weight=request.sample_weight,
        root=table.root,
        time_limit=time_limit,
        resume=file,
        profile=profile,
    )
    show_profile(model.profile_, quiet=request.quiet)
    show_table(model.parameters())
    show_validation(model.fitted_.info)
    finish(model, out, file)


def _check_used(request: Request, name: str, training: Sequence[str]) -> None:
    """SpecError: an option would have no effect on this method; `training` are those given that need epochs."""
    method = method_of(name, {})
    check_read(method, [n for n in request.encoder if n in MODALITIES])
    if training and not trains(method):
        raise SpecError(f"{_untrained(method)}: leave {' and '.join(training)} out")


def _untrained(method: Method) -> str:
    return f"method {method.name!r} trains nothing step by step"


def read(request: Request) -> Table:
    return read_table(request.table, where=request.where, root=request.root)


def task_of(request: Request, frame: pd.DataFrame) -> str:
    """The task that was asked for, or the one that the labels look like, said in one line."""
    labels = labels_of(frame, None, request.labels)
    if request.task != "auto":
        return request.task
    task, why = _guessed(labels, request.separator)
    if not request.quiet:
        click.echo(f"task: {task}, because {why}; --task names another", err=True)
    return task


def estimator(
    request: Request, method: str, task: str, changes: Mapping[str, Any]
) -> MultimodalClassifier | MultimodalRegressor:
    """An unfitted estimator; every option that is given is used, or refused."""
    parts = divided(changes)
    spec = method_of(method, parts["method"])
    if parts["training"] and not trains(spec):
        idle = " and ".join(f"--set training.{name}" for name in parts["training"])
        raise SpecError(f"{_untrained(spec)}: leave {idle} out")
    options = {
        "encoders": encoders(request.encoder, parts["encoders"]) or None,
        "training": changed(spec.training, parts["training"]) if parts["training"] else None,
        "column_types": dict(request.column_type) or None,
        "seed": request.seed,
        "validation": request.validation,
        "on_error": request.on_error,
        "max_files": request.max_files,
        "join_text": request.join_text,
        "device": request.device,
        "memory": request.memory,
        "verbose": not request.quiet,
    }
    options |= _task_options(request, task, parts["task"])
    kind = MultimodalRegressor if task == "regression" else MultimodalClassifier
    return kind(spec, **options)


_TASK_OPTIONS = {
    "classification": ("metric", "class_weight"),
    "multilabel": ("metric", "separator"),
    "regression": ("metric", "target"),
}


def _task_options(request: Request, task: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the task, from their own flags or from --set task.NAME=..."""
    named = {n: getattr(request, n) for n in ("metric", "target", "class_weight", "separator")}
    given = {n: v for n, v in named.items() if v is not None} | dict(changes)
    unknown = [n for n in given if n not in _TASK_OPTIONS[task]]
    if unknown:
        raise SpecError(
            f"the task {task} has no option {unknown}; it has {', '.join(_TASK_OPTIONS[task])}"
        )
    if task == "classification" and len(request.label) > 1:
        raise SpecError(
            f"classification has one label column, got {list(request.label)}; use multilabel"
        )
    return given


def _guessed(labels: pd.Series | pd.DataFrame, separator: str | None) -> tuple[str, str]:
    if isinstance(labels, pd.DataFrame):
        return "multilabel", f"there are {labels.shape[1]} label columns"
    if separator is not None:
        return "multilabel", "a separator is given"
    name, different = repr(labels.name), labels.dropna()
    if (len(different) and isinstance(different.iloc[0], (list, tuple))) or _has_arrays(different):
        return "multilabel", f"the cells of {name} are lists"
    count = different.nunique()
    if not is_numeric_dtype(labels) or is_bool_dtype(labels):
        _check_words(different.astype(str))
        return "classification", f"{name} holds {count} different words"
    if (different % 1 != 0).any():
        return "regression", f"{name} holds numbers with fractions"
    if count > MANY:
        return "regression", f"{name} holds {count} different numbers, more than {MANY}"
    return "classification", f"{name} holds {count} different whole numbers, at most {MANY}"


def _check_words(words: pd.Series) -> None:
    """A column of numbers with a slip in one cell is no column of classes."""
    numbers: Any = pd.to_numeric(words, errors="coerce")
    odd: Any = words[numbers.isna()]
    if 0 < len(odd) <= len(words) // 2:
        raise SpecError(
            f"{words.name!r} holds {len(words) - len(odd)} numbers and {len(odd)} cells that are none, such "
            f"as {odd.iloc[0]!r} in row {odd.index[0]}; repair them, or name the task with --task"
        )


def _has_arrays(labels: pd.Series) -> bool:
    return (
        bool(len(labels))
        and hasattr(labels.iloc[0], "tolist")
        and getattr(labels.iloc[0], "ndim", 0) == 1
    )
