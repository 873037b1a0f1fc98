"""The equal mixture over draws of a variable's parents; posteriors of hierarchies and the VampPrior use it."""

from __future__ import annotations

from math import log
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch.distributions import Categorical, Distribution
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.pairwise_density import pairwise_log_prob
from pyro_lfm.distributions.pushforward import Pushforward, monte_carlo_moments


class DrawMixture(dist.TorchDistribution):
    """p(z) ≈ 1/S Σₛ p(z | parentsₛ): from a distribution of batch shape (S, B), one of batch shape (B,).

    >>> distribution = dist.Normal(torch.tensor([[-1.0], [1.0]]), 1.0)
    >>> DrawMixture(distribution).mean, DrawMixture(distribution).variance
    (tensor([0.]), tensor([2.]))
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(self, distribution: Distribution):
        self.distribution = distribution
        super().__init__(distribution.batch_shape[1:], distribution.event_shape, validate_args=False)

    @property
    def support(self) -> Constraint | None:
        return self.distribution.support

    @property
    def draws(self) -> int:
        return self.distribution.batch_shape[0]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        if not self.batch_shape:
            return pairwise_log_prob(self.distribution, value).logsumexp(-1) - log(self.draws)
        dims = len(self.batch_shape) + len(self.event_shape)
        value = value.unsqueeze(value.dim() - dims)
        return self.distribution.log_prob(value).logsumexp(-len(self.batch_shape) - 1) - log(self.draws)

    def sample(self, sample_shape: Shape = ()) -> torch.Tensor:
        sample_shape = torch.Size(sample_shape)
        with torch.no_grad():
            values = self.distribution.sample(sample_shape)
            dim = len(sample_shape)
            shape = (*sample_shape, 1, *self.batch_shape)
            index = torch.randint(self.draws, shape, device=values.device)
            index = index.reshape(*shape, *(1,) * len(self.event_shape))
            return values.gather(dim, index.expand(*shape, *self.event_shape)).squeeze(dim)

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance."""
        if self._has_monte_carlo_moments:
            return monte_carlo_moments(self.distribution, 1)
        means = self.distribution.mean
        return means.mean(0), self.distribution.variance.mean(0) + means.var(0, correction=0)

    @property
    def mean(self) -> torch.Tensor:
        return self.moments()[0] if self._has_monte_carlo_moments else self.distribution.mean.mean(0)

    @property
    def variance(self) -> torch.Tensor:
        return self.moments()[1]

    @property
    def _has_monte_carlo_moments(self) -> bool:
        """Whether the moments of the components are averages over draws; then the draws of all components are pooled."""
        return isinstance(self.distribution, Pushforward) and not self.distribution.is_reshape


def mixture_over_draws(distribution: Distribution) -> Distribution:
    """The equal mixture over the draws (S, B) of a distribution's parents. A mixture of categoricals is categorical.

    >>> mixture_over_draws(dist.Categorical(torch.tensor([[0.0, 1.0], [0.5, 0.5]]))).probs
    tensor([0.2500, 0.7500])
    """
    if isinstance(distribution, Categorical):
        return dist.Categorical(distribution.probs.mean(0), validate_args=False)
    return DrawMixture(distribution)
