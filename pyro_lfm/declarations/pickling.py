"""Pickling of declarations and programs: it leaves out functions that another process cannot import by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import NoReturn, TypeVar

from pyro_lfm.errors import DeclarationError

Value = TypeVar("Value")


@dataclass(frozen=True)
class LeftOut:
    """Takes the place of a function in a pickle. Networks that the function has built are kept, but it can build no more.

    >>> LeftOut("<lambda>")(2, 3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: the network cannot be declared anew: its function <lambda> was left out ...
    """

    name: str

    def __call__(self, *sizes: int) -> NoReturn:
        raise DeclarationError(
            f"the network cannot be declared anew: its function {self.name} was left out when this was pickled; define it "
            "at the top of a module"
        )


def importable(value: Value) -> Value | LeftOut:
    """The value itself, or ``LeftOut`` in place of a function that another process cannot import by its name."""
    if not isinstance(value, FunctionType):
        return value
    place: ModuleType | Value | None = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        place = getattr(place, part, None)
    return value if place is value else LeftOut(value.__qualname__)


def without_local_functions(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Attributes, with ``LeftOut`` in place of local functions, also of those inside lists, tuples and dicts."""
    return {name: _without_local_functions(value) for name, value in attributes.items()}


def _without_local_functions(value: Value) -> Value:
    if isinstance(value, Mapping) and type(value) is dict:
        return {key: _without_local_functions(entry) for key, entry in value.items()}  # type: ignore[return-value]
    if type(value) in (list, tuple):
        return type(value)(map(_without_local_functions, value))  # type: ignore[call-arg, call-overload]
    return importable(value)  # type: ignore[return-value]
