"""What `fit` does for tasks whose columns have roles: retrieval, answering, captioning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from multiadapt.choosing import recipe_of
from multiadapt.cli._keeping import begin, finish
from multiadapt.cli._opening import face
from multiadapt.cli._options import Request
from multiadapt.cli._output import show_profile, show_table, show_validation
from multiadapt.cli._setting import changed, divided, encoders, method_of
from multiadapt.crossmodal._blip import Task, usual_blip
from multiadapt.crossmodal._choice import Backbone, backbone_of
from multiadapt.crossmodal._retrieval import Contrast
from multiadapt.data.tables import read_table
from multiadapt.errors import SpecError
from multiadapt.methods._base import Training
from multiadapt.methods._pretrained import check_method
from multiadapt.retriever import RECIPE as RETRIEVAL
from multiadapt.writing import RECIPE as WRITING

__all__ = ["Pairing", "fit"]


def _list(value: Any) -> Any:
    """ValueError: neither text, a list nor none."""
    if not isinstance(value, str | list | None):
        raise ValueError(f'answers are a list such as ["yes","no"], auto or none, not {value!r}')
    return value


def _whole(value: Any) -> int:
    """ValueError: a number with a fraction, or none."""
    if isinstance(value, bool) or not float(value).is_integer():
        raise ValueError(f"a whole number is needed, not {value!r}")
    return int(value)


_IDLE = (
    "label", "target", "class_weight", "separator", "metric", "groups", "sample_weight", "join_text",
)  # fmt: skip
"""Options of other tasks."""
_TASK_OPTIONS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "retrieval": {},
    "answering": {"answers": _list, "min_count": _whole, "smoothing": float},
    "captioning": {"prompt": str, "smoothing": float},
}
"""What --set task.NAME reaches, and what makes a value of its kind of what was typed."""


@dataclass(frozen=True)
class Pairing:
    """What `fit` is told beside the request."""

    columns: Mapping[str, str]
    """Columns by their role, as the estimator's `fit` calls them."""
    backbone: str | None
    val: Path | None
    time_limit: float | None
    profile: bool
    init_from: Path | None
    base: str | None


def fit(request: Request, method: str, told: Pairing, *, resume: bool, out: Path | None) -> None:
    """Fit, print what was trained, save."""
    _check_idle(request)
    model = _estimator(request, method, told)
    file = begin(out, resume=resume)
    table = read_table(request.table, where=request.where, root=request.root)
    begun = {"init_from": told.init_from, "base": told.base}
    model.fit(
        table.frame,
        **told.columns,
        val_data=told.val,
        split_column=request.split_column,
        root=table.root,
        time_limit=told.time_limit,
        resume=file,
        profile=told.profile,
        **{name: value for name, value in begun.items() if value is not None},
    )
    show_profile(model.profile_, quiet=request.quiet)
    show_table(pd.DataFrame([vars(p) for p in model.fitted_.model.parts()]))
    show_validation(model.fitted_.info, "mean R@1 of both ways by similarity")
    finish(model, out, file)


def _estimator(request: Request, method: str, told: Pairing) -> Any:
    """An unfitted estimator; every option that is given is used, or refused."""
    pairs = request.task == "retrieval"
    parts = divided(request.changes, request.task)
    spec = method_of(method, parts["method"])
    check_method(spec, f"{request.task}'s")
    options: dict[str, Any] = _task_options(request.task, parts["task"])
    if pairs:
        options["contrast"] = changed(Contrast(), parts["contrast"])
        options["column_types"] = dict(request.column_type) or None
    network = _backbone(request, told.backbone, parts)
    kind = face("retriever" if pairs else request.task)
    return kind(
        spec,
        **options,
        **({} if network is None else {"backbone": network}),
        training=_recipe(request.task, network, parts["training"]),
        seed=request.seed,
        validation=request.validation,
        on_error=request.on_error,
        max_files=request.max_files,
        device=request.device,
        memory=request.memory,
        verbose=not request.quiet,
    )


def _recipe(task: str, network: Backbone | None, changes: Mapping[str, Any]) -> Training | None:
    """The estimator's own with changes; None: there are none."""
    if not changes:
        return None
    if task == "retrieval":
        return changed(RETRIEVAL, changes)
    own = WRITING if network is None else recipe_of(backbone_of(network))
    return changed(own, changes)


def _check_idle(request: Request) -> None:
    """SpecError: an option would have no effect on this task."""
    more = () if request.task == "retrieval" else ("column_type",)
    if idle := [n for n in (*_IDLE, *more) if getattr(request, n)]:
        options = ", ".join(f"--{n.replace('_', '-')}" for n in idle)
        raise SpecError(f"--task {request.task} has no use for {options}: leave it out")


def _task_options(task: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    known = _TASK_OPTIONS[task]
    if idle := [name for name in changes if name not in known]:
        told = " and ".join(f"--set task.{name}" for name in idle)
        has = f"it has {', '.join(f'task.{n}' for n in known)}" if known else "leave it out"
        raise SpecError(f"--task {task} has no use for {told}: {has}")
    try:
        return {name: known[name](value) for name, value in changes.items()}
    except (TypeError, ValueError) as error:
        raise SpecError(f"--set task. options of {task} must be of their kind: {error}") from error


def _backbone(
    request: Request, source: str | None, parts: Mapping[str, Mapping[str, Any]]
) -> Backbone | None:
    """A network by its source, or an encoder for each side; with options its spec. None: the estimator's own."""
    network: Backbone | None = source
    if request.encoder or parts["encoders"]:
        if source is not None:
            raise SpecError("--backbone and --encoder name two ways to read both columns: give one")
        network = encoders(request.encoder, parts["encoders"])
    if not parts["backbone"]:
        return network
    named = usual_blip(cast(Task, request.task)) if network is None else network
    return changed(backbone_of(named), parts["backbone"])
