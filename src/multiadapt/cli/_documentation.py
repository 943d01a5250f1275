"""What specs say about themselves: a field is documented by the string under it."""

import ast
import dataclasses
import inspect
import json
import textwrap
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from multiadapt.methods._base import Method
from multiadapt.spec import Spec, names, resolve

__all__ = ["Option", "lines", "methods", "options", "trains"]


@dataclass(frozen=True)
class Option:
    """One option as `--set` reaches it."""

    path: str
    default: Any
    """A JSON value; None too where the option is an optional part that is off."""
    type: str
    about: str


def methods() -> dict[str, str]:
    """Every method and its first line."""
    found = {name: resolve("methods", name) for name in names("methods")}
    return {n.replace("_", "-"): (kind.__doc__ or "").splitlines()[0] for n, kind in found.items()}


def options(name: str) -> list[Option]:
    """The options of a method, then those of its training recipe where it has one."""
    method: Method = resolve("methods", name)()
    return [
        *_options(method, ""),
        *(_options(method.training, "training.") if trains(method) else ()),
    ]


def trains(method: Method) -> bool:
    """Whether anything is trained step by step. What gives scores without a head and has no use for
    validation rows, as trees do, follows no recipe."""
    return method.linear_head() or method.validates


def lines(name: str, found: Sequence[Option]) -> Iterator[str]:
    """The options as a person reads them."""
    yield inspect.cleandoc(resolve("methods", name).__doc__ or "")
    for option in found:
        yield ""
        yield f"--set {option.path}={_typed(option.default)}    ({option.type})"
        yield from textwrap.wrap(option.about, 92, initial_indent="    ", subsequent_indent="    ")


def _options(spec: Spec, prefix: str) -> Iterator[Option]:
    about, hints = _told(type(spec))
    for field in dataclasses.fields(spec):  # type: ignore[arg-type]
        value, hint, path = getattr(spec, field.name), hints[field.name], prefix + field.name
        if isinstance(value, Spec):
            yield from _options(value, f"{path}.")
            continue
        yield Option(path, value, _words(hint), about.get(field.name, ""))
        for part in typing.get_args(hint):  # an optional part that is off
            if isinstance(part, type) and issubclass(part, Spec):
                yield from _options(part(), f"{path}.")


def _told(kind: type) -> tuple[dict[str, str], dict[str, Any]]:
    """The strings under the fields of a spec and of the specs above it, and the fields' types."""
    about: dict[str, str] = {}
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, Spec):
            about |= _strings(base)
            hints |= inspect.get_annotations(base, eval_str=True)
    return about, hints


def _strings(kind: type) -> dict[str, str]:
    """The string under each field of a class, in one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    for field, under in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(under, ast.Expr) and isinstance(under.value, ast.Constant):
            found[field.target.id] = " ".join(str(under.value.value).split())
    return found


def _typed(value: Any) -> str:
    """A value as one types it in a shell."""
    if value is None or isinstance(value, str):
        return value or "none"
    return json.dumps(value).replace(" ", "")


def _words(hint: Any) -> str:
    """A type as one would say it in a shell."""
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(str(a) for a in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        inner = [a for a in typing.get_args(hint) if a is not ...]
        return f"[{', '.join(_words(a) for a in inner)}, ...]"
    arguments = typing.get_args(hint)
    if arguments:
        return " or ".join(_words(a) for a in arguments)
    if hint is type(None):
        return "none"
    if isinstance(hint, type) and issubclass(hint, Spec):
        return "options below"
    return {"int": "whole number", "float": "number", "str": "text", "bool": "true, false"}.get(
        getattr(hint, "__name__", ""), str(hint)
    )
