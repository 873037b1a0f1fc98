"""Covariance structures of a Gaussian, the same for priors, likelihoods and guides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pyro.distributions as dist
import torch
from torch.nn.functional import softplus

from pyro_lfm.errors import DeclarationError, ShapeError


def _unsoftplus(scale: torch.Tensor, floor: float) -> torch.Tensor:
    """r with floor + softplus(r) = scale."""
    if not bool((scale > floor).all()):
        raise DeclarationError(
            f"standard deviations must exceed min_scale={floor}; got {float(scale.min()):g}: lower min_scale"
        )
    excess = scale - floor
    return excess + torch.log(-torch.expm1(-excess))


class Covariance(ABC):
    """How the raw outputs of a source become the covariance of a Gaussian over D dimensions.

    Every standard deviation is ``min_scale + softplus(raw)``. The floor is needed: a Gaussian
    likelihood with free variance is unbounded above (Mattei and Frellsen 2018).
    """

    source: Any
    min_scale: float

    @abstractmethod
    def size(self, dim: int) -> int:
        """How many raw numbers describe it."""

    @abstractmethod
    def distribution(self, loc: torch.Tensor, raw: torch.Tensor) -> dist.TorchDistribution:
        """The Gaussian with mean ``loc`` (..., D) and raw covariance ``raw`` (..., size(D))."""

    @abstractmethod
    def raw(self, value: torch.Tensor, dim: int) -> torch.Tensor:
        """The raw numbers of a natural value: variances, or the matrix."""

    def start(self, dim: int) -> torch.Tensor:
        """The raw numbers at which a learned constant starts."""
        return torch.zeros(self.size(dim))

    def __repr__(self) -> str:
        return type(self).__name__


def _normal(loc: torch.Tensor, scale: torch.Tensor) -> dist.TorchDistribution:
    shape = torch.broadcast_shapes(loc.shape, scale.shape)
    return dist.Normal(loc.expand(shape), scale.expand(shape), validate_args=False).to_event(1)


class Isotropic(Covariance):
    """Σ = σ² I.

    >>> Isotropic().distribution(torch.zeros(3), torch.zeros(1)).variance.unique().numel()
    1
    """

    def __init__(self, source: Any = None, *, min_scale: float = 1e-3):
        self.source, self.min_scale = source, min_scale

    def size(self, dim: int) -> int:
        return 1

    def distribution(self, loc: torch.Tensor, raw: torch.Tensor) -> dist.TorchDistribution:
        return _normal(loc, self.min_scale + softplus(raw))

    def raw(self, value: torch.Tensor, dim: int) -> torch.Tensor:
        return _unsoftplus(value.reshape(1).sqrt(), self.min_scale)


class Diagonal(Covariance):
    """Σ = diag(σ²); a ``Fixed`` or ``Learned`` value is the vector of variances."""

    def __init__(self, source: Any = None, *, min_scale: float = 1e-3):
        self.source, self.min_scale = source, min_scale

    def size(self, dim: int) -> int:
        return dim

    def distribution(self, loc: torch.Tensor, raw: torch.Tensor) -> dist.TorchDistribution:
        return _normal(loc, self.min_scale + softplus(raw))

    def raw(self, value: torch.Tensor, dim: int) -> torch.Tensor:
        return _unsoftplus(value.expand(dim).sqrt(), self.min_scale)


class LowRank(Covariance):
    """Σ = W Wᵀ + diag(σ²) with W of shape (D, rank)."""

    def __init__(self, rank: int, source: Any = None, *, min_scale: float = 1e-3):
        self.rank, self.source, self.min_scale = rank, source, min_scale

    def size(self, dim: int) -> int:
        return dim * (self.rank + 1)

    def start(self, dim: int) -> torch.Tensor:
        # W = 0 is a saddle: no gradient would ever reach it.
        return torch.cat([torch.zeros(dim), 0.1 * torch.randn(dim * self.rank)])

    def distribution(self, loc: torch.Tensor, raw: torch.Tensor) -> dist.TorchDistribution:
        dim = loc.shape[-1]
        diagonal = (self.min_scale + softplus(raw[..., :dim])) ** 2
        factor = raw[..., dim:].reshape(*raw.shape[:-1], dim, self.rank)
        return dist.LowRankMultivariateNormal(loc, factor, diagonal, validate_args=False)

    def raw(self, value: torch.Tensor, dim: int) -> torch.Tensor:
        raise DeclarationError(
            "a LowRank covariance takes no fixed or initial value; use Full with the matrix instead"
        )


class Full(Covariance):
    """Σ = L Lᵀ, L lower triangular with a positive diagonal; a ``Fixed`` value is the matrix Σ."""

    def __init__(self, source: Any = None, *, min_scale: float = 1e-3):
        self.source, self.min_scale = source, min_scale

    def size(self, dim: int) -> int:
        return dim * (dim + 1) // 2

    def distribution(self, loc: torch.Tensor, raw: torch.Tensor) -> dist.TorchDistribution:
        dim = loc.shape[-1]
        tril = torch.diag_embed(self.min_scale + softplus(raw[..., :dim]))
        if dim > 1:
            row, column = torch.tril_indices(dim, dim, -1, device=raw.device)
            lower = raw.new_zeros(*raw.shape[:-1], dim, dim)
            lower[..., row, column] = raw[..., dim:]
            tril = tril + lower
        return dist.MultivariateNormal(loc, scale_tril=tril, validate_args=False)

    def raw(self, value: torch.Tensor, dim: int) -> torch.Tensor:
        if value.shape != (dim, dim):
            raise ShapeError(f"covariance must have shape ({dim}, {dim}); got {tuple(value.shape)}")
        try:
            tril = torch.linalg.cholesky(value)
        except RuntimeError:
            raise DeclarationError("covariance must be symmetric positive definite") from None
        row, column = torch.tril_indices(dim, dim, -1)
        return torch.cat([_unsoftplus(tril.diagonal(), self.min_scale), tril[row, column]])
