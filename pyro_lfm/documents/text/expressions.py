"""Expressions such as ``Gaussian(64, mean=MLP(128))``, parsed into calls of names without evaluating anything."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyro_lfm.errors import DeclarationError

# Longer and deeper expressions are refused before they reach Python's parser, which may exhaust its stack.
_LENGTH, _DEPTH = 200_000, 60
_CALL = re.compile(r"\s*[^\W\d][\w.]*(\s*>\s*[^\W\d]\w*)?\s*\(")


@dataclass(frozen=True)
class Call:
    """A part as it was written: its name, and its arguments as plain values and further calls.

    A table ``{type = "MLP", hidden = [64]}`` is a call too, whose arguments all have names.
    """

    name: str
    positional: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    is_table: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Name:
    """A name that stands alone, such as that of a function."""

    name: str


def is_call(text: str) -> bool:
    """Whether a string is an expression and not a plain word.

    >>> is_call("MLP(64)"), is_call("package>Mine(3)"), is_call("relu")
    (True, True, False)
    """
    return _CALL.match(text) is not None


def parse(text: str) -> Any:
    """The value of an expression: numbers, strings, lists, mappings, names and calls of names.

    Raises:
        DeclarationError: it is longer or deeper than expressions may be, or holds anything else.

    >>> parse("Gaussian(64, mean=MLP(128))")
    Call(name='Gaussian', positional=(64,), named={'mean': Call(name='MLP', positional=(128,), named={})})
    >>> parse("__import__('os').system('ls')")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: an expression holds names of parts, numbers, strings and lists; got __import__...
    """
    _check_size(text)
    try:
        with warnings.catch_warnings():
            # Python's parser warns of odd literals, such as 1x and "\\d", which are errors here or harmless.
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
        return _value(tree)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        if isinstance(error, DeclarationError):
            raise
        raise DeclarationError(f"{_shown(text)!r} is no expression such as MLP(64, 64)") from None


def _check_size(text: str) -> None:
    if len(text) > _LENGTH:
        raise DeclarationError(f"an expression may have {_LENGTH} characters; got {len(text)}")
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth > _DEPTH:
            raise DeclarationError(f"an expression may be nested {_DEPTH} deep; {_shown(text)} is deeper")


def _value(node: ast.expr) -> Any:
    """The value of a node of Python's syntax tree."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str | None):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _value(node.operand)
        if isinstance(number, int | float) and not isinstance(number, bool):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.List):
        return [_value(entry) for entry in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(entry) for entry in node.elts)
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        return dict(_entries(node))
    if isinstance(node, ast.Name | ast.Attribute):
        return Name(_dotted(node))
    if isinstance(node, ast.Compare):
        return _of_package(node)
    if isinstance(node, ast.Call):
        return _call(node)
    raise _refused(node)


def _entries(node: ast.Dict) -> Iterator[tuple[str, Any]]:
    for key, value in zip(node.keys, node.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            raise _refused(node)
        yield key.value, _value(value)


def _dotted(node: ast.expr) -> str:
    """A dotted name, without names that start with an underscore."""
    parts: list[str] = []
    place = node
    while isinstance(place, ast.Attribute):
        parts.append(place.attr)
        place = place.value
    if not isinstance(place, ast.Name) or len(parts) > 3:
        raise _refused(node)
    parts.append(place.id)
    if any(part.startswith("_") for part in parts):
        raise _refused(node)
    return ".".join(reversed(parts))


def _of_package(node: ast.Compare) -> Call | Name:
    """A registered part ``package>Name(...)``, which Python reads as a comparison."""
    if len(node.ops) != 1 or not isinstance(node.ops[0], ast.Gt) or not isinstance(node.left, ast.Name):
        raise _refused(node)
    value = _value(node.comparators[0])
    package = _dotted(node.left)
    if isinstance(value, Call):
        return Call(f"{package}>{value.name}", value.positional, value.named)
    if isinstance(value, Name):
        return Name(f"{package}>{value.name}")
    raise _refused(node)


def _call(node: ast.Call) -> Any:
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        raise _refused(node)
    # Gaussian(3).coded(Code(...)), the repr of a factor of a table: the code is one more argument.
    if isinstance(node.func, ast.Attribute) and node.func.attr == "coded":
        inner, positional = _value(node.func.value), [_value(argument) for argument in node.args]
        if isinstance(inner, Call) and len(positional) == 1 and not node.keywords:
            return Call(inner.name, inner.positional, {**inner.named, "code": positional[0]})
        raise _refused(node)
    if not isinstance(node.func, ast.Name | ast.Attribute):
        raise _refused(node.func)
    name = _dotted(node.func)
    named: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in named:
            raise _refused(node)
        named[keyword.arg] = _value(keyword.value)
    positional = [_value(argument) for argument in node.args]
    if name == "float" and len(positional) == 1 and not named and isinstance(positional[0], str):
        return float(positional[0])
    return Call(name, tuple(positional), named)


def _refused(node: ast.expr) -> DeclarationError:
    try:
        shown = _shown(ast.unparse(node))
    except RecursionError:
        shown = "a nested expression"
    return DeclarationError(f"an expression holds names of parts, numbers, strings and lists; got {shown}")


def _shown(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def shown(value: Any) -> str:
    """A value of an expression for messages, shortened."""
    text = "nothing" if value is None else value.name if isinstance(value, Name | Call) else repr(value)
    return _shown(text)
