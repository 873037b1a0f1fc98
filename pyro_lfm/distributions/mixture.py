"""The law of a variable whose parents have been drawn: an equal mixture over the draws."""

from __future__ import annotations

from math import log
from typing import Any

import pyro.distributions as dist
import torch


class DrawMixture(dist.TorchDistribution):
    """p(z) ≈ 1/S Σₛ p(z | parentsₛ): batch (S, B) of ``law`` becomes batch (B,).

    >>> law = dist.Normal(torch.tensor([[-1.0], [1.0]]), 1.0)
    >>> DrawMixture(law).mean, DrawMixture(law).variance
    (tensor([0.]), tensor([2.]))
    """

    def __init__(self, law: Any):
        self.law = law
        super().__init__(law.batch_shape[1:], law.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.law.support

    @property
    def draws(self) -> int:
        return self.law.batch_shape[0]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        dims = len(self.batch_shape) + len(self.event_shape)
        value = value.unsqueeze(value.dim() - dims)
        return self.law.log_prob(value).logsumexp(-len(self.batch_shape) - 1) - log(self.draws)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        sample_shape = torch.Size(sample_shape)
        with torch.no_grad():
            every = self.law.sample(sample_shape)
            at = len(sample_shape)
            shape = (*sample_shape, 1, *self.batch_shape)
            pick = torch.randint(self.draws, shape, device=every.device)
            pick = pick.reshape(*shape, *(1,) * len(self.event_shape))
            return every.gather(at, pick.expand(*shape, *self.event_shape)).squeeze(at)

    @property
    def mean(self) -> torch.Tensor:
        return self.law.mean.mean(0)

    @property
    def variance(self) -> torch.Tensor:
        return self.law.variance.mean(0) + self.law.mean.var(0, correction=0)


def mixture_over_draws(law: Any) -> Any:
    """The equal mixture over the draws (S, B) of a law's parents; of labels it is a categorical law itself.

    >>> mixture_over_draws(dist.Categorical(torch.tensor([[0.0, 1.0], [0.5, 0.5]]))).probs
    tensor([0.2500, 0.7500])
    """
    if isinstance(law, torch.distributions.Categorical):
        return dist.Categorical(law.probs.mean(0), validate_args=False)
    return DrawMixture(law)
