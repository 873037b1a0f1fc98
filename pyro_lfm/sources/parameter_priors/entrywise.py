"""Priors of parameters, declared where the parameters are.

A parameter with a prior is no longer a θ: it is a latent of the model, shared by all rows, drawn before them.
``Linear(prior=ARD())`` in a factor ``x`` gives the model the latents ``x.relevance``, ``x.weight`` and ``x.bias``.

Each says in ``distribution(like, ...)`` what the distribution of a parameter of the shape of ``like`` is; parameters that it depends on
follow, and may have draws to the left. Numbers that the user gives are in the units of the data. A hyperparameter left at
None has its default in units of each column's spread in the data that are fitted, a location its default at the column's
mean: such priors have ``relative`` and take ``unit=``, and those of locations ``origin=``, which broadcast to the parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.distributions import gamma
from pyro_lfm.errors import DeclarationError, ShapeError


def like_parameter(prior: Any, name: str, like: Tensor) -> Tensor:
    """A hyperparameter in the shape, type and place of a parameter."""
    value = torch.as_tensor(getattr(prior, name), dtype=like.dtype, device=like.device)
    try:
        return value.expand(like.shape)
    except RuntimeError:
        raise ShapeError(
            f"{name} of {type(prior).__name__} must broadcast to shape {tuple(like.shape)}; got {tuple(value.shape)}"
        ) from None


def or_default(prior: Any, name: str, like: Tensor, default: Tensor | float) -> Tensor:
    """A hyperparameter, or where it is left at None its default, in the shape, type and place of a parameter."""
    if getattr(prior, name) is not None:
        return like_parameter(prior, name, like)
    return torch.as_tensor(default, dtype=like.dtype, device=like.device).expand(like.shape)


def check_positive(prior: Any, *names: str) -> None:
    for name in names:
        if getattr(prior, name) is None:
            continue
        value = torch.as_tensor(getattr(prior, name), dtype=torch.float64)
        if not bool((value > 0).all() and value.isfinite().all()):
            raise DeclarationError(
                f"{name} of {type(prior).__name__} must be above 0; got {getattr(prior, name)!r}"
            )


@dataclass(frozen=True)
class Normal:
    """w ~ N(mean, scale²), each entry for itself: for the weights or the bias of a ``Linear``.

    Args:
        mean, scale: in the units of the data (a weight: per unit of the factor). By default the scale is ``spread``
            times the spread of each column, and the mean that of each column for a bias or a mean, 0 for weights.

    >>> Normal(scale=2.0).distribution(torch.zeros(4, 3)).event_shape
    torch.Size([4, 3])
    """

    mean: Any = None
    scale: Any = None
    spread: float = 1.0
    relative = True

    def __post_init__(self) -> None:
        check_positive(self, "scale", "spread")

    def distribution(self, like: Tensor, unit: Tensor | float = 1.0, origin: Tensor | float = 0.0) -> Any:
        scale = or_default(self, "scale", like, self.spread * unit)
        return dist.Normal(or_default(self, "mean", like, origin), scale).to_event(like.dim())


@dataclass(frozen=True)
class ARD:
    """Automatic relevance determination: w_dk ~ N(0, 1 / α_k), α_k ~ Gamma(shape, rate), for ``Linear(prior=...)``.

    A factor k that explains nothing has its α_k grow until its weights vanish.

    Args:
        shape, rate: of α. Where the rate is left at None it is 1e-3 and weights are in units of each column's spread:
            w_dk ~ N(0, spread_d² / α_k), a broad prior whatever the units of the data.

    Source: Bishop (1999), "Bayesian PCA".

    >>> ARD().weight(torch.zeros(4, 3), torch.tensor([1.0, 4.0, 1.0])).variance[0]
    tensor([1.0000, 0.2500, 1.0000])
    """

    shape: float = 1e-3
    rate: float | None = None
    relative = True

    def __post_init__(self) -> None:
        check_positive(self, "shape", "rate")

    def relevance(self, like: Tensor, unit: Tensor | float = 1.0) -> Any:
        return Gamma(self.shape, self.rate).distribution(like)

    def weight(self, like: Tensor, relevance: Tensor, unit: Tensor | float = 1.0) -> Any:
        scale = relevance.rsqrt().unsqueeze(-2).expand(*relevance.shape[:-1], *like.shape)
        scale = scale * unit if self.rate is None else scale
        return dist.Normal(torch.zeros_like(scale), scale).to_event(2)


@dataclass(frozen=True)
class Gamma:
    """τ ~ Gamma(shape, rate), density ∝ τ^(shape − 1) e^(−rate τ): for the precision of ``Isotropic`` or ``Diagonal``.

    The precision is τ = 1 / σ², in inverse squared units of the data, one for all entries or one for each.

    Args:
        shape: without unit. rate: in squared units of the data, by default 1e-3 spread², so that the prior is broad
            whatever the units of the data.

    >>> Gamma(2.0, 4.0).distribution(torch.ones(3)).mean
    tensor([0.5000, 0.5000, 0.5000])
    """

    shape: Any = 1e-3
    rate: Any = None
    relative = True

    def __post_init__(self) -> None:
        check_positive(self, "shape", "rate")

    def distribution(self, like: Tensor, unit: Tensor | float = 1.0) -> Any:
        rate = or_default(self, "rate", like, 1e-3 * unit**2)
        return gamma.Gamma(like_parameter(self, "shape", like), rate).to_event(like.dim())


@dataclass(frozen=True)
class Beta:
    """p ~ Beta(ones, zeros), each entry for itself: for the probabilities of ``Bernoulli(D, logits=Lookup(prior=...))``.

    >>> Beta(3.0, 1.0).distribution(torch.zeros(2)).mean
    tensor([0.7500, 0.7500])
    """

    ones: Any = 1.0
    zeros: Any = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "ones", "zeros")

    def distribution(self, like: Tensor) -> Any:
        ones, zeros = like_parameter(self, "ones", like), like_parameter(self, "zeros", like)
        return gamma.Beta(ones, zeros).to_event(like.dim())


@dataclass(frozen=True)
class Dirichlet:
    """π ~ Dir(concentration), a number or one per category: for the weights of ``Categorical(C, prior=...)``.

    Below 1 it favours few categories.

    >>> Dirichlet(0.5).distribution(torch.zeros(4)).mean
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    concentration: Any = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "concentration")

    def distribution(self, like: Tensor) -> Any:
        return gamma.Dirichlet(like_parameter(self, "concentration", like))
