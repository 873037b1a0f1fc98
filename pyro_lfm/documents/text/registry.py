"""The names that a text may use: those of the catalogue, and those that users register by ``lfm.register``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pkgutil import iter_modules
from types import FunctionType
from typing import Any, TypeAlias, TypeVar, overload

import torch

from pyro_lfm.declarations import Part
from pyro_lfm.errors import DeclarationError

# A class of parts, a class of programs, or a function that makes networks or is a program.
Registered: TypeAlias = type | FunctionType
Value = TypeVar("Value", bound=Callable[..., Any])

_NAME = re.compile(r"([^\W\d]\w*>)?[^\W\d]\w*")
# The parts that users have registered, by name.
_REGISTERED: dict[str, Registered] = {}


@overload
def register(part: Value) -> Value: ...
@overload
def register(part: str) -> Callable[[Value], Value]: ...
def register(part: Value | str) -> Value | Callable[[Value], Value]:
    """Registers a class or function, so that files may name it: a decorator, with or without a name.

    A class of parts (a prior, a likelihood, an objective) and of programs stands in a file with its arguments. A function
    (in_size, out_size) -> module stands as the source of a parameter.

    Args:
        part: the class or function, or its name in files, "Name" or "package>Name". By default it is its own name.

    Raises:
        DeclarationError: the name belongs to the catalogue or to another class, or is no name.

    >>> import torch, pyro_lfm as lfm
    >>> @lfm.register("manual>Wide")
    ... class Wide(lfm.Prior):
    ...     def forward(self):
    ...         return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(self.dim), 10.0), 1)
    >>> lfm.part("manual>Wide(2)")
    Wide(2)
    """
    if isinstance(part, str):
        name = part
        return lambda value: _register(name, value)
    return _register(getattr(part, "__name__", ""), part)


def _register(name: str, value: Value) -> Value:
    if not isinstance(value, Registered):
        raise DeclarationError(f"register takes a class or a function that stands in a module; got {value!r}")
    if not _NAME.fullmatch(name):
        raise DeclarationError(f'a part is registered as "Name" or "package>Name"; got {name!r}')
    if name in catalogue():
        raise DeclarationError(
            f'{name} is a part of the catalogue: register yours in a package, as in @lfm.register("mine>{name}")'
        )
    other = _REGISTERED.get(name)
    # A module that is read again, as in a notebook, defines its classes again.
    if other is not None and other is not value and _place(other) != _place(value):
        raise DeclarationError(
            f'{name} is registered already, for {_place(other)}: register yours as "package>{name}"'
        )
    _REGISTERED[name] = value
    return value


def _place(value: Registered) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def registered() -> Mapping[str, Registered]:
    """The parts that users have registered, by name."""
    return dict(_REGISTERED)


@cache
def catalogue() -> Mapping[str, Callable[..., Any]]:
    """The parts of the library by the names under which expressions write them."""
    import pyro_lfm
    from pyro_lfm.tables.column_groups import MeanNegativeBinomial
    from pyro_lfm.tables.gene_counts import GeneCounts

    names: dict[str, Callable[..., Any]] = {
        "MeanNegativeBinomial": MeanNegativeBinomial,
        "GeneCounts": GeneCounts,
        "Code": pyro_lfm.Code,
    }
    # Namespaces such as lfm.lightning hold no parts, and importing one may need an extra.
    namespaces = {module.name for module in iter_modules(pyro_lfm.__path__)}
    places = [("", pyro_lfm), ("parameter_priors.", pyro_lfm.parameter_priors)]
    for prefix, module in places:
        for name in sorted(set(module.__all__) - namespaces):
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, Part) and not _is_base(value):
                names[f"{prefix}{name}"] = value
    for name in pyro_lfm.schedules.__all__:
        names[f"schedules.{name}"] = getattr(pyro_lfm.schedules, name)
    return names


def _is_base(kind: type[Part]) -> bool:
    """Whether a class is there to be subclassed alone."""
    import pyro_lfm

    bases = (
        pyro_lfm.Factor,
        pyro_lfm.Prior,
        pyro_lfm.Covariance,
        pyro_lfm.Objective,
        pyro_lfm.Penalty,
        pyro_lfm.Inference,
    )
    return kind in bases


@cache
def optimizers() -> Mapping[str, type[torch.optim.Optimizer]]:
    """The optimizers of torch by name."""
    return {
        name: value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
    }


class Registry:
    """The names that one text may use.

    Args:
        parts: further classes and functions, which are found by their own names after those of the catalogue.

    >>> Registry().named("MLP").__name__, Registry().named("os.system")
    ('MLP', None)
    """

    def __init__(self, parts: Iterable[Registered] = ()):
        self.given: dict[str, Registered] = {}
        if isinstance(parts, str) or not isinstance(parts, Iterable):
            raise DeclarationError(f"parts must be a list of classes and functions; got {parts!r}")
        for part in parts:
            if not isinstance(part, Registered):
                raise DeclarationError(f"parts must be classes and functions; got {part!r}")
            self.given[part.__name__] = part

    def named(self, name: str) -> Callable[..., Any] | None:
        """The class or function with a name; None if there is none."""
        for names in (catalogue(), _REGISTERED, self.given):
            if name in names:
                return names[name]
        return None

    def passed(self, name: str) -> Callable[..., Any] | None:
        """The class or function of ``parts`` with a name, or a registered one that has this name in Python."""
        same = (value for value in _REGISTERED.values() if value.__name__ == name)
        return self.given.get(name) or next(same, None)

    def name_of(self, value: object) -> str | None:
        """The name under which a text writes a class or function; None where it has none."""
        for names in (_REGISTERED, catalogue()):
            for name, known in names.items():
                if known is value:
                    return name
        return None

    def names(self) -> list[str]:
        """All names."""
        return [*self.given, *_REGISTERED, *catalogue()]

    def suggestion(self, name: str, among: Iterable[str] | None = None) -> str:
        """The words "; did you mean Gaussian?" for the nearest name, or nothing."""
        return suggestion(name, self.names() if among is None else among)


def suggestion(name: str, among: Iterable[str]) -> str:
    """The words "; did you mean Gaussian?" for the nearest of some names, or nothing.

    >>> suggestion("Gausian", ["Gaussian", "Gamma"])
    '; did you mean Gaussian?'
    """
    among = list(among)
    close = difflib.get_close_matches(name, among, 1, 0.6)
    if not close:
        lower = {other.lower(): other for other in among}
        close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, 1, 0.6)]
    return f"; did you mean {close[0]}?" if close else ""
