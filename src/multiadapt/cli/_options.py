"""Options that several commands share, and the request that they make."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from multiadapt.spec import names, parse_value

__all__ = [
    "FOLDER",
    "PAIRED",
    "PLACE",
    "TABLE",
    "Request",
    "chunk_option",
    "device_option",
    "empty_option",
    "encoder_option",
    "engine_option",
    "estimator_options",
    "json_option",
    "keep_option",
    "mask_option",
    "network_option",
    "on_error_option",
    "pairs",
    "root_option",
    "set_option",
    "where_option",
    "workers_option",
]

F = TypeVar("F", bound=Callable[..., Any])

PAIRED = ("retrieval", "answering", "captioning")
"""Tasks whose columns have roles."""
TABLE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


class _Place(click.ParamType):
    """A file, or one in object storage, which stays the text that it is."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        return value if isinstance(value, str) and "://" in value else Path(value)


PLACE = _Place()


@dataclass(frozen=True)
class Request:
    """What `fit` and `compare` are asked for, as typed."""

    table: Path
    label: tuple[str, ...]
    task: str
    target: str | None
    class_weight: str | None
    separator: str | None
    metric: str | None
    encoder: Mapping[str, str]
    changes: Mapping[str, Any]
    column_type: Mapping[str, str]
    groups: str | None
    sample_weight: str | None
    split_column: str | None
    where: str | None
    root: Path | None
    seed: int
    validation: float
    on_error: str
    max_files: int
    join_text: bool
    device: str | None
    memory: float
    quiet: bool

    def need_label(self) -> None:
        """A usage error where nothing is said to be learned."""
        if not self.label:
            raise click.UsageError(
                "Missing option '--label'.", click.get_current_context(silent=True)
            )

    @property
    def labels(self) -> str | list[str]:
        """The label as `fit` takes it: one column, or several of zeros and ones."""
        return self.label[0] if len(self.label) == 1 else list(self.label)


def pairs(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> dict[str, str]:
    """NAME=VALUE texts as a mapping; each name once."""
    found: dict[str, str] = {}
    for value in values:
        name, sign, rest = value.partition("=")
        if not (sign and name and rest):
            raise click.BadParameter(f"expected NAME=VALUE, got {value!r}", context, parameter)
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice", context, parameter)
        found[name] = rest
    return found


def _values(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> dict[str, Any]:
    """NAME=VALUE texts with the values read: numbers, true, false, none, JSON, else text."""
    return {k: parse_value(v) for k, v in pairs(context, parameter, values).items()}


encoder_option = click.option(
    "--encoder",
    multiple=True,
    callback=pairs,
    metavar="NAME=SOURCE",
    help="Encoder of a modality or of an image column: a hub name, a folder, starter, mlp, "
    "random:resnet-50 ... May be repeated.",
)
set_option = click.option(
    "--set",
    "changes",
    multiple=True,
    callback=_values,
    metavar="OPTION=VALUE",
    help="An option of the method (image.variant=bc1), of the recipe (training.epochs=5), of the "
    "task (task.metric=roc_auc), of a named encoder (encoders.image.size=128) or, with --task "
    "retrieval, answering and captioning, of their network (backbone.frames=4) and, of the first, of "
    "its loss (contrast.momentum=.9). May be repeated; `multiadapt methods NAME` lists the method's.",
)
where_option = click.option(
    "--where", metavar="COLUMN=VALUE", help="Only the rows with this value; != for all others."
)
root_option = click.option(
    "--root", type=FOLDER, help="Folder that file paths are relative to.  [default: the table's]"
)
on_error_option = click.option(
    "--on-error",
    type=click.Choice(["raise", "missing"]),
    default="raise",
    show_default=True,
    help="What an unreadable cell is: an error, or missing and listed.",
)
network_option = click.option(
    "--backbone",
    metavar="SOURCE",
    help="Of a retriever, an answerer or a captioner: where its frozen network lies now, if it has moved; "
    "of two encoders --encoder names each.",
)
device_option = click.option(
    "--device", help="cpu, cuda, cuda:1 ...  [default: a GPU where there is one]"
)
mask_option = click.option(
    "--mask", type=TABLE, help="Modalities to take away from rows, as `multiadapt mask` draws them."
)
empty_option = click.option(
    "--empty",
    type=click.Choice(["raise", "prior"]),
    default="raise",
    show_default=True,
    help="What a row without any of its modalities gets: an error, where the method asks for at least "
    "one, or what the training labels are on the whole.",
)
chunk_option = click.option(
    "--chunk",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Rows that are read and written together; memory is bounded by it.",
)
keep_option = click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Copy this column, in place of the row's number. May be repeated.",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["here", "ray"]),
    default="here",
    show_default=True,
    help="ray: workers of a Ray cluster, or of this machine, each with the model; needs "
    "`pip install multiadapt[ray]`.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(1),
    help="With --engine ray.  [default: one for each GPU, or where there is none for each CPU]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_ESTIMATOR = (
    click.option(
        "--label",
        multiple=True,
        metavar="COLUMN",
        help="What is learned. Repeat it for several columns of zeros and ones.",
    ),
    click.option(
        "--task",
        type=click.Choice([*dict.fromkeys(["auto", *names("tasks"), *PAIRED])]),
        default="auto",
        show_default=True,
        help="auto: numbers with fractions or more than 20 different ones are a regression, "
        "several label columns or a separator multilabel, all else a classification. retrieval "
        "pairs two columns, answering and captioning tell of pictures or clips (fit only).",
    ),
    click.option(
        "--target",
        type=click.Choice(["identity", "log"]),
        help="log: learn the logarithm of a positive target.",
    ),
    click.option(
        "--class-weight",
        type=click.Choice(["balanced"]),
        help="Weight classes by the inverse of their frequency.",
    ),
    click.option("--separator", help="The label cells hold several labels with this between them."),
    click.option("--metric", help="The metric shown while training and used to compare."),
    encoder_option,
    set_option,
    click.option(
        "--column-type",
        multiple=True,
        callback=pairs,
        metavar="COLUMN=KIND",
        help="numeric, categorical, datetime, image, text, audio, video, vector, identifier or ignore, where "
        "the guess is wrong. May be repeated.",
    ),
    click.option(
        "--split-column",
        metavar="COLUMN",
        help="Marks rows train, val or test; test rows are not read by fit.",
    ),
    click.option("--groups", metavar="COLUMN", help="Equal values stay on one side of each split."),
    click.option("--sample-weight", metavar="COLUMN", help="Weights of at least 0."),
    where_option,
    root_option,
    click.option("--seed", type=int, default=0, show_default=True),
    click.option(
        "--validation",
        type=click.FloatRange(0, 1, max_open=True),
        metavar="SHARE",
        default=0.2,
        show_default=True,
        help="Share of training rows held out for early stopping where none are given; 0: none.",
    ),
    on_error_option,
    click.option(
        "--max-files",
        type=click.IntRange(1),
        metavar="NUMBER",
        default=8,
        show_default=True,
        help="Most files that one cell may name.",
    ),
    click.option(
        "--join-text",
        is_flag=True,
        help="Read all text columns as one text, with their names; else each on its own.",
    ),
    device_option,
    click.option(
        "--memory",
        type=click.FloatRange(0),
        metavar="GIGABYTES",
        default=4.0,
        show_default=True,
        help="Gigabytes of frozen computation that may be kept while training.",
    ),
    click.option("--quiet", is_flag=True, help="Say nothing on the way."),
)


def estimator_options(command: F) -> F:
    """The options that describe an estimator and the table it is fitted on."""
    for option in reversed(_ESTIMATOR):
        command = option(command)
    return command
