"""`--set` and `--encoder` applied to specs."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.methods._base import Method
from multiadapt.model import encoder_spec
from multiadapt.spec import Spec, resolve

__all__ = ["changed", "divided", "encoders", "method_of"]

S = TypeVar("S", bound=Spec)


def divided(changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes by what they belong to: training, task and encoders by their first word, else the method."""
    parts: dict[str, dict[str, Any]] = {"method": {}, "training": {}, "task": {}, "encoders": {}}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        if rest and head in parts and head != "method":
            parts[head][rest] = value
        else:
            parts["method"][path] = value
    return parts


def method_of(name: str, changes: Mapping[str, Any]) -> Method:
    """A method by name, with its options."""
    method: Method = resolve("methods", name)()
    known = [field.name for field in fields(method)]
    lost = [o for o in changes if o not in known and o in method.training.to_dict()]
    if lost:
        raise SpecError(f"options of the recipe begin with training.: write training.{lost[0]}=...")
    return changed(method, changes)


def changed(spec: S, changes: Mapping[str, Any]) -> S:
    """A copy with other values; `image.r` reaches a nested spec, and switches on an optional one."""
    values = spec.to_dict()
    for path, value in changes.items():
        *outer, last = path.split(".")
        inner = values
        for name in outer:
            if inner.get(name) is None:
                inner[name] = {}
            inner = inner[name]
            if not isinstance(inner, dict):
                raise SpecError(f"{path}: {name!r} has no options of its own, it is {inner!r}")
        inner[last] = value
    return cast(S, type(spec).from_dict(values))


def encoders(named: Mapping[str, str], changes: Mapping[str, Any]) -> dict[str, str | EncoderSpec]:
    """Encoders by modality or column; options of one turn its name into a spec."""
    own: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        name, _, option = path.rpartition(".")
        own.setdefault(name, {})[option] = value
    unknown = [name for name in own if name not in named]
    if unknown:
        raise SpecError(
            f"options are set for encoders {unknown}, which --encoder does not name; it names "
            f"{list(named) or 'none'}"
        )
    return {n: _spec(n, source, own[n]) if n in own else source for n, source in named.items()}


def _spec(name: str, source: str, options: Mapping[str, Any]) -> EncoderSpec:
    modality = (
        "tabular" if name == "tabular" else "image"
    )  # a column with an encoder of its own holds images
    return changed(encoder_spec(modality, source), options)
