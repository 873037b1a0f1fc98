"""Factors by name, whatever the name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

# What the containers of torch have of their own, so that no module or parameter in them may be called so.
_TAKEN = frozenset({*dir(nn.ModuleDict()), *dir(nn.ParameterDict())})


def key_of(name: str) -> str:
    """The key of a variable in a container of torch, which allows neither dots nor names of its own attributes.

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
    """Modules by the names of variables. Unlike in torch a name may hold dots, as latent weights of a program do, or be one
    that torch has for itself.

    >>> factors = Factors()
    >>> factors["net.weight"] = factors["keys"] = nn.Identity()
    >>> list(factors), "net.weight" in factors
    (['net.weight', 'keys'], True)
    """

    def __setitem__(self, name: str, factor: nn.Module) -> None:
        super().__setitem__(key_of(name), factor)

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(key_of(name))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(key_of(str(name)))

    def __iter__(self) -> Iterator[str]:
        return (name_of(key) for key in super().__iter__())

    def keys(self) -> Any:
        return list(self)

    def items(self) -> Any:
        return [(name, self[name]) for name in self]
