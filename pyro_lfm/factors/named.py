"""Factors by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


class Factors(nn.ModuleDict):
    """Factors by name; unlike those of modules a name may hold dots, as latent weights of a program do.

    >>> factors = Factors()
    >>> factors["net.weight"] = nn.Identity()
    >>> list(factors), "net.weight" in factors
    (['net.weight'], True)
    """

    def __setitem__(self, name: str, factor: nn.Module) -> None:
        super().__setitem__(name.replace(".", "$"), factor)

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name.replace(".", "$"))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).replace(".", "$"))

    def __iter__(self) -> Iterator[str]:
        return (name.replace("$", ".") for name in super().__iter__())

    def keys(self) -> Any:
        return list(self)

    def items(self) -> Any:
        return [(name, self[name]) for name in self]
