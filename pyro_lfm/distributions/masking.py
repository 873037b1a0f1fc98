"""Rows with missing entries: the marginal distribution of the observed ones, the conditional one of the missing ones.

Models use ``observed_part`` and ``filled`` in their likelihood; imputation uses ``missing_part``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
)
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.interface import Shape, independent, without_independent
from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.distributions.multinomial import Multinomial
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.stirling import wide
from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.errors import DataError

Gaussian = MultivariateNormal | LowRankMultivariateNormal


class MarginalGaussian(dist.TorchDistribution):
    """The exact marginal of a multivariate Gaussian over the observed entries of each row.

    Rows and columns of Σ that belong to missing entries are replaced by those of the identity, and missing residuals by
    zero. Each missing entry then adds −½ ln 2π to log p, which is added back.
    """

    def __init__(self, distribution: Gaussian, mask: torch.Tensor):
        self.distribution, self.observed = distribution, mask
        batch = torch.broadcast_shapes(distribution.batch_shape, mask.shape[:-1])
        super().__init__(batch, distribution.event_shape, validate_args=False)

    @property
    def support(self) -> Constraint:
        return self.distribution.support

    @property
    def mean(self) -> torch.Tensor:
        return self.distribution.mean

    @property
    def variance(self) -> torch.Tensor:
        return self.distribution.variance

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.distribution.has_rsample

    def expand(self, batch_shape: Shape, _instance: MarginalGaussian | None = None) -> MarginalGaussian:
        return MarginalGaussian(self.distribution.expand(batch_shape), self.observed)

    def sample(self, sample_shape: Shape = ()) -> torch.Tensor:
        return self.distribution.expand(self.batch_shape).sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Shape = ()) -> torch.Tensor:
        return self.distribution.expand(self.batch_shape).rsample(torch.Size(sample_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        scale, root, _ = _correlation_of(self.distribution, self.observed)
        keep = self.observed.to(value.dtype)
        residual = wide((value - self.distribution.mean) / scale * keep).unsqueeze(-1)
        batch = torch.broadcast_shapes(root.shape[:-2], residual.shape[:-2])
        residual = residual.expand(*batch, *residual.shape[-2:])
        tril = root.expand(*batch, *root.shape[-2:])
        quadratic = torch.linalg.solve_triangular(tril, residual, upper=False).square().sum((-2, -1))
        log_det = 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        scales = 2 * (keep * scale.log()).sum(-1)
        return -0.5 * ((quadratic + log_det).to(value.dtype) + scales + keep.sum(-1) * log(2 * pi))


def _correlation_of(
    distribution: Gaussian, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The standard deviations (..., D), the Cholesky factor of the observed correlations, and all correlations (..., D, D).

    Rows and columns of missing entries are those of the identity in the factor. Correlations have no units, and are computed
    in double precision, if the device has it: rounding makes a submatrix of an ill conditioned one indefinite.
    """
    scale = gaussian_moments(distribution).spread  # type: ignore[union-attr]
    rows = wide(distribution.scale_tril / scale.unsqueeze(-1))
    correlation, keep = rows @ rows.mT, mask.to(rows.dtype)
    observed = correlation * keep.unsqueeze(-1) * keep.unsqueeze(-2) + torch.diag_embed(1 - keep)
    return scale, torch.linalg.cholesky(observed), correlation


def observed_part(distribution: Distribution, mask: torch.Tensor | None, name: str) -> Distribution:
    """The marginal distribution of the entries where ``mask`` is True, over events of the same shape.

    Args:
        mask: (B, *event); None if all entries are observed.
        name: the variable, for the error.

    Raises:
        DataError: single entries are missing and the distribution has no marginals of single entries.
    """
    if mask is None:
        return distribution
    events = len(distribution.event_shape)
    if events == 0:
        return MaskedDistribution(distribution, mask)
    if isinstance(distribution, Gaussian):
        return MarginalGaussian(distribution, mask)
    if isinstance(distribution, Multinomial):
        return distribution.marginal(mask)
    if isinstance(distribution, Pushforward) and distribution.is_reshape:
        return Pushforward(
            observed_part(distribution.base_dist, mask.flatten(mask.dim() - events), name),
            distribution.transforms,
        )
    if isinstance(distribution, MixtureSameFamily):
        batch = torch.broadcast_shapes(distribution.batch_shape, mask.shape[: mask.dim() - events])
        components = observed_part(distribution.component_distribution, mask.unsqueeze(-events - 1), name)
        weights = distribution.mixture_distribution.expand(batch)
        return dist.MixtureSameFamily(weights, components, validate_args=False)
    if isinstance(distribution, Independent):
        # Independent entries are masked one by one. An event of the base must be observed whole or not at all.
        base = distribution.base_dist
        if base.event_shape:
            mask = _mask_of_rows(mask.flatten(mask.dim() - len(base.event_shape)), name)
        base = base.expand(torch.broadcast_shapes(base.batch_shape, mask.shape))
        return independent(MaskedDistribution(base, mask), distribution.reinterpreted_batch_ndims)
    return MaskedDistribution(distribution, _mask_of_rows(mask.flatten(mask.dim() - events), name))


