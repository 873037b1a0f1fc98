"""The contract of the components p(x | c) of a declared mixture: read from the model, written back, started from data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeAlias, TypeVar

from torch import Tensor

from pyro_lfm.exact.mixtures.mixture import Components, Mixture

Kind = TypeVar("Kind", bound=Components)


class DeclaredComponents(ABC, Generic[Kind]):
    """The place of the components of a mixture in a model."""

    @property
    @abstractmethod
    def floor(self) -> str | None:
        """What has a floor, in words; None where nothing has."""

    @property
    @abstractmethod
    def field_names(self) -> Mapping[str, str]:
        """The parameters that may be fixed, as ``exact`` names them, and the fields of the components that hold them."""

    @property
    @abstractmethod
    def fixed(self) -> frozenset[str]:
        """The parameters that keep their values."""

    @abstractmethod
    def read(self) -> Kind:
        """The components at the model's parameters."""

    @abstractmethod
    def write(self, components: Kind) -> None:
        """Puts components into the model. Fixed parameters stay."""

    @abstractmethod
    def start(self, rows: Iterable[Tensor], classes: int, seed: int, rounds: int) -> Mixture:
        """A mixture whose components are clusters of the data, after ``rounds`` rounds of k-means."""

    def with_fixed(self, components: Kind) -> Kind:
        """The components with the model's own values of the fixed parameters."""
        now = self.read()
        names = [self.field_names[name] for name in self.fixed]
        return replace(components, **{name: getattr(now, name) for name in names})  # type: ignore[type-var]


AnyComponents: TypeAlias = DeclaredComponents[Any]
