"""What every source is: a declaration that builds the module which gives a parameter of a factor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pyro_lfm.declarations import Declaration
from pyro_lfm.errors import DeclarationError
from pyro_lfm.sources.applied import NetworkLike, network


class Parent(Protocol):
    """What a source knows of a variable that it reads."""

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
        name: of factor and parameter, for messages: ``x.mean``.
        shape: of the raw values.
        start: the raw value at which a learned constant starts.
        parents: the variables that the factor's networks read.
        to_raw: the raw form of a natural value.
        event: the shape of the factor's values, where it is known.
        heads: the shapes of the parameters that a trunk gives side by side, by name; empty for a single parameter.
    """

    name: str
    shape: torch.Size
    start: Tensor
    parents: Sequence[Parent] = ()
    to_raw: Callable[[Tensor], Tensor] = unchanged
    event: torch.Size | None = None
    heads: tuple[tuple[str, torch.Size], ...] = ()


class Source(Declaration):
    """Where a parameter of a factor comes from.

    Built, it is a module ``source(context, index)`` that gives raw (unconstrained) values of shape (..., *parameter shape).
    """

    @abstractmethod
    def module_for(self, parameter: Parameter) -> nn.Module:
        """The module that gives a parameter."""

    @property
    def reads_parents(self) -> bool:
        """Whether the values depend on the factor's parents."""
        return True

    @property
    def has_value(self) -> bool:
        """Whether the user has given a value to start at, or to stay at."""
        return False

    def describe(self) -> str:
        """The source in a formula, as in ``Gaussian(mean: MLP(200))``."""
        return repr(self)


class Network(Source):
    """A source that is a network of the parents: a factory (in_size, out_size) -> module."""

    @abstractmethod
    def __call__(self, in_size: int, out_size: int) -> nn.Module:
        """The network, (B, in) to (B, out)."""

    def module_for(self, parameter: Parameter) -> nn.Module:
        return network_of(self, parameter)


class Given(Source):
    """A network that the user gives as a module or a function; see ``as_source``."""

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
    """The very value of another factor, as in ``exposure="library"``. Networks do not read it."""

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
    """A source as the library uses it: modules and functions are wrapped, a name is that of a factor."""
    if given is None or isinstance(given, Source):
        return given
    return ValueOf(given) if isinstance(given, str) else Given(given)


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
