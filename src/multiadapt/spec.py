"""Specs: frozen dataclasses that users construct, scikit-learn clones, artifacts store, the shell parses.

A spec that stands alone in a file of an extension folder is reached by the file's stem:
`resolve("methods", "ti-adapter")`.
"""

import dataclasses
import importlib
import inspect
import json
import math
import numbers
import pkgutil
import types
import typing
from abc import ABC
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from multiadapt.errors import SpecError

S = TypeVar("S", bound="Spec")
T = TypeVar("T")

__all__ = ["Named", "Spec", "names", "parse_value", "resolve"]


class Named(Mapping[str, T]):
    """Values by name. Nobody can write into it, so that a spec that holds it stays as it is."""

    def __init__(self, values: Mapping[str, T]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> T:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


@dataclasses.dataclass(frozen=True)
class Spec(ABC):
    """Base of all specs. Subclasses are frozen dataclasses; their values are checked when built."""

    folder: ClassVar[str] = ""
    """The extension folder whose files define this kind of spec; "" for a plain nested spec."""

    __no_type_check__: ClassVar[bool] = True
    """A checker of annotations would refuse what `__post_init__` converts: a list, a whole number."""

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for field in dataclasses.fields(self):
            value, where = getattr(self, field.name), f"{_title(self)}.{field.name}"
            object.__setattr__(self, field.name, _checked(value, hints[field.name], where))
        self.check()

    def check(self) -> None:
        """Raise SpecError where single values are fine but not together. Default: nothing to check."""

    @property
    def name(self) -> str:
        """The stem of the file that defines it."""
        return type(self).__module__.rpartition(".")[2]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an extension carries its name."""
        values = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"name": self.name, **values} if self.folder else values

    @classmethod
    def from_dict(cls: type[S], values: Mapping[str, Any]) -> S:
        """The inverse of `to_dict`; the name picks the extension."""
        values = dict(values)
        name = values.pop("name", None) if cls.folder else None
        kind = resolve(cls.folder, name) if name else cls
        if inspect.isabstract(kind):
            raise SpecError(
                f'one of the {cls.folder} must say which one it is, as {{"name": ..., ...}}; got '
                f"{values}; there are {', '.join(names(cls.folder))}"
            )
        _known(kind, values)
        hints = _hints(kind)
        return kind(**{k: _rebuilt(v, hints[k]) for k, v in values.items()})

    def with_params(self: S, **changes: Any) -> S:
        """A copy with other values; `image__variant` or `image.variant` reaches a nested spec."""
        own: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            head, _, rest = key.replace(".", "__").partition("__")
            (nested.setdefault(head, {}) if rest else own)[rest or head] = value
        _known(type(self), [*own, *nested])
        for head, inner in nested.items():
            current = own.get(head, getattr(self, head))
            if not isinstance(current, Spec):
                raise SpecError(
                    f"{_title(self)}.{head} has no options of its own, got {sorted(inner)}"
                )
            own[head] = current.with_params(**inner)
        return dataclasses.replace(self, **own)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - scikit-learn's
        """scikit-learn's view: every field, nested ones as `outer__inner`."""
        params = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if deep:
            for key, value in list(params.items()):
                if isinstance(value, Spec):
                    params |= {f"{key}__{k}": v for k, v in value.get_params().items()}
        return params

    def __sklearn_clone__(self) -> "Spec":
        return self  # frozen: a copy would be equal in every way


def names(folder: str) -> tuple[str, ...]:
    """The extensions of a folder: its files' stems, those with a leading underscore left out."""
    package = importlib.import_module(f"multiadapt.{folder}")
    found = (m.name for m in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(n for n in found if not n.startswith("_")))


def resolve(folder: str, name: str) -> type[Any]:
    """The one public spec of `folder/name.py`; `-` may stand for `_`."""
    stem = name.replace("-", "_")
    if stem not in names(folder):
        there = ", ".join(n.replace("_", "-") for n in names(folder))
        raise SpecError(f"none of the {folder} is named {name!r}; there are {there}")
    module = importlib.import_module(f"multiadapt.{folder}.{stem}")
    found = [getattr(module, n) for n in module.__all__]
    return next(
        c for c in found if isinstance(c, type) and issubclass(c, Spec) and c.folder == folder
    )


def parse_value(text: str) -> Any:
    """A value typed in a shell: JSON where it is JSON, `none` for None, else the text itself."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _hints(kind: type) -> dict[str, Any]:
    """Annotations of a class and its bases; `typing.get_type_hints` gives none to an unchecked class."""
    each = (inspect.get_annotations(base, eval_str=True) for base in reversed(kind.__mro__))
    return {name: hint for hints in each for name, hint in hints.items()}


def _title(spec: Spec) -> str:
    return type(spec).__name__


def _known(kind: type, given: Iterable[str]) -> None:
    fields = [f.name for f in dataclasses.fields(kind)]
    unknown = [k for k in given if k not in fields]
    if unknown:
        raise SpecError(
            f"{kind.__name__} has no option {unknown}; it has {', '.join(fields) or 'none'}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _rebuilt(value: Any, hint: Any) -> Any:
    if isinstance(value, Mapping):
        by_name = bool(value) and all(isinstance(v, Mapping) for v in value.values())
        for choice in _choices(hint):
            if get_origin(choice) is Mapping and by_name:
                return {k: _rebuilt(v, get_args(choice)[1]) for k, v in value.items()}
        for choice in _choices(hint):
            if isinstance(choice, type) and issubclass(choice, Spec):
                return choice.from_dict(value)
    return value


def _choices(hint: Any) -> Sequence[Any]:
    return get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """The value, as tuple, int or float where that is meant; SpecError when it is of another type."""
    for choice in _choices(hint):
        if get_origin(choice) is tuple and isinstance(value, (list, tuple)):
            return _checked_tuple(value, choice, where)
        if get_origin(choice) is Mapping and isinstance(value, Mapping):
            return _checked_mapping(value, choice, where)
        if isinstance(value, str) and isinstance(choice, type) and getattr(choice, "folder", ""):
            return resolve(choice.folder, value)()  # a name stands for the spec with its defaults
        if _is(value, choice):
            return (
                choice(value) if choice in (int, float) else value
            )  # numpy's numbers are not JSON
    raise SpecError(f"{where} must be {_words(hint)}, got {value!r}")


def _checked_tuple(value: Sequence[Any], hint: Any, where: str) -> tuple[Any, ...]:
    inner = get_args(hint)
    kinds = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
    if len(kinds) != len(value):
        raise SpecError(f"{where} must hold {len(kinds)} values, got {value!r}")
    return tuple(
        _checked(v, k, f"{where}[{i}]") for i, (v, k) in enumerate(zip(value, kinds, strict=True))
    )


def _checked_mapping(value: Mapping[Any, Any], hint: Any, where: str) -> Named[Any]:
    if not value or not all(isinstance(name, str) and name for name in value):
        raise SpecError(f"{where} must hold a value for at least one name, got {dict(value)!r}")
    inner = get_args(hint)[1]
    return Named({name: _checked(v, inner, f"{where}[{name!r}]") for name, v in value.items()})


def _is(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if get_origin(hint) is Literal:
        return any(value == a and type(value) is type(a) for a in get_args(hint))
    kind = get_origin(hint) or hint
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind is float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return real and math.isfinite(value)
    return isinstance(value, kind)


def _words(hint: Any) -> str:
    def one(choice: Any) -> str:
        if get_origin(choice) is Literal:
            return "one of " + ", ".join(map(repr, get_args(choice)))
        if choice is type(None):
            return "None"
        if get_origin(choice) is Mapping:
            return f"{one(get_args(choice)[1])} by name"
        return (
            getattr(choice, "__name__", str(choice)) if get_origin(choice) is None else str(choice)
        )

    return " or ".join(one(c) for c in _choices(hint))
