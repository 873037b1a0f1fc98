"""Writes a document as TOML: a section for each part of it, and short expressions where they say the same."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pyro_lfm.documents.text.models import parameters_of
from pyro_lfm.documents.text.registry import Registry

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# Longer factors stand in a table of their own, one line for each argument.
_SHORT = 60


def toml(document: Mapping[str, Any]) -> str:
    """A document as TOML text.

    >>> print(toml({"lfm": 1, "model": {"z": {"type": "StandardNormal", "event": 2}}}), end="")
    lfm = 1
    <BLANKLINE>
    [model]
    z = "StandardNormal(2)"
    """
    top = [f"{_key(n)} = {_value(v)}" for n, v in document.items() if not isinstance(v, Mapping)]
    blocks = [top] if top else []
    for name, value in document.items():
        if isinstance(value, Mapping):
            blocks += _section(name, value)
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _section(name: str, section: Mapping[str, Any]) -> list[list[str]]:
    """The lines of a section, and those of the tables below it, which hold its long parts."""
    lines: list[str] = [f"[{_key(name)}]"]
    below: list[list[str]] = []
    for key, value in section.items():
        text = _short(value)
        is_part = isinstance(value, Mapping) and isinstance(value.get("type"), str)
        # In the order of the declaration, in which guides read variables: after the first table come tables alone.
        if is_part and name in ("model", "guide") and (below or len(text) > _SHORT):
            inner = [f"{_key(argument)} = {_short(entry)}" for argument, entry in value.items()]
            below.append([f"[{_key(name)}.{_key(key)}]", *inner])
        else:
            lines.append(f"{_key(key)} = {text}")
    # A table below a section declares the section too.
    return below if below and len(lines) == 1 else [lines, *below]


def _short(value: Any) -> str:
    """A value of TOML: an expression in quotes for a part that has one, else a table in one line."""
    text = expression(value) if isinstance(value, Mapping) else None
    return _value(value) if text is None else _string(text)


def expression(table: Any) -> str | None:
    """The expression of a part that is written as a table; None where there is none.

    >>> expression({"type": "Gaussian", "event": 3, "mean": {"type": "MLP", "hidden": [8]}})
    'Gaussian(3, mean=MLP(8))'
    """
    name = table.get("type") if isinstance(table, Mapping) else None
    maker = Registry().named(name) if isinstance(name, str) else None
    if maker is None or "code" in table:
        return None
    parameters = parameters_of(maker)
    words: list[str] = []
    for place, (argument, (parameter, _)) in enumerate(parameters.items()):
        if argument not in table:
            continue
        entries = table[argument] if parameter.kind is inspect.Parameter.VAR_POSITIONAL else [table[argument]]
        texts = [_entry(entry) for entry in entries]
        if None in texts:
            return None
        first = place == 0 or parameter.kind is inspect.Parameter.VAR_POSITIONAL
        words += [str(text) if first else f"{argument}={text}" for text in texts]
    unknown = table.keys() - parameters.keys() - {"type"}
    return None if unknown else f"{name}({', '.join(words)})"


def _entry(value: Any) -> str | None:
    """A value inside an expression."""
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str):
            return expression(value)
        texts = {key: _entry(entry) for key, entry in value.items()}
        return (
            None
            if None in texts.values()
            else "{" + ", ".join(f"{_string(k)}: {t}" for k, t in texts.items()) + "}"
        )
    if isinstance(value, list):
        entries = [_entry(entry) for entry in value]
        return None if None in entries else f"[{', '.join(map(str, entries))}]"
    if isinstance(value, str):
        # Inside the quotes of TOML, where single quotes need no escape.
        is_constraint = value.startswith("constraints.")
        return value if is_constraint else repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value) if value is None or isinstance(value, bool | int | float) else None


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_short(v)}" for k, v in value.items() if v is not None) + " }"
    raise TypeError(type(value).__name__)
