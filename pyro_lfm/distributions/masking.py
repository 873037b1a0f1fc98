"""Likelihoods of rows with missing entries: the marginal distribution of what was observed."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi
from typing import Any

import pyro.distributions as dist
import torch

from pyro_lfm.distributions.multinomial import Multinomial
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.errors import DataError


class MarginalGaussian(dist.TorchDistribution):
    """The marginal of a multivariate Gaussian over the observed entries of each row, exactly.

    Missing rows and columns of Σ are replaced by those of the identity and missing residuals by zero, so
    that each missing entry adds −½ ln 2π, which is put back.
    """

    def __init__(self, distribution: Any, mask: torch.Tensor):
        self.distribution, self.observed = distribution, mask
        batch = torch.broadcast_shapes(distribution.batch_shape, mask.shape[:-1])
        super().__init__(batch, distribution.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
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

    def expand(self, batch_shape: Any, _instance: Any = None) -> MarginalGaussian:
        return MarginalGaussian(self.distribution.expand(batch_shape), self.observed)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.distribution.expand(self.batch_shape).sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.distribution.expand(self.batch_shape).rsample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        keep = self.observed.to(value.dtype)
        residual = ((value - self.distribution.mean) * keep).unsqueeze(-1)
        covariance = self.distribution.covariance_matrix * keep.unsqueeze(-1) * keep.unsqueeze(-2)
        tril = torch.linalg.cholesky(covariance + torch.diag_embed(1 - keep))
        batch = torch.broadcast_shapes(tril.shape[:-2], residual.shape[:-2])
        residual = residual.expand(*batch, *residual.shape[-2:])
        tril = tril.expand(*batch, *tril.shape[-2:])
        quadratic = torch.linalg.solve_triangular(tril, residual, upper=False).square().sum((-2, -1))
        log_det = 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (quadratic + log_det + keep.sum(-1) * log(2 * pi))


def observed_part(distribution: Any, mask: torch.Tensor | None, name: str) -> Any:
    """``distribution`` restricted to the entries where ``mask`` (B, *event) is True; the distribution itself if mask is None."""
    if mask is None:
        return distribution
    events = len(distribution.event_shape)
    if events == 0:
        return distribution.mask(mask)
    if isinstance(
        distribution, torch.distributions.MultivariateNormal | torch.distributions.LowRankMultivariateNormal
    ):
        return MarginalGaussian(distribution, mask)
    if isinstance(distribution, Multinomial):
        return distribution.where(mask)
    if isinstance(distribution, Pushforward) and distribution.is_reshape:
        return Pushforward(
            observed_part(distribution.base_dist, mask.flatten(mask.dim() - events), name),
            distribution.transforms,
        )
    if isinstance(distribution, torch.distributions.MixtureSameFamily):
        batch = torch.broadcast_shapes(distribution.batch_shape, mask.shape[: mask.dim() - events])
        within = observed_part(distribution.component_distribution, mask.unsqueeze(-events - 1), name)
        return dist.MixtureSameFamily(
            distribution.mixture_distribution.expand(batch), within, validate_args=False
        )
    if isinstance(distribution, torch.distributions.Independent):
        # What is independent is masked entry by entry; what is inside must be all there or all missing.
        inner = (
            mask.flatten(mask.dim() - len(distribution.base_dist.event_shape))
            if distribution.base_dist.event_shape
            else mask
        )
        base_mask = _whole(inner, name) if distribution.base_dist.event_shape else inner
        masked = distribution.base_dist.expand(
            torch.broadcast_shapes(distribution.base_dist.batch_shape, base_mask.shape)
        )
        return masked.mask(base_mask).to_event(distribution.reinterpreted_batch_ndims)
    return distribution.mask(_whole(mask.flatten(mask.dim() - events), name))


def missing_part(
    distribution: Any, value: torch.Tensor, mask: torch.Tensor, name: str
) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """Of the entries that are missing, given those of the same row that are there: the mean, and how to draw them.

    Both have the shape of ``value`` (B, *event), and mean nothing where ``mask`` is True. Of labels and levels the mean
    is the probability of each, a further dimension at the end. Given what was observed a Gaussian is drawn as x̃ + Σ_mo
    Σ_oo⁻¹ (x_o − x̃_o), x̃ a draw of the whole (Matheron's rule), which has the conditional mean and covariance.
    """
    events = len(distribution.event_shape)
    if isinstance(
        distribution, torch.distributions.MultivariateNormal | torch.distributions.LowRankMultivariateNormal
    ):
        keep = mask.to(value.dtype)
        covariance = distribution.covariance_matrix
        inner = covariance * keep.unsqueeze(-1) * keep.unsqueeze(-2) + torch.diag_embed(1 - keep)
        tril = torch.linalg.cholesky(inner)

        def completed(start: torch.Tensor) -> torch.Tensor:
            residual = ((value - start) * keep).unsqueeze(-1)
            return start + (covariance @ torch.cholesky_solve(residual, tril)).squeeze(-1)

        return completed(distribution.mean), lambda: completed(distribution.sample())
    if isinstance(distribution, Multinomial):
        rest = distribution.left(value, mask)
        return rest.mean, rest.sample
    if isinstance(distribution, Pushforward) and distribution.is_reshape:
        start = value.dim() - events
        mean, draw = missing_part(distribution.base_dist, value.flatten(start), mask.flatten(start), name)
        return mean.reshape(mean.shape[:-1] + distribution.event_shape), lambda: draw().reshape(value.shape)
    if isinstance(distribution, torch.distributions.MixtureSameFamily):
        return _missing_of_mixture(distribution, value, mask, name)
    base = distribution
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if base.event_shape:
        _whole(mask.flatten(mask.dim() - events), name)
    return (
        base.probs if isinstance(base, torch.distributions.Categorical) else distribution.mean
    ), distribution.sample


def _missing_of_mixture(
    distribution: Any, value: torch.Tensor, mask: torch.Tensor, name: str
) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """What a row's other entries say of its component, and so of what is missing."""
    events, within = len(distribution.event_shape), distribution.component_distribution
    values, masks = (tensor.unsqueeze(-events - 1) for tensor in (value, mask))
    log_prob = observed_part(within, masks, name).log_prob(values)
    which = dist.Categorical(logits=distribution.mixture_distribution.logits + log_prob)
    shape = torch.broadcast_shapes(values.shape, log_prob.shape + distribution.event_shape)
    mean, draw = missing_part(within, values.expand(shape), masks.expand(shape), name)
    place = log_prob.dim() - 1
    weights = which.probs.reshape(*which.probs.shape, *(1,) * events)

    def drawn() -> torch.Tensor:
        every = draw()
        chosen = which.sample().reshape(*log_prob.shape[:-1], 1, *(1,) * events)
        chosen = chosen.expand(*log_prob.shape[:-1], 1, *distribution.event_shape)
        return every.expand(shape).gather(place, chosen).squeeze(place)

    return (weights * mean).sum(place), drawn


def filled(value: torch.Tensor, mask: torch.Tensor | None, support: Any) -> torch.Tensor:
    """Rows (B, *event) with a value inside the support wherever nothing was observed.

    A batch has 0 there: where that lies on the edge of a support log_prob is infinite, and though it is masked
    its gradient would be NaN.

    >>> gap = torch.tensor([[True, False]])
    >>> filled(torch.tensor([[3.0, 0.0]]), gap, dist.constraints.independent(dist.constraints.positive, 1))
    tensor([[3., 1.]])
    """
    carry = None if mask is None or support.is_discrete else from_reals(support)
    if mask is None or carry is None:
        return value
    inside = carry(value.new_zeros(carry.inverse_shape(value.shape[1:])))
    return value.where(mask, inside)


def _whole(mask: torch.Tensor, name: str) -> torch.Tensor:
    rows = mask.all(-1)
    if bool((rows != mask.any(-1)).any()):
        raise DataError(
            f"{name} has rows with some entries missing, but its distribution cannot be divided into entries: "
            "fill them in, or make the whole row missing (all NaN)"
        )
    return rows
