"""Reading and writing of JSON within limits of size, nesting and memory, for all files of the library."""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn, TypeAlias

from pyro_lfm.errors import DataError

# A value of JSON.
Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

# The largest text, in bytes. As a string of Python it takes up to four times as much.
MOST_BYTES = 2**24
# The deepest nesting of lists and dicts.
MOST_NESTED = 200
# The most digits of an integer. Longer ones take a time that grows with the square of their length.
_MOST_DIGITS = 20
# About the memory of a dict with an entry, of another entry, and of all values of a text.
_DICT, _ENTRY, _MEMORY = 240, 64, 2**25
_TOKEN = re.compile(rb'\\.|["\[\]{},]', re.DOTALL)


def read_json(data: bytes, what: str) -> Json:
    """The value of a JSON text in UTF-8.

    Args:
        what: the file, for errors.

    Raises:
        DataError: no JSON; too large or too deep; a key twice; numbers that are not finite or have too many digits.

    >>> read_json(b'{"a": [1, 0.5]}', "state.json")
    {'a': [1, 0.5]}
    >>> read_json(b'{"a": 1, "a": 2}', "state.json")
    Traceback (most recent call last):
    pyro_lfm.errors.DataError: state.json cannot be read: the key 'a' stands twice
    """
    _check_size(data, what)
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except UnicodeDecodeError:
        raise _refused(what, "it is no text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise _refused(what, f"it is no JSON (line {error.lineno}, column {error.colno})") from None
    except _Fault as error:
        raise _refused(what, str(error)) from None
    except RecursionError:
        raise _refused(what, "it is nested too deep for the stack that is left") from None


def write_json(value: Json, what: str) -> bytes:
    """The text of a value, which ``read_json`` reads.

    Raises:
        DataError: the text would be too large or too deep for ``read_json``.
    """
    text = json.dumps(value, allow_nan=False).encode()
    _check_size(text, what)
    return text


class _Fault(Exception):
    """Why a text is refused."""


def _check_size(data: bytes, what: str) -> None:
    """Refuses, before anything is made of it, a text that would take more memory than its size lets expect."""
    if len(data) > MOST_BYTES:
        raise _refused(what, f"it has {len(data)} bytes, more than {MOST_BYTES}")
    depth = memory = 0
    in_string = False
    for match in _TOKEN.finditer(data):
        token = match.group()
        if token == b'"':
            in_string = not in_string
        elif in_string or len(token) > 1:
            continue
        elif token == b",":
            memory += _ENTRY
        elif token in b"[{":
            depth, memory = depth + 1, memory + _DICT
            if depth > MOST_NESTED:
                raise _refused(what, f"it is nested deeper than {MOST_NESTED} levels")
        else:
            depth -= 1
        if memory > _MEMORY:
            raise _refused(what, "it has too many entries")


def _refused(what: str, why: str) -> DataError:
    return DataError(f"{what} cannot be read: {why}")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Fault(f"the key {next(key for key in keys if keys.count(key) > 1)[:80]!r} stands twice")
    return entries


def _no_constant(word: str) -> NoReturn:
    raise _Fault(f"{word} is no number of JSON")


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise _Fault(f"an integer has {len(digits)} digits, more than {_MOST_DIGITS}")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Fault(f"the number {digits[:40]} is not finite")
    return number
