"""A container of modules by variable name, and the check of parameters whose source is the name of a factor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.supports import is_positive
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors.variables import Variable

# The attributes of torch's containers. No module or parameter in a container may have one of these names.
_TAKEN = frozenset({*dir(nn.ModuleDict()), *dir(nn.ParameterDict())})


def key_of(name: str) -> str:
    """The key of a variable in a torch container, which allows neither dots nor the names of its own attributes.

    >>> key_of("z"), key_of("x.weight"), key_of("training")
    ('z', 'x$weight', 'training$')
    """
    key = name.replace(".", "$")
    return f"{key}$" if key in _TAKEN else key


def name_of(key: str) -> str:
    """The name of the variable that has a key.

    >>> name_of("training$"), name_of("x$weight")
    ('training', 'x.weight')
    """
    return key.removesuffix("$").replace("$", ".")


class Factors(nn.ModuleDict):
    """Modules by variable name. Unlike in torch, a name may contain dots, as in ``net.weight``, or be that of a torch
    attribute.

    >>> factors = Factors()
    >>> factors["net.weight"] = factors["keys"] = nn.Identity()
    >>> list(factors), "net.weight" in factors
    (['net.weight', 'keys'], True)
    """

    def __setitem__(self, name: str, factor: nn.Module) -> None:
        super().__setitem__(key_of(name), factor)

    def __getitem__(self, name: str) -> Any:
        module = self._modules.get(name)  # most names are keys themselves
        return super().__getitem__(key_of(name)) if module is None else module

    def __contains__(self, name: str) -> bool:
        return super().__contains__(key_of(str(name)))

    def __iter__(self) -> Iterator[str]:
        return (name_of(key) for key in super().__iter__())

    def keys(self) -> list[str]:
        return list(self)

    def values(self) -> list[Any]:
        return [self[name] for name in self]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self[name]) for name in self]


def check_named(what: str, parent: Variable, shape: torch.Size, bounds: Constraint | None) -> None:
    """Checks that the value of a parent can be a parameter of this shape and support."""
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
