"""Priors with independent entries, and the Dirichlet: Normal, ARD, Gamma, Beta, Dirichlet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions import gamma, normal
from pyro_lfm.distributions.interface import independent
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.parameter_priors.parameter_prior import ParameterPrior, WeightPrior

# A hyperparameter: a number, or one per entry.
Numbers = ArrayLike | Tensor


def like_parameter(prior: ParameterPrior, name: str, like: Tensor) -> Tensor:
    """A hyperparameter in the shape, floating type and device of a parameter."""
    value = torch.as_tensor(getattr(prior, name), dtype=like.dtype, device=like.device)
    try:
        return value.expand(like.shape)
    except RuntimeError:
        raise ShapeError(
            f"{name} of {type(prior).__name__} must broadcast to shape {tuple(like.shape)}; got {tuple(value.shape)}"
        ) from None


def or_default(prior: ParameterPrior, name: str, like: Tensor, default: Tensor | float) -> Tensor:
    """A hyperparameter, or its default if it is None, in the shape, floating type and device of a parameter."""
    if getattr(prior, name) is not None:
        return like_parameter(prior, name, like)
    return torch.as_tensor(default, dtype=like.dtype, device=like.device).expand(like.shape)


def check_positive(prior: ParameterPrior, *names: str) -> None:
    for name in names:
        if getattr(prior, name) is None:
            continue
        value = torch.as_tensor(getattr(prior, name), dtype=torch.float64)
        if not bool((value > 0).all() and value.isfinite().all()):
            raise DeclarationError(
                f"{name} of {type(prior).__name__} must be above 0; got {getattr(prior, name)!r}"
            )


@dataclass(eq=False, repr=False)
class Normal(WeightPrior):
    """w ~ N(mean, scale²), independent entries, for the weights or the bias of a ``Linear``.

    Args:
        mean, scale: in the units of the data (a weight: per unit of the factor). By default the scale is ``spread``
            times the spread of each column, and the mean that of each column for a bias or a mean, 0 for weights.

    Use it where rows are few, so that the uncertainty of the weights matters.

    Limits: all weights shrink alike. ``ARD`` and ``Horseshoe`` let them differ.

    >>> Normal(scale=2.0).distribution(torch.zeros(4, 3)).event_shape
    torch.Size([4, 3])
    """

    mean: Numbers | None = None
    scale: Numbers | None = None
    spread: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "scale", "spread")

    def distribution(
        self, like: Tensor, unit: Tensor | float = 1.0, origin: Tensor | float = 0.0
    ) -> Distribution:
        scale = or_default(self, "scale", like, self.spread * unit)
        return independent(normal.Normal(or_default(self, "mean", like, origin), scale), like.dim())

    def weights(self, start: Tensor) -> list[Drawn]:
        return [Drawn("weight", start, self.distribution, of_rows=True)]


@dataclass(eq=False, repr=False)
class ARD(WeightPrior):
    """Automatic relevance determination: w_dk ~ N(0, 1 / α_k), α_k ~ Gamma(shape, rate), for ``Linear(prior=...)``.

    If factor k explains nothing, α_k grows until the weights of the factor vanish.

    Args:
        shape, rate: of α. Where the rate is left at None it is 1e-3 and weights are in units of each column's spread:
            w_dk ~ N(0, spread_d² / α_k), a broad prior whatever the units of the data.

    Use it for the number of factors: a factor that the data do not support gets loadings near zero.

    Limits: one precision for a whole factor. Single loadings that are zero need ``Horseshoe``.

    Source: Bishop (1999), "Bayesian PCA".

    >>> ARD().weight(torch.zeros(4, 3), torch.tensor([1.0, 4.0, 1.0])).variance[0]
    tensor([1.0000, 0.2500, 1.0000])
    """

    shape: float = 1e-3
    rate: float | None = None

    def __post_init__(self) -> None:
        check_positive(self, "shape", "rate")

    def weights(self, start: Tensor) -> list[Drawn]:
        relevance = Drawn("relevance", torch.ones(start.shape[1]), self.relevance, used=False)
        return [relevance, Drawn("weight", start, self.weight, ("relevance",), of_rows=True)]

    def relevance(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        return Gamma(self.shape, self.rate).distribution(like)

    def weight(self, like: Tensor, relevance: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        scale = relevance.rsqrt().unsqueeze(-2).expand(*relevance.shape[:-1], *like.shape)
        scale = scale * unit if self.rate is None else scale
        return independent(normal.Normal(torch.zeros_like(scale), scale), 2)


@dataclass(eq=False, repr=False)
class Gamma(ParameterPrior):
    """τ ~ Gamma(shape, rate), density ∝ τ^(shape − 1) e^(−rate τ): for the precision of ``Isotropic`` or ``Diagonal``.

    The precision is τ = 1 / σ², in inverse squared units of the data, one for all entries or one for each.

    Args:
        shape: without unit.
        rate: in squared units of the data, by default 1e-3 spread², so that the prior is broad whatever the units of the
            data.

    Use it for the noise of a model that ``VariationalBayes`` fits.

    Limits: for the precision of a covariance alone. ``ARD`` and ``Normal`` are for weights.

    >>> Gamma(2.0, 4.0).distribution(torch.ones(3)).mean
    tensor([0.5000, 0.5000, 0.5000])
    """

    shape: Numbers = 1e-3
    rate: Numbers | None = None

    def __post_init__(self) -> None:
        check_positive(self, "shape", "rate")

    def distribution(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        rate = or_default(self, "rate", like, 1e-3 * unit**2)
        return independent(gamma.Gamma(like_parameter(self, "shape", like), rate), like.dim())


@dataclass(eq=False, repr=False)
class Beta(ParameterPrior):
    """p ~ Beta(ones, zeros), independent entries, for the probabilities of ``Bernoulli(D, logits=Lookup(prior=...))``.

    Use it for mixtures of columns of 0 and 1, where a class has few rows.

    Limits: for ``Lookup`` alone. The weights of a ``Linear`` take ``Normal``, ``ARD`` or ``Horseshoe``.

    >>> Beta(3.0, 1.0).distribution(torch.zeros(2)).mean
    tensor([0.7500, 0.7500])
    """

    ones: Numbers = 1.0
    zeros: Numbers = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "ones", "zeros")

    def distribution(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        ones, zeros = like_parameter(self, "ones", like), like_parameter(self, "zeros", like)
        return independent(gamma.Beta(ones, zeros), like.dim())


@dataclass(eq=False, repr=False)
class Dirichlet(ParameterPrior):
    """π ~ Dir(concentration), a number or one per category: for the weights of ``Categorical(C, prior=...)``.

    Below 1 it favours few categories.

    Use it for the weights of a mixture. With a small concentration, classes that no row needs get weights near zero.

    Limits: it says nothing of the components themselves, which have priors of their own.

    >>> Dirichlet(0.5).distribution(torch.zeros(4)).mean
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    concentration: Numbers = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "concentration")

    def distribution(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        return gamma.Dirichlet(like_parameter(self, "concentration", like))
