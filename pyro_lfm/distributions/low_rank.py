"""Gaussians whose covariance is diagonal plus low rank; ``lfm.LowRank`` uses them."""

from __future__ import annotations

from math import log, pi

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import lazy_property

from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.stirling import wide


class LowRankGaussian(dist.LowRankMultivariateNormal):
    """N(μ, S (I + V Vᵀ) S), S = diag(σ), V (..., D, R).

    With r = S⁻¹ (x − μ), w = (I + VᵀV)⁻¹ Vᵀ r is the mean of the R factors given x, and

        ln N(x) = −½ (|r − V w|² + |w|²) − Σ ln σ − ½ ln |I + VᵀV| − ½ D ln 2π.

    The two squares cannot cancel, and σ is never squared, so that it may have any size. Rounding would make I + VᵀV
    singular where V is large, as the V of guides become. It is computed in double precision, if the device has it.

    Args:
        scale: σ, (..., D).
        loadings: V, (..., D, R).

    >>> distribution = LowRankGaussian(torch.zeros(2), torch.full((2,), 1e20), torch.ones(2, 1))
    >>> distribution.log_prob(torch.full((2,), 1e20))
    tensor(-94.8239)
    """

    arg_constraints = {  # noqa: RUF012
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
        "loadings": constraints.independent(constraints.real, 2),
    }

    def __init__(self, loc: Tensor, scale: Tensor, loadings: Tensor, validate_args: bool | None = None):
        batch = torch.broadcast_shapes(loc.shape[:-1], scale.shape[:-1], loadings.shape[:-2])
        dim, rank = loadings.shape[-2:]
        self._scale, self._loadings = scale, loadings
        self.loc, self.scale = loc.expand(*batch, dim), scale.expand(*batch, dim)
        self.loadings = loadings.expand(*batch, dim, rank)
        Distribution.__init__(self, batch, torch.Size((dim,)), validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: LowRankGaussian | None = None) -> LowRankGaussian:
        batch = torch.Size(batch_shape)
        loc = self.loc.expand(batch + self.event_shape)
        expanded = LowRankGaussian(loc, self._scale, self._loadings, validate_args=False)
        expanded._validate_args = self._validate_args
        return expanded

    @property
    def cov_factor(self) -> Tensor:
        return self.scale.unsqueeze(-1) * self.loadings

    @property
    def cov_diag(self) -> Tensor:
        return self.scale.square()

    @lazy_property
    def _capacitance(self) -> Tensor:
        """The Cholesky factor of I + VᵀV, (..., R, R), in double precision."""
        loadings = wide(self._loadings)
        rank = loadings.shape[-1]
        identity = torch.eye(rank, dtype=loadings.dtype, device=loadings.device)
        return torch.linalg.cholesky(identity + loadings.mT @ loadings)

    @property
    def log_det(self) -> Tensor:
        """ln |Σ|, (...)."""
        inner = self._capacitance.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_det = 2 * (self._scale.log().sum(-1) + inner.to(self._scale.dtype))
        return log_det.expand(self.batch_shape)

    @property
    def spread(self) -> Tensor:
        """The standard deviation of each entry, (..., D)."""
        return (self._scale * (1 + self._loadings.square().sum(-1)).sqrt()).expand(self.loc.shape)

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        return self.spread.square()

    @lazy_property
    def scale_tril(self) -> Tensor:  # type: ignore[override]
        loadings = wide(self._loadings)
        dim = loadings.shape[-2]
        identity = torch.eye(dim, dtype=loadings.dtype, device=loadings.device)
        tril = torch.linalg.cholesky(identity + loadings @ loadings.mT).to(self._scale.dtype)
        return (self._scale.unsqueeze(-1) * tril).expand(*self.batch_shape, dim, dim)

    @lazy_property
    def covariance_matrix(self) -> Tensor:  # type: ignore[override]
        factor = self.cov_factor
        return factor @ factor.mT + torch.diag_embed(self.cov_diag)

    @lazy_property
    def precision_matrix(self) -> Tensor:  # type: ignore[override]
        return torch.cholesky_inverse(self.scale_tril)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape, like = self._extended_shape(torch.Size(sample_shape)), self.loc
        rank = self.loadings.shape[-1]
        factors = torch.randn(*shape[:-1], rank, dtype=like.dtype, device=like.device)
        noise = torch.randn(shape, dtype=like.dtype, device=like.device)
        return self.loc + self.scale * ((self.loadings @ factors.unsqueeze(-1)).squeeze(-1) + noise)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        residual, loadings = wide((value - self.loc) / self.scale).unsqueeze(-1), wide(self.loadings)
        # One solve for each covariance and draw, whatever their batch shapes.
        pull = loadings.mT @ residual
        tril = self._capacitance.expand(*pull.shape[:-2], *self._capacitance.shape[-2:])
        factors = torch.cholesky_solve(pull, tril)
        rest = residual - loadings @ factors
        square = (rest.square().sum((-2, -1)) + factors.square().sum((-2, -1))).to(self.loc.dtype)
        return -0.5 * (square + self.log_det + self.event_shape[0] * log(2 * pi))

    def entropy(self) -> Tensor:
        return 0.5 * (self.event_shape[0] * (1 + log(2 * pi)) + self.log_det)
