"""Pickles of declarations: functions without a name of their own are left out, as no other process could find them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from pyro_lfm.errors import DeclarationError


@dataclass(frozen=True)
class LeftOut:
    """Stands for a function that a pickle has left out. The networks that it built are there, new ones cannot be built.

    >>> LeftOut("<lambda>")(2, 3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: the network cannot be declared anew: its function <lambda> was left out ...
    """

    name: str

    def __call__(self, *sizes: int) -> Any:
        raise DeclarationError(
            f"the network cannot be declared anew: its function {self.name} was left out when this was pickled; define it "
            "at the top of a module"
        )


def findable(source: Any) -> Any:
    """A source. A function that another process could not find by its name is replaced by ``LeftOut``."""
    if not isinstance(source, FunctionType):
        return source
    place: Any = sys.modules.get(source.__module__)
    for part in source.__qualname__.split("."):
        place = getattr(place, part, None)
    return source if place is source else LeftOut(source.__qualname__)


def without_local_functions(value: Any) -> Any:
    """A value of plain containers, in which ``findable`` has replaced every function."""
    if isinstance(value, Mapping) and type(value) is dict:
        return {key: without_local_functions(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(without_local_functions, value))
    return findable(value)
