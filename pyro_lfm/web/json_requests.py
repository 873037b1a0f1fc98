"""The body of a request, from bytes to its fields: ``parsed`` reads JSON, the others one field each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn

from pyro_lfm.web.refusal import Json, Refusal, misnamed, shown

Request = dict[str, Json]


def parsed(body: bytes, fields: Sequence[str]) -> Request:
    """The fields of a request.

    Args:
        fields: their names.

    Raises:
        Refusal: a body that is not JSON as RFC 8259 has it (400), no object, or an unknown field.

    >>> parsed(b'{"rows": [[1.0]]}', ["rows"])
    {'rows': [[1.0]]}
    """
    try:
        request: Json = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_once)
    except RecursionError:
        raise Refusal("the body must be JSON; got brackets that are nested too deeply", 400) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refusal(f"the body must be JSON; got a fault at {where}: {error.msg}", 400) from None
    except UnicodeDecodeError:
        raise Refusal("the body must be JSON in UTF-8; got bytes that are none", 400) from None
    except ValueError:  # Python reads whole numbers up to 4300 digits
        raise Refusal("the body must be JSON; got a whole number of too many digits", 400) from None
    if not isinstance(request, dict):
        raise Refusal(f"the body must be an object with the fields {', '.join(fields)}; got {shown(request)}")
    unknown = [name for name in request if name not in fields]
    if unknown:
        raise misnamed("a request has the fields", [*fields], [], unknown)
    return request


def _no_constant(token: str) -> NoReturn:
    raise Refusal(f"the body must be JSON, which has no {token}: write null for a missing value", 400)


def _once(pairs: list[tuple[str, Json]]) -> Request:
    """An object; of a key that stands twice json.loads would keep the last alone."""
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Refusal(f"an object must have each key once; got {shown(twice)} twice", 400)
    return values


def whole_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A field that is a whole number between bounds."""
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refusal(f"{name} must be a whole number from {least} to {most}; got {shown(value)}")
    return value


def fraction(request: Request, name: str, default: float) -> float:
    """A field that is a number between 0 and 1."""
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise Refusal(f"{name} must be a number between 0 and 1; got {shown(value)}")
    return float(value)


def some_of(request: Request, name: str, known: Sequence[str]) -> list[str]:
    """A field that is a list of known names."""
    value = request.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each in known for each in value):
        raise Refusal(f"{name} must be a list of {', '.join(known)}; got {shown(value)}")
    return [str(each) for each in value]
