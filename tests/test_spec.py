"""Specs: checked when built, equal after JSON, open to scikit-learn and to the shell."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import pytest
from sklearn.base import clone

from multiadapt.adapters._base import AdapterSpec
from multiadapt.adapters.bottleneck import Bottleneck
from multiadapt.adapters.conv_bottleneck import ConvBottleneck
from multiadapt.errors import MultiadaptError, SpecError
from multiadapt.fusion._base import FusionSpec
from multiadapt.methods._base import Method
from multiadapt.methods.ti_adapter import TIAdapter
from multiadapt.spec import Spec, names, parse_value, resolve

FOLDERS = ("adapters", "encoders", "fusion", "methods", "tasks")
EVERY = [(folder, name) for folder in FOLDERS for name in names(folder)]


@dataclass(frozen=True)
class Inner(Spec):
    width: int = 4
    kind: Literal["a", "b"] | None = "a"

    def check(self) -> None:
        if self.width < 1:
            raise SpecError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True)
class Outer(Spec):
    rate: float = 0.5
    roles: tuple[str, ...] = ("x",)
    pair: tuple[int, float] = (1, 2.0)
    flag: bool = False
    text: str | None = None
    inner: Inner = Inner()
    other: Inner | None = None
    anything: Any = None
    each: Inner | Mapping[str, Inner] = Inner()


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_every_spec_is_the_only_one_of_its_file(folder, name):
    kind = resolve(folder, name)
    assert kind.folder == folder
    assert resolve(folder, name.replace("_", "-")) is kind
    assert kind().name == name


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_every_spec_survives_json(folder, name):
    spec = resolve(folder, name)()
    values = json.loads(json.dumps(spec.to_dict(), allow_nan=False))
    assert values["name"] == name
    assert type(spec).from_dict(values) == spec
    base = next(b for b in type(spec).__mro__ if b.__module__.endswith("._base"))
    assert base.from_dict(values) == spec


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_every_spec_is_a_frozen_value(folder, name):
    spec = resolve(folder, name)()
    assert hash(spec) == hash(resolve(folder, name)())
    assert replace(spec) == spec
    assert spec.with_params() == spec
    with pytest.raises(FrozenInstanceError):
        spec.anything = 1


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_every_option_of_every_spec_takes_its_own_default(folder, name):
    spec = resolve(folder, name)()
    for field in fields(spec):
        assert spec.with_params(**{field.name: getattr(spec, field.name)}) == spec


@pytest.mark.parametrize("folder", FOLDERS)
def test_unknown_name_lists_the_known(folder):
    with pytest.raises(SpecError, match=f"none of the {folder} is named 'no-such'; there are"):
        resolve(folder, "no-such")


def test_files_with_an_underscore_are_not_extensions():
    assert not any(name.startswith("_") for _, name in EVERY)
    with pytest.raises(SpecError, match="none of the adapters is named '_base'"):
        resolve("adapters", "_base")


def test_the_name_in_the_values_picks_the_extension():
    assert AdapterSpec.from_dict({"name": "conv_bottleneck", "r": 3}) == ConvBottleneck(r=3)
    assert AdapterSpec.from_dict({"name": "conv-bottleneck"}) == ConvBottleneck()
    assert FusionSpec.from_dict({"name": "concat"}).name == "concat"
    assert Bottleneck.from_dict({"r": 3}) == Bottleneck(r=3)


def test_values_are_not_written_to():
    values = {"name": "bottleneck", "r": 3}
    AdapterSpec.from_dict(values)
    assert values == {"name": "bottleneck", "r": 3}


@pytest.mark.parametrize(
    "spec",
    [
        Outer(),
        Outer(rate=1, roles=["x", "y"], pair=[3, 4], text="t", other=Inner(9, None), anything=1.5),
        Outer(roles=()),
        Outer(each={"width": Inner(3), "name": Inner(4)}),  # names like those of options
        Outer(each=Inner(5)),
    ],
)
def test_nested_specs_survive_json(spec):
    assert Outer.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_specs_by_name_are_a_frozen_value():
    own = {"a": Inner(3), "b": Inner(4)}
    spec = Outer(each=own)
    own["a"] = Inner(5)
    assert spec.each == {"a": Inner(3), "b": Inner(4)}
    assert hash(spec) == hash(Outer(each={"b": Inner(4), "a": Inner(3)}))
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301 - ours
    assert repr(spec.each) == repr(dict(spec.each))
    with pytest.raises(TypeError, match="does not support item assignment"):
        spec.each["a"] = Inner(5)
    assert spec.with_params(each=Inner(6)).each == Inner(6)
    assert spec.get_params()["each"] is spec.each


def test_what_is_not_named_must_say_which_extension_it_is():
    assert AdapterSpec.from_dict({"name": "bottleneck", "r": 3}) == Bottleneck(3)
    with pytest.raises(
        SpecError, match=r"one of the adapters must say .*'r': 3.*there are bottlen"
    ):
        AdapterSpec.from_dict({"r": 3})


def test_a_list_becomes_a_tuple_and_a_whole_number_a_float():
    spec = Outer(rate=1, roles=["x", "y"], pair=[3, 4])
    assert (spec.rate, spec.roles, spec.pair) == (1.0, ("x", "y"), (3, 4.0))
    assert [type(v) for v in (spec.rate, *spec.pair)] == [float, int, float]
    assert hash(spec) == hash(Outer(rate=1.0, roles=("x", "y"), pair=(3, 4.0)))


def test_numbers_of_numpy_become_pythons():
    spec = Outer(rate=np.float32(0.25), pair=(np.int64(3), np.float64(4)), inner=Inner(np.int8(2)))
    assert [type(v) for v in (spec.rate, *spec.pair, spec.inner.width)] == [float, int, float, int]
    assert json.loads(json.dumps(spec.to_dict()))["pair"] == [3, 4.0]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"rate": "fast"}, "Outer.rate must be float, got 'fast'"),
        ({"rate": True}, "Outer.rate must be float, got True"),
        ({"rate": float("nan")}, "Outer.rate must be float, got nan"),
        ({"rate": float("inf")}, "Outer.rate must be float, got inf"),
        ({"rate": None}, "Outer.rate must be float, got None"),
        ({"flag": 1}, "Outer.flag must be bool, got 1"),
        ({"text": 3}, "Outer.text must be str or None, got 3"),
        ({"roles": "xy"}, r"Outer.roles must be tuple\[str, \.\.\.\], got 'xy'"),
        ({"roles": ["x", 2]}, r"Outer.roles\[1\] must be str, got 2"),
        ({"pair": (1,)}, r"Outer.pair must hold 2 values, got \(1,\)"),
        ({"pair": (1.5, 2)}, r"Outer.pair\[0\] must be int, got 1.5"),
        ({"inner": {"width": 2}}, "Outer.inner must be Inner, got {'width': 2}"),
        ({"each": 3}, "Outer.each must be Inner or Inner by name, got 3"),
        ({"each": {}}, r"Outer.each must hold a value for at least one name, got {}"),
        ({"each": {1: Inner()}}, r"Outer.each must hold a value for at least one name, got {1: "),
        ({"each": {"a": 3}}, r"Outer.each\['a'\] must be Inner, got 3"),
        ({"other": "Inner"}, "Outer.other must be Inner or None, got 'Inner'"),
    ],
)
def test_values_of_another_type_are_refused(values, match):
    with pytest.raises(SpecError, match=match):
        Outer(**values)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"width": 2.0}, "Inner.width must be int, got 2.0"),
        ({"width": True}, "Inner.width must be int, got True"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"kind": "c"}, "Inner.kind must be one of 'a', 'b' or None, got 'c'"),
        ({"kind": ["a"]}, r"Inner.kind must be one of 'a', 'b' or None, got \['a'\]"),
    ],
)
def test_values_that_do_not_exist_are_refused(values, match):
    with pytest.raises(SpecError, match=match):
        Inner(**values)
    with pytest.raises(SpecError, match=match):
        Inner.from_dict(values)
    with pytest.raises(SpecError, match=match):
        Inner().with_params(**values)
    with pytest.raises(SpecError, match=match):
        Outer().with_params(**{f"inner__{k}": v for k, v in values.items()})


def test_spec_errors_are_value_errors_of_this_package():
    with pytest.raises(ValueError, match="width") as caught:
        Inner(0)
    assert isinstance(caught.value, MultiadaptError)


def test_with_params_reaches_nested_specs():
    spec = Outer(other=Inner(5))
    changed = spec.with_params(**{"inner__width": 2, "other.kind": None, "rate": 3})
    assert changed == Outer(rate=3.0, inner=Inner(2), other=Inner(5, None))
    assert spec == Outer(other=Inner(5))
    assert spec.with_params(inner=Inner(7), inner__kind="b").inner == Inner(7, "b")
    method = TIAdapter().with_params(**{"tabular.r": 4, "tabular__alpha": 2})
    assert method.tabular == Bottleneck(r=4, alpha=2.0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"ratio": 1}, r"Outer has no option \['ratio'\]; it has rate, roles, pair, flag, text"),
        ({"inner__depth": 1}, r"Inner has no option \['depth'\]; it has width, kind"),
        ({"depth__width": 1}, r"Outer has no option \['depth'\]"),
        ({"rate__x": 1}, r"Outer.rate has no options of its own, got \['x'\]"),
        ({"other__width": 1}, r"Outer.other has no options of its own, got \['width'\]"),
    ],
)
def test_options_that_do_not_exist_are_refused(changes, match):
    with pytest.raises(SpecError, match=match):
        Outer().with_params(**changes)


def test_unknown_values_are_refused():
    with pytest.raises(SpecError, match=r"Bottleneck has no option \['rank'\]; it has r, alpha"):
        AdapterSpec.from_dict({"name": "bottleneck", "rank": 3})
    with pytest.raises(SpecError, match="none of the methods is named 'none-such'"):
        Method.from_dict({"name": "none-such"})
    with pytest.raises(SpecError, match=r"Concat has no option \['width'\]; it has none"):
        FusionSpec.from_dict({"name": "concat", "width": 1})


def test_scikit_learn_sees_every_option():
    spec = Outer(inner=Inner(7))
    assert clone(spec) is spec
    shallow = spec.get_params(deep=False)
    assert list(shallow) == [f.name for f in fields(spec)]
    deep = spec.get_params()
    assert deep["inner__width"] == 7
    assert "other__width" not in deep
    assert spec.with_params(**deep) == spec


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("1e-3", 0.001),
        ("-2.5", -2.5),
        ("true", True),
        ("False", False),
        ("none", None),
        ("None", None),
        ("null", None),
        ("bc1", "bc1"),
        ("a b", "a b"),
        ("", ""),
        ("007", "007"),
        ('"16"', "16"),
        ('["query", "value"]', ["query", "value"]),
        ("[1, 2", "[1, 2"),
        ("runs/1", "runs/1"),
        ("nan", "nan"),
    ],
)
def test_a_value_from_the_shell(text, value):
    got = parse_value(text)
    assert got == value
    assert type(got) is type(value)
