"""The contract of conjugate priors of the components of a mixture; each family is one class in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import torch
from numpy.typing import ArrayLike
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.form import DistributionGiven
from pyro_lfm.exact.mixtures.conjugate_components import ConjugateComponents
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.factors import Conditional, Factor
from pyro_lfm.sources.drawn import Drawn

# A start has no floor but that of float64: priors keep scales from zero.
NO_FLOOR = 1e-100

Conjugate = TypeVar("Conjugate", bound=ConjugateComponents)


@dataclass(frozen=True, eq=False)
class ComponentPrior(ABC, Generic[Conjugate]):
    """A conjugate prior p(η) of the parameters of components, and the answers that follow from its family.

    Attributes:
        family: the family of the observed factor. declared: the prior in the declaration.
        leading: the parameter that is drawn first. following: the parameters whose distributions depend on it.
        observed: the name of the observed factor. prior: p(η), one for all components.
    """

    family: ClassVar[type[Factor]]
    declared: ClassVar[type]
    leading: ClassVar[str]
    following: ClassVar[tuple[str, ...]] = ()

    observed: str
    prior: Conjugate

    @classmethod
    def matches(cls, factor: Conditional) -> bool:
        """Whether a factor has a prior of this family."""
        leading = factor.drawn.get(cls.leading)
        return (
            type(factor.declaration) is cls.family
            and leading is not None
            and isinstance(leading.declared, cls.declared)
        )

    @classmethod
    @abstractmethod
    def of(cls, name: str, factor: Conditional) -> ComponentPrior[Conjugate]:
        """The prior of a factor that matches; raises Obstacle where it is not one for each class."""

    @abstractmethod
    def start(self, rows: Iterable[Tensor], classes: int, seed: int) -> Mixture:
        """A mixture whose components are clusters of the data."""

    @abstractmethod
    def parameters(self, posterior: Conjugate, like: Tensor) -> dict[str, DistributionGiven]:
        """q(parameter | parameters drawn before it) of all components, in the order of drawing."""

    @abstractmethod
    def marginals(self, posterior: Conjugate, like: Tensor) -> dict[str, Distribution]:
        """q(parameter) of the parameters that depend on others."""

    @property
    def reads(self) -> Mapping[str, frozenset[str]]:
        """Parameter -> the parameters that its distribution depends on."""
        return {self.name(parameter): frozenset({self.name(self.leading)}) for parameter in self.following}

    def tensors(self, posterior: Conjugate) -> dict[str, Tensor]:
        """The tensors of a posterior by the names of their fields."""
        return {field.name: getattr(posterior, field.name) for field in fields(posterior)}  # type: ignore[arg-type]

    def with_tensors(self, posterior: Conjugate, tensors: Mapping[str, Tensor]) -> Conjugate:
        """The posterior with other tensors, named as in ``tensors``."""
        return replace(posterior, **tensors)  # type: ignore[type-var]

    def name(self, parameter: str) -> str:
        """The name of a parameter among the latents of the model."""
        return f"{self.observed}.{parameter}"


AnyComponentPrior: TypeAlias = ComponentPrior[Any]


def for_each_class(drawn: Drawn | None, dims: int) -> bool:
    """Whether a parameter of ``dims`` dimensions has a value for each class."""
    return drawn is not None and drawn.value.dim() > dims


def as_row(value: ArrayLike | Tensor, dim: int) -> Tensor:
    """A number or one for each column, as (1, D) in float64."""
    return torch.as_tensor(value, dtype=torch.float64).expand(dim)[None]


def prior_means(drawn: Drawn, declared: ArrayLike | Tensor | None, dim: int) -> Tensor:
    """The prior means (1, D): as declared, or the means of the columns of the data."""
    return as_row(drawn.origin.detach().cpu() if declared is None else declared, dim)