Sampler = Callable[[], torch.Tensor]


def missing_part(
    distribution: Distribution, value: torch.Tensor, mask: torch.Tensor, name: str
) -> tuple[torch.Tensor, Sampler]:
    """The conditional mean of the missing entries given the observed ones of their row, and a sampler of them.

    Means and draws have the shape of ``value`` (B, *event) and are arbitrary where ``mask`` is True. For categories and
    levels the mean is the probability of each, in a further last dimension.

    A Gaussian is sampled by Matheron's rule, x̃ + Σ_mo Σ_oo⁻¹ (x_o − x̃_o) with x̃ a draw of the whole row, which has the
    conditional mean and covariance.
    """
    events = len(distribution.event_shape)
    if isinstance(distribution, Gaussian):
        return _missing_of_gaussian(distribution, value, mask)
    if isinstance(distribution, Multinomial):
        conditional = distribution.conditional(value, mask)
        return conditional.mean, conditional.sample
    if isinstance(distribution, Pushforward) and distribution.is_reshape:
        start = value.dim() - events
        mean, draw = missing_part(distribution.base_dist, value.flatten(start), mask.flatten(start), name)
        return mean.reshape(mean.shape[:-1] + distribution.event_shape), lambda: draw().reshape(value.shape)
    if isinstance(distribution, MixtureSameFamily):
        return _missing_of_mixture(distribution, value, mask, name)
    base = without_independent(distribution)
    if base.event_shape:
        _mask_of_rows(mask.flatten(mask.dim() - events), name)
    mean = base.probs if isinstance(base, Categorical) else distribution.mean
    return mean, distribution.sample


def _missing_of_gaussian(
    distribution: MultivariateNormal | LowRankMultivariateNormal, value: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, Sampler]:
    scale, root, correlation = _correlation_of(distribution, mask)
    keep = mask.to(value.dtype)

    def conditioned(rows: torch.Tensor) -> torch.Tensor:
        residual = wide((value - rows) / scale * keep).unsqueeze(-1)
        change = (correlation @ torch.cholesky_solve(residual, root)).squeeze(-1)
        return rows + scale * change.to(value.dtype)

    return conditioned(distribution.mean), lambda: conditioned(distribution.sample())


def _missing_of_mixture(
    distribution: MixtureSameFamily, value: torch.Tensor, mask: torch.Tensor, name: str
) -> tuple[torch.Tensor, Sampler]:
    """The observed entries give the posterior of the component, and each component its own conditional."""
    events, components = len(distribution.event_shape), distribution.component_distribution
    values, masks = (tensor.unsqueeze(-events - 1) for tensor in (value, mask))
    log_prob = observed_part(components, masks, name).log_prob(values)
    component = dist.Categorical(logits=distribution.mixture_distribution.logits + log_prob)
    shape = torch.broadcast_shapes(values.shape, log_prob.shape + distribution.event_shape)
    mean, draw = missing_part(components, values.expand(shape), masks.expand(shape), name)
    dim = log_prob.dim() - 1
    weights = component.probs.reshape(*component.probs.shape, *(1,) * events)

    def sample() -> torch.Tensor:
        draws = draw()
        index = component.sample().reshape(*log_prob.shape[:-1], 1, *(1,) * events)
        index = index.expand(*log_prob.shape[:-1], 1, *distribution.event_shape)
        return draws.expand(shape).gather(dim, index).squeeze(dim)

    return (weights * mean).sum(dim), sample


def filled(value: torch.Tensor, mask: torch.Tensor | None, support: Constraint) -> torch.Tensor:
    """Rows (B, *event) with a value inside the support in place of missing entries.

    A batch holds 0 there. Where 0 lies on the edge of a support, log_prob is infinite: it is masked, but its gradient
    would be NaN.

    >>> gap = torch.tensor([[True, False]])
    >>> filled(torch.tensor([[3.0, 0.0]]), gap, dist.constraints.independent(dist.constraints.positive, 1))
    tensor([[3., 1.]])
    """
    bijection = None if mask is None or support.is_discrete else from_reals(support)
    if mask is None or bijection is None:
        return value
    inside = bijection(value.new_zeros(bijection.inverse_shape(value.shape[1:])))
    return value.where(mask, inside)


def _mask_of_rows(mask: torch.Tensor, name: str) -> torch.Tensor:
    """The mask of whole rows, (...), from one of their entries (..., D)."""
    rows = mask.all(-1)
    if bool((rows != mask.any(-1)).any()):
        raise DataError(
            f"{name} has rows with some entries missing, but its distribution cannot be divided into entries: "
            "fill them in, or make the whole row missing (all NaN)"
        )
    return rows
