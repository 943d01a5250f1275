"""`--set` and `--encoder` applied to specs."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from multiadapt.cli._documentation import options, trains
from multiadapt.cli._options import PAIRED
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.methods._base import Method
from multiadapt.model import encoder_spec
from multiadapt.spec import Spec, resolve
from multiadapt.types import Stream

__all__ = ["MODALITIES", "changed", "check_read", "divided", "encoders", "method_of"]

S = TypeVar("S", bound=Spec)

MODALITIES = ("tabular", "image", "text", "audio", "video", "vector")
"""What an encoder may be named by, beside the name of a column."""


_HEADS = ("training", "task", "encoders", "backbone", "contrast")


def divided(changes: Mapping[str, Any], task: str = "auto") -> dict[str, dict[str, Any]]:
    """Changes by what they belong to: training, task, encoders, backbone and contrast by their first word, else
    the method.

    `task`: one whose columns have roles has a backbone, and retrieval a contrast.
    """
    parts: dict[str, dict[str, Any]] = {name: {} for name in ("method", *_HEADS)}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        if head == "contrast" and task != "retrieval":
            raise SpecError(
                f"--set {path}={value}: contrast is how two columns learn to find each other; it goes with "
                "--task retrieval"
            )
        if head == "backbone" and task not in PAIRED:
            raise SpecError(
                f"--set {path}={value}: backbone is the network that reads both columns; it goes with --task "
                f"{', '.join(PAIRED[:-1])} and {PAIRED[-1]}"
            )
        if path in _HEADS[1:] or (head == "encoders" and "." not in rest):
            raise SpecError(
                f"--set {path}={value}: {path} has options of its own; write --set "
                f"{_instead(head, rest)}=..."
            )
        if rest and head in _HEADS:
            parts[head][rest] = value
        else:
            parts["method"][path] = value
    return parts


def _instead(head: str, rest: str) -> str:
    known = {
        "task": "task.metric",
        "contrast": "contrast.momentum",
        "backbone": "backbone.frame_aware",
    }
    return known.get(head, f"encoders.{rest or 'image'}.size")


def method_of(name: str, changes: Mapping[str, Any]) -> Method:
    """A method by name, with its options."""
    method: Method = resolve("methods", name)()
    _check_whole(name, changes)
    known = [field.name for field in fields(method)]
    lost = [o for o in changes if o not in known and o in method.training.to_dict()]
    if lost and trains(method):
        raise SpecError(f"options of the recipe begin with training.: write training.{lost[0]}=...")
    return changed(method, changes)


def _check_whole(name: str, changes: Mapping[str, Any]) -> None:
    """SpecError: a part with options of its own is set to a single value."""
    known = [o.path for o in options(name)]
    for path, value in changes.items():
        inner = [o for o in known if o.startswith(f"{path}.")]
        whole = path != "training" and (value is None or isinstance(value, Mapping))
        if inner and not whole:
            raise SpecError(
                f"--set {path}={value}: {path} has options of its own, {', '.join(inner)}; write, for "
                f"example, --set {inner[0]}=..."
            )


def check_read(method: Method, named: Iterable[str]) -> None:
    """SpecError: an encoder is named for a stream that the method does not read, or reads by its own."""
    for name in named:
        stream = Stream(name, _modality(name), ())
        if not method.uses(stream):
            raise SpecError(
                f"method {method.name!r} does not read {name!r}; leave --encoder {name}= out"
            )
        if method.encoder(stream) is not None:
            raise SpecError(
                f"method {method.name!r} has an encoder of its own for {name!r}; leave --encoder {name}= out"
            )


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
    return changed(encoder_spec(_modality(name), source), options)


def _modality(name: str) -> str:
    """The modality that is named; a column with an encoder of its own holds images."""
    return name if name in MODALITIES else "image"
