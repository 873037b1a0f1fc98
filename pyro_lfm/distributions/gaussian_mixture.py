"""Mixtures of Gaussians with gradients for all their parameters; ``lfm.MixtureOfGaussians`` uses them."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions.score_parts import ScoreParts

from pyro_lfm.distributions.interface import Shape, without_independent
from pyro_lfm.distributions.pairwise_density import pairwise_log_prob


class GaussianMixture(dist.MixtureSameFamily):
    """Σ_c π_c N(μ_c, diag σ_c²). Draws have gradients for μ and σ; the score function has those for π.

    With the responsibilities r_c of the components at a draw z, ∇E[f(z)] = E[f′(z) Σ_c r_c (∇μ_c + (z − μ_c)/σ_c ∇σ_c)] +
    E[f(z) Σ_c r_c ∇ log π_c]: the pathwise and the score gradients given c, averaged over p(c | z). A derivative of a draw
    with respect to π would be useless: mass that moves between modes crosses the region between them, where the
    velocity 1 / q(z) has a variance that grows exponentially with the distance of the modes.

    Args: see ``MixtureSameFamily``; the components are ``Normal(μ, σ)`` made independent over the event.

    >>> parts = dist.Normal(torch.zeros(2, 3), 1.0).to_event(1)
    >>> distribution = GaussianMixture(dist.Categorical(logits=torch.zeros(2)), parts)
    >>> distribution.rsample().shape, float(distribution.score_parts(torch.zeros(3)).score_function)
    (torch.Size([3]), -0.6931471824645996)
    """

    has_rsample = True
    # Draws have gradients for some parameters only. The others' are in ``score_parts``, Pyro's interface for them.
    partly_reparametrized = True

    def _joint(self, value: torch.Tensor) -> torch.Tensor:
        """log p(c, value), (..., C)."""
        parts = self.component_distribution
        each = parts.log_prob(self._pad(value)) if self.batch_shape else pairwise_log_prob(parts, value)
        return each + self.mixture_distribution.logits

    def _responsibilities(self, value: torch.Tensor) -> torch.Tensor:
        """p(c | value), (..., C)."""
        return self._joint(value).softmax(-1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return self._joint(value).logsumexp(-1)

    def rsample(self, sample_shape: Shape = ()) -> torch.Tensor:
        value = self.sample(torch.Size(sample_shape))
        normal = without_independent(self.component_distribution)
        assert isinstance(normal, torch.distributions.Normal)  # for the type checker
        loc, scale = normal.loc, normal.scale
        with torch.no_grad():
            weights = self._responsibilities(value)
            weights = weights.reshape(*weights.shape, *(1,) * len(self.event_shape))
            deviation = (self._pad(value) - loc) / scale
        # Zero, with the gradient of each component's draw.
        moved = (loc - loc.detach()) + deviation * (scale - scale.detach())
        return value + (weights * moved).sum(-1 - len(self.event_shape))

    def score_parts(self, x: torch.Tensor) -> ScoreParts:
        log_prob = self.log_prob(x)
        with torch.no_grad():
            weights = self._responsibilities(x)
        return ScoreParts(log_prob, (weights * self.mixture_distribution.logits).sum(-1), log_prob)
