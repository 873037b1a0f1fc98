"""``Refusal``, the error of a request that a service does not serve, and how values of JSON are shown in its message."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TypeAlias

# What json.loads gives.
Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

# The most characters of a value, and the most names, that a message shows.
_CHARACTERS, _NAMES = 40, 20


class Refusal(Exception):
    """A request is refused with a status of HTTP, 4xx, and one sentence."""

    def __init__(self, message: str, status: int = 422):
        super().__init__(message)
        self.status = status


def shown(value: Json) -> str:
    """A value in words that are short, whatever came.

    >>> shown("a" * 1000), shown([1, 2]), shown(None)
    ('"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..., a string', 'a list of 2', 'null')
    """
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the keys {listed([*value])}" if value else "an empty object"
    if isinstance(value, int) and abs(value) >= 10**_CHARACTERS:
        return "a whole number of more than 40 digits"
    text = json.dumps(value)
    text = text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}..."
    return f"{text}, a string" if isinstance(value, str) else text


def listed(names: list[str]) -> str:
    """Names in a row, the first ones where there are many.

    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    words = ", ".join(_quoted(name) for name in names[:_NAMES])
    return f"{words}, ... ({len(names)} in all)" if len(names) > _NAMES else words


def misnamed(subject: str, known: list[str], missing: list[str], unknown: list[str]) -> Refusal:
    """The refusal of names that do not match."""
    faults = [f"missing: {listed(missing)}"] * bool(missing) + [f"unknown: {listed(unknown)}"] * bool(unknown)
    close = get_close_matches(unknown[0][:_CHARACTERS], missing or known, 1) if unknown else []
    meant = f"; did you mean {_quoted(close[0])}?" if close else ""
    return Refusal(f"{subject} {listed(known)}; {', '.join(faults)}{meant}")


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _CHARACTERS else f"{name[: _CHARACTERS - 1]}...")
