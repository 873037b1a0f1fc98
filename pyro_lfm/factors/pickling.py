"""Functions that a declaration names, as pickles hold them: the networks that they made are there without them."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from torch import nn

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


class Declaration(nn.Module):
    """A module made of sources that were declared: the sources by name, and the trunk that gives the others.

    A copy holds them as they are. A pickle holds in place of a function without a name a word for it.
    """

    _declared: tuple[dict[str, Any], Any]

    def __getstate__(self) -> dict[str, Any]:
        sources, trunk = self._declared
        kept = {name: findable(source) for name, source in sources.items()}, findable(trunk)
        return {**self.__dict__, "_declared": kept}

    def __deepcopy__(self, memo: dict[int, Any]) -> Declaration:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__setstate__(copy.deepcopy({**self.__getstate__(), "_declared": self._declared}, memo))
        return made


def findable(source: Any) -> Any:
    """A source; in place of a function that another process could not find by its name, a word for it."""
    if not isinstance(source, FunctionType):
        return source
    place: Any = sys.modules.get(source.__module__)
    for part in source.__qualname__.split("."):
        place = getattr(place, part, None)
    return source if place is source else LeftOut(source.__qualname__)
