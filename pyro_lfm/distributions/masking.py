"""Likelihoods of rows with missing entries: the marginal law of what was observed."""

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

    def __init__(self, law: Any, mask: torch.Tensor):
        self.law, self.observed = law, mask
        batch = torch.broadcast_shapes(law.batch_shape, mask.shape[:-1])
        super().__init__(batch, law.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.law.support

    @property
    def mean(self) -> torch.Tensor:
        return self.law.mean

    @property
    def variance(self) -> torch.Tensor:
        return self.law.variance

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.law.has_rsample

    def expand(self, batch_shape: Any, _instance: Any = None) -> MarginalGaussian:
        return MarginalGaussian(self.law.expand(batch_shape), self.observed)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.law.expand(self.batch_shape).sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.law.expand(self.batch_shape).rsample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        keep = self.observed.to(value.dtype)
        residual = ((value - self.law.mean) * keep).unsqueeze(-1)
        covariance = self.law.covariance_matrix * keep.unsqueeze(-1) * keep.unsqueeze(-2)
        tril = torch.linalg.cholesky(covariance + torch.diag_embed(1 - keep))
        batch = torch.broadcast_shapes(tril.shape[:-2], residual.shape[:-2])
        residual = residual.expand(*batch, *residual.shape[-2:])
        tril = tril.expand(*batch, *tril.shape[-2:])
        quadratic = torch.linalg.solve_triangular(tril, residual, upper=False).square().sum((-2, -1))
        log_det = 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (quadratic + log_det + keep.sum(-1) * log(2 * pi))


def observed_part(law: Any, mask: torch.Tensor | None, name: str) -> Any:
    """``law`` restricted to the entries where ``mask`` (B, *event) is True; the law itself if mask is None."""
    if mask is None:
        return law
    events = len(law.event_shape)
    if events == 0:
        return law.mask(mask)
    if isinstance(
        law, torch.distributions.MultivariateNormal | torch.distributions.LowRankMultivariateNormal
    ):
        return MarginalGaussian(law, mask)
    if isinstance(law, Multinomial):
        return law.where(mask)
    if isinstance(law, Pushforward) and law.is_reshape:
        return Pushforward(
            observed_part(law.base_dist, mask.flatten(mask.dim() - events), name), law.transforms
        )
    if isinstance(law, torch.distributions.MixtureSameFamily):
        batch = torch.broadcast_shapes(law.batch_shape, mask.shape[: mask.dim() - events])
        within = observed_part(law.component_distribution, mask.unsqueeze(-events - 1), name)
        return dist.MixtureSameFamily(law.mixture_distribution.expand(batch), within, validate_args=False)
    if isinstance(law, torch.distributions.Independent):
        # What is independent is masked entry by entry; what is inside must be all there or all missing.
        inner = (
            mask.flatten(mask.dim() - len(law.base_dist.event_shape)) if law.base_dist.event_shape else mask
        )
        base_mask = _whole(inner, name) if law.base_dist.event_shape else inner
        masked = law.base_dist.expand(torch.broadcast_shapes(law.base_dist.batch_shape, base_mask.shape))
        return masked.mask(base_mask).to_event(law.reinterpreted_batch_ndims)
    return law.mask(_whole(mask.flatten(mask.dim() - events), name))


def missing_part(
    law: Any, value: torch.Tensor, mask: torch.Tensor, name: str
) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """Of the entries that are missing, given those of the same row that are there: the mean, and how to draw them.

    Both have the shape of ``value`` (B, *event), and mean nothing where ``mask`` is True. Of labels and levels the mean
    is the probability of each, a further dimension at the end. Given what was observed a Gaussian is drawn as x̃ + Σ_mo
    Σ_oo⁻¹ (x_o − x̃_o), x̃ a draw of the whole (Matheron's rule), which has the conditional mean and covariance.
    """
    events = len(law.event_shape)
    if isinstance(
        law, torch.distributions.MultivariateNormal | torch.distributions.LowRankMultivariateNormal
    ):
        keep = mask.to(value.dtype)
        covariance = law.covariance_matrix
        inner = covariance * keep.unsqueeze(-1) * keep.unsqueeze(-2) + torch.diag_embed(1 - keep)
        tril = torch.linalg.cholesky(inner)

        def completed(start: torch.Tensor) -> torch.Tensor:
            residual = ((value - start) * keep).unsqueeze(-1)
            return start + (covariance @ torch.cholesky_solve(residual, tril)).squeeze(-1)

        return completed(law.mean), lambda: completed(law.sample())
    if isinstance(law, Multinomial):
        rest = law.left(value, mask)
        return rest.mean, rest.sample
    if isinstance(law, Pushforward) and law.is_reshape:
        start = value.dim() - events
        mean, draw = missing_part(law.base_dist, value.flatten(start), mask.flatten(start), name)
        return mean.reshape(mean.shape[:-1] + law.event_shape), lambda: draw().reshape(value.shape)
    if isinstance(law, torch.distributions.MixtureSameFamily):
        return _missing_of_mixture(law, value, mask, name)
    base = law
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if base.event_shape:
        _whole(mask.flatten(mask.dim() - events), name)
    return (base.probs if isinstance(base, torch.distributions.Categorical) else law.mean), law.sample


def _missing_of_mixture(
    law: Any, value: torch.Tensor, mask: torch.Tensor, name: str
) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """What a row's other entries say of its component, and so of what is missing."""
    events, within = len(law.event_shape), law.component_distribution
    values, masks = (tensor.unsqueeze(-events - 1) for tensor in (value, mask))
    log_prob = observed_part(within, masks, name).log_prob(values)
    which = dist.Categorical(logits=law.mixture_distribution.logits + log_prob)
    shape = torch.broadcast_shapes(values.shape, log_prob.shape + law.event_shape)
    mean, draw = missing_part(within, values.expand(shape), masks.expand(shape), name)
    place = log_prob.dim() - 1
    weights = which.probs.reshape(*which.probs.shape, *(1,) * events)

    def drawn() -> torch.Tensor:
        every = draw()
        chosen = which.sample().reshape(*log_prob.shape[:-1], 1, *(1,) * events)
        chosen = chosen.expand(*log_prob.shape[:-1], 1, *law.event_shape)
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
            f"{name} has rows with some entries missing, but its law cannot be divided into entries: "
            "fill them in, or make the whole row missing (all NaN)"
        )
    return rows
