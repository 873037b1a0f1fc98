"""Factors by name, and parameters that are the very value of a named factor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from pyro_lfm.distributions.supports import is_positive
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.variables import Variable


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


def check_named(what: str, parent: Variable, shape: torch.Size, bounds: Any) -> None:
    """A parent whose value is a parameter of this shape and within these bounds (a constraint, or None) must fit it."""
    if parent.shape not in (torch.Size(), shape):
        raise ShapeError(
            f"{what} is {parent.name}, whose shape must be () or {tuple(shape)}; got {tuple(parent.shape)}"
        )
    if bounds is None or not is_positive(bounds):
        return
    kind = "positive_integer" if bounds.is_discrete else "positive"
    if not is_positive(parent.support) or (bounds.is_discrete and not parent.support.is_discrete):
        raise DeclarationError(
            f"{what} must be {kind}, which {parent.name} need not be: declare "
            f"{parent.name}=lfm.Covariate(support=constraints.{kind})"
        )
