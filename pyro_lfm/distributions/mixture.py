"""Mixtures: of Gaussians, with gradients for all their parameters; and over draws of a variable's parents."""

from __future__ import annotations

from math import log
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.score_parts import ScoreParts

from pyro_lfm.distributions.cross_density import log_prob_of_each
from pyro_lfm.distributions.pushforward import Pushforward, drawn_moments


class GaussianMixture(dist.MixtureSameFamily):
    """Σ_c π_c N(μ_c, diag σ_c²), whose draws carry gradients for μ and σ, and whose score carries those for π.

    With the share r_c of each component at a draw z, ∇E[f(z)] = E[f′(z) Σ_c r_c (∇μ_c + (z − μ_c)/σ_c ∇σ_c)] +
    E[f(z) Σ_c r_c ∇ log π_c]: a draw of c, both gradients given c, and c then averaged out. No derivative of a draw
    with respect to π is of use: mass that goes from one mode to another has to cross what lies between, and the
    velocity there, 1 / q(z), has a variance that grows exponentially with the distance.

    Args: see ``MixtureSameFamily``; the components are ``Normal(μ, σ)`` made independent over the event.

    >>> parts = dist.Normal(torch.zeros(2, 3), 1.0).to_event(1)
    >>> distribution = GaussianMixture(dist.Categorical(logits=torch.zeros(2)), parts)
    >>> distribution.rsample().shape, float(distribution.score_parts(torch.zeros(3)).score_function)
    (torch.Size([3]), -0.6931471824645996)
    """

    has_rsample = True
    # Of draws that carry some gradients: what they lack is in ``score_parts``, in Pyro's terms.
    partly_reparametrized = True

    def _joint(self, value: torch.Tensor) -> torch.Tensor:
        """log p(c, value), (..., C)."""
        parts = self.component_distribution
        each = parts.log_prob(self._pad(value)) if self.batch_shape else log_prob_of_each(parts, value)
        return each + self.mixture_distribution.logits

    def _shares(self, value: torch.Tensor) -> torch.Tensor:
        """p(c | value), (..., C)."""
        return self._joint(value).softmax(-1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return self._joint(value).logsumexp(-1)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        value = self.sample(torch.Size(sample_shape))
        normal = self.component_distribution
        while isinstance(normal, torch.distributions.Independent):
            normal = normal.base_dist
        loc, scale = normal.loc, normal.scale
        with torch.no_grad():
            shares = self._shares(value)
            shares = shares.reshape(*shares.shape, *(1,) * len(self.event_shape))
            deviation = (self._pad(value) - loc) / scale
        moved = (loc - loc.detach()) + deviation * (scale - scale.detach())
        return value + (shares * moved).sum(-1 - len(self.event_shape))

    def score_parts(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        log_prob = self.log_prob(x)
        with torch.no_grad():
            shares = self._shares(x)
        return ScoreParts(log_prob, (shares * self.mixture_distribution.logits).sum(-1), log_prob)


class DrawMixture(dist.TorchDistribution):
    """p(z) ≈ 1/S Σₛ p(z | parentsₛ): batch (S, B) of ``distribution`` becomes batch (B,).

    >>> distribution = dist.Normal(torch.tensor([[-1.0], [1.0]]), 1.0)
    >>> DrawMixture(distribution).mean, DrawMixture(distribution).variance
    (tensor([0.]), tensor([2.]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, distribution: Any):
        self.distribution = distribution
        super().__init__(distribution.batch_shape[1:], distribution.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.distribution.support

    @property
    def draws(self) -> int:
        return self.distribution.batch_shape[0]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        if not self.batch_shape:
            return log_prob_of_each(self.distribution, value).logsumexp(-1) - log(self.draws)
        dims = len(self.batch_shape) + len(self.event_shape)
        value = value.unsqueeze(value.dim() - dims)
        return self.distribution.log_prob(value).logsumexp(-len(self.batch_shape) - 1) - log(self.draws)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        sample_shape = torch.Size(sample_shape)
        with torch.no_grad():
            every = self.distribution.sample(sample_shape)
            at = len(sample_shape)
            shape = (*sample_shape, 1, *self.batch_shape)
            pick = torch.randint(self.draws, shape, device=every.device)
            pick = pick.reshape(*shape, *(1,) * len(self.event_shape))
            return every.gather(at, pick.expand(*shape, *self.event_shape)).squeeze(at)

    @property
    def mean(self) -> torch.Tensor:
        return drawn_moments(self.distribution, 1)[0] if self._is_drawn else self.distribution.mean.mean(0)

    @property
    def variance(self) -> torch.Tensor:
        if self._is_drawn:
            return drawn_moments(self.distribution, 1)[1]
        return self.distribution.variance.mean(0) + self.distribution.mean.var(0, correction=0)

    @property
    def _is_drawn(self) -> bool:
        """Whether the moments of its parts are averages over draws, of which each part needs only a few."""
        return isinstance(self.distribution, Pushforward) and not self.distribution.is_reshape


def mixture_over_draws(distribution: Any) -> Any:
    """The equal mixture over the draws (S, B) of a distribution's parents; of labels it is a categorical distribution itself.

    >>> mixture_over_draws(dist.Categorical(torch.tensor([[0.0, 1.0], [0.5, 0.5]]))).probs
    tensor([0.2500, 0.7500])
    """
    if isinstance(distribution, torch.distributions.Categorical):
        return dist.Categorical(distribution.probs.mean(0), validate_args=False)
    return DrawMixture(distribution)
