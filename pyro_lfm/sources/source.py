"""The base class of sources, and the parameter for which a source builds a module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pyro_lfm.declarations import Part
from pyro_lfm.errors import DeclarationError
from pyro_lfm.sources.applied import NetworkLike, OfSeveralShapes, OfShapes, network


class Parent(Protocol):
    """The part of the interface of a variable that a source uses."""

    @property
    def name(self) -> str: ...

    @property
    def code_shape(self) -> torch.Size:
        """The shape in which networks read the variable."""

    @property
    def categories(self) -> int | None:
        """The number of categories of a categorical variable, else None."""


def unchanged(value: Tensor) -> Tensor:
    """The identity."""
    return value


@dataclass(frozen=True)
class Parameter:
    """The parameter of a factor for which a source builds a module.

    Args:
        name: factor and parameter, as in ``x.mean``, for messages.
        shape: the shape of the raw values.
        start: the raw value at which a learned constant starts.
        parents: the variables that the factor's networks read.
        to_raw: maps a natural value to its raw form.
        event: the shape of the factor's values, if it is known.
        heads: name and shape of each parameter that a trunk gives; empty for a single parameter.
    """

    name: str
    shape: torch.Size
    start: Tensor
    parents: Sequence[Parent] = ()
    to_raw: Callable[[Tensor], Tensor] = unchanged
    event: torch.Size | None = None
    heads: tuple[tuple[str, torch.Size], ...] = ()


class Source(Part):
    """The declaration of how a parameter of a factor is computed.

    It builds a module, called as ``module(context, index)``, that returns raw (unconstrained) values of shape
    (..., *parameter shape).
    """

    @abstractmethod
    def module_for(self, parameter: Parameter) -> nn.Module:
        """Builds the module that computes a parameter."""

    @property
    def reads_parents(self) -> bool:
        """Whether the values depend on the factor's parents."""
        return True

    @property
    def has_value(self) -> bool:
        """Whether the user gave a value, as a start or fixed."""
        return False

    def describe(self) -> str:
        """The source in a formula, as in ``Gaussian(mean: MLP(200))``."""
        return repr(self)


class Network(Source):
    """A source that is a network of the parents, built by ``source(in_size, out_size) -> module``."""

    @abstractmethod
    def __call__(self, in_size: int, out_size: int) -> nn.Module:
        """The network, (B, in) to (B, out)."""

    def module_for(self, parameter: Parameter) -> nn.Module:
        return network_of(self, parameter)


class Given(Source):
    """A network given as a module or a function; see ``as_source``."""

    def __init__(self, network: NetworkLike):
        self.network = network

    def module_for(self, parameter: Parameter) -> nn.Module:
        return network_of(self.network, parameter)

    def describe(self) -> str:
        network = self.network
        name = (
            type(network).__name__ if isinstance(network, nn.Module) else getattr(network, "__name__", None)
        )
        return name or repr(network).split(" at 0x")[0]


class ValueOf(Source):
    """The value of another factor, as in ``exposure="library"``. Networks do not read it."""

    def __init__(self, factor: str):
        self.factor = factor

    def module_for(self, parameter: Parameter) -> nn.Module:
        raise DeclarationError(f"{parameter.name} is the value of {self.factor}, which nothing builds")

    @property
    def reads_parents(self) -> bool:
        return False

    def describe(self) -> str:
        return self.factor


# What a user may write as the source of a parameter; None is a head of the factor's network, else ``Learned()``.
SourceLike = Source | NetworkLike | str | None


def as_source(given: SourceLike) -> Source | None:
    """The source for a user's argument: modules and functions are wrapped, and a string is the name of a factor."""
    if given is None or isinstance(given, Source):
        return given
    return ValueOf(given) if isinstance(given, str) else Given(given)


def check_source(name: str, given: object) -> None:
    """Raises DeclarationError for an argument that is no source, when a factor is declared.

    Args:
        name: of parameter and factor, such as "mean of Gaussian".
    """
    wanted = f"{name} must be a module, a factory (in_size, out_size) -> module, Learned, Fixed, PerRow or a factor's name"
    if isinstance(given, type) and issubclass(given, Part):
        raise DeclarationError(
            f"{wanted}; got the class {given.__name__}: call it, as in {given.__name__}(...)"
        )
    if isinstance(given, nn.Module) and isinstance(getattr(given, "declaration", None), Part):
        raise DeclarationError(f"{wanted}; got a distribution that a model has built")
    if isinstance(given, Part) and not isinstance(given, Source):
        raise DeclarationError(f"{wanted}; got {given!r}")
    if isinstance(given, int | float | list | tuple | torch.Tensor) and not isinstance(given, bool):
        raise DeclarationError(
            f"{wanted}; got {type(given).__name__}: write lfm.Fixed(value) or lfm.Learned(value)"
        )
    if given is not None and not isinstance(given, Source | nn.Module | str | OfShapes | OfSeveralShapes):
        if not callable(given):
            raise DeclarationError(f"{wanted}; got {type(given).__name__}")


def network_of(source: NetworkLike, parameter: Parameter) -> nn.Module:
    """The module of a network source."""
    return network(
        source,
        [parent.code_shape for parent in parameter.parents],
        parameter.shape,
        parameter.name,
        heads=[shape for _, shape in parameter.heads],
        event=parameter.event,
    )
