"""Functions that a declaration names, as pickles hold them: the networks that they made are there without them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from pyro_lfm.errors import DeclarationError


@dataclass(frozen=True)
class LeftOut:
    """A function that a pickle has left out: what it made is there, and it can make nothing more.

    >>> LeftOut("<lambda>")(2, 3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: the network cannot be declared anew: its function <lambda> was left out ...
    """

    name: str

    def __call__(self, *sizes: Any) -> Any:
        raise DeclarationError(
            f"the network cannot be declared anew: its function {self.name} was left out when this was pickled; define it "
            "at the top of a module"
        )


def findable(source: Any) -> Any:
    """A source; in place of a function that another process could not find by its name, a word for it."""
    if not isinstance(source, FunctionType):
        return source
    place: Any = sys.modules.get(source.__module__)
    for part in source.__qualname__.split("."):
        place = getattr(place, part, None)
    return source if place is source else LeftOut(source.__qualname__)
