"""Keyword arguments that a message of the library names, as one types them in a shell."""

import ast
import re
import shlex
from collections.abc import Iterator

import click

__all__ = ["KEYWORDS", "in_shell"]

KEYWORDS = {
    "backbone": "backbone",
    "base": "base",
    "beams": "beams",
    "class_weight": "class_weight",
    "column_types": "column_type",
    "encoders": "encoder",
    "groups": "groups",
    "how": "how",
    "init_from": "init_from",
    "join_text": "join_text",
    "max_files": "max_files",
    "max_length": "max_length",
    "memory": "memory",
    "metric": "metric",
    "on_error": "on_error",
    "profile": "profile",
    "resume": "out",  # the file lies beside what is saved
    "root": "root",
    "sample_weight": "sample_weight",
    "seed": "seed",
    "separator": "separator",
    "split_column": "split_column",
    "target": "target",
    "time_limit": "time_limit",
    "top_p": "top_p",
    "val_data": "val",
    "validation": "validation",
    "video": "video",
}
"""Python's keyword arguments, and the parameter of a command that sets each."""

QUOTES = "\"'"
TASK = ("answers", "min_count", "prompt", "smoothing")
"""Python's keyword arguments that --set task.NAME=... sets."""

_MENTION = re.compile(
    rf"(?<![\w./-])(?:(?P<name>{'|'.join([*KEYWORDS, *TASK])})\b(?!/)"
    r"""(?P<sign>`|=(?P<value>\{.*?\}|"[^"]*"|'[^']*'|\d[\d.]*)?)?|(?P<set>training\.\w+))"""
)


def in_shell(text: str, command: click.Command, fit: click.Command) -> str:
    """Options of this command, or else of `fit`, for what the text names; "" where there are none.

    Options that the text itself names are left out.
    """
    own, others = ({p.name: p for p in c.params} for c in (command, fit))
    told: dict[str, None] = {}
    for name, value in _mentioned(text):
        option = own.get(name, others.get(name))
        if isinstance(option, click.Option) and option.opts[0] not in text:
            before = "" if name in own else "multiadapt fit ... "
            told |= dict.fromkeys(f"{before}{typed}" for typed in _typed(option, value))
    return ", ".join(told)


def _mentioned(text: str) -> Iterator[tuple[str, str | None]]:
    """Parameters, and the value where one is written. An English word needs its sign: root= or `root`."""
    for found in _MENTION.finditer(text):
        if found["set"]:
            yield "changes", f"{found['set']}=..."
        elif found["name"] in TASK:
            if found["sign"]:
                yield "changes", f"task.{found['name']}={(found['value'] or '...').strip(QUOTES)}"
        elif found["sign"] or "_" in found["name"]:
            pair = found["name"] == "backbone" and (found["value"] or "").startswith("{")
            yield KEYWORDS["encoders" if pair else found["name"]], found["value"]


def _typed(option: click.Option, value: str | None) -> Iterator[str]:
    """The option with its value, once for each pair of a mapping."""
    flag, pairs = option.opts[0], _mapping(value)
    choices = "|".join(getattr(option.type, "choices", ()))
    if option.is_flag:
        yield flag
    elif pairs:
        yield from (f"{flag} {shlex.quote(f'{name}={kind}')}" for name, kind in pairs.items())
    elif value is None or value.startswith("{"):
        yield f"{flag} {option.metavar or choices or option.type.name.upper()}"
    else:
        bare = value.strip(QUOTES)
        yield f"{flag} {bare if value.endswith('...') else shlex.quote(bare)}"


def _mapping(value: str | None) -> dict[str, str]:
    """What is written between braces; empty where a part is left to the reader, as in {...}."""
    if value is None or not value.startswith("{"):
        return {}
    try:
        found = ast.literal_eval(value)
    except (SyntaxError, ValueError):  # a name with a brace in it
        return {}
    return found if isinstance(found, dict) and ... not in found.values() else {}
