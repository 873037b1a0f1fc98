"""Conjugate distributions of probabilities: Beta for Bernoulli components, Dirichlet for the weights of classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.exact.mixtures.ascent import Statistics, float64
from pyro_lfm.exact.mixtures.bernoullis import Bernoullis, binary_counts, check_binary
from pyro_lfm.exact.mixtures.conjugate_components import ConjugateComponents, positive, wrong_kind
from pyro_lfm.exact.mixtures.mixture import Components


@dataclass(frozen=True, eq=False)
class Betas(ConjugateComponents):
    """For Bernoullis, entry by entry: p ~ Beta(a, b). Missing entries are marginalised exactly.

    Args:
        ones: a (C, D) > 0, the number of ones that the distribution is worth.
        zeros: b (C, D) > 0, the number of zeros.

    >>> Betas(torch.tensor([[3.0]]), torch.tensor([[1.0]])).point().probs
    tensor([[0.7500]], dtype=torch.float64)
    """

    ones: Tensor
    zeros: Tensor

    def __post_init__(self) -> None:
        ones = float64("ones", self.ones, "C", "D")
        object.__setattr__(self, "ones", positive("ones", ones, ones))
        object.__setattr__(self, "zeros", positive("zeros", self.zeros, ones))

    @property
    def size(self) -> tuple[int, int]:
        return self.ones.shape[0], self.ones.shape[1]

    def point(self) -> Bernoullis:
        return Bernoullis(self.ones / (self.ones + self.zeros))

    @property
    def expected_logs(self) -> tuple[Tensor, Tensor]:
        """E[ln p] and E[ln(1 − p)], (C, D)."""
        total = torch.digamma(self.ones + self.zeros)
        return torch.digamma(self.ones) - total, torch.digamma(self.zeros) - total

    def log_density(self, x: Tensor) -> Tensor:
        check_binary(x)
        log_one, log_zero = self.expected_logs
        return x.nan_to_num() @ log_one.T + (1 - x).nan_to_num() @ log_zero.T

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        return binary_counts(x, responsibilities)

    def posterior(self, statistics: Statistics, prior: ConjugateComponents) -> Betas:
        assert isinstance(prior, Betas)
        ones, zeros = statistics
        return Betas(prior.ones + ones, prior.zeros + zeros)

    def expected_log_density(self, statistics: Statistics, at: ConjugateComponents) -> Tensor:
        assert isinstance(at, Betas)
        log_one, log_zero = at.expected_logs
        return (statistics[0] * log_one + statistics[1] * log_zero).sum()

    def divergence(self, prior: ConjugateComponents) -> Tensor:
        assert isinstance(prior, Betas)
        prior_pair = torch.stack([prior.ones, prior.zeros], -1)
        return dirichlet_divergence(torch.stack([self.ones, self.zeros], -1), prior_pair).sum()

    def centred_on(self, components: Components, rows: float) -> Betas:
        if not isinstance(components, Bernoullis):
            raise wrong_kind(self, components)
        total = self.ones + self.zeros + rows
        return Betas(components.probs * total, (1 - components.probs) * total)


def dirichlet_divergence(concentration: Tensor, prior: Tensor) -> Tensor:
    """KL(Dir(α) ‖ Dir(α₀)) over the last dimension (..., C).

    >>> dirichlet_divergence(torch.ones(3), torch.ones(3))
    tensor(0.)
    """
    prior = prior.expand_as(concentration)
    logs = torch.digamma(concentration) - torch.digamma(concentration.sum(-1, keepdim=True))
    constants = concentration.sum(-1).lgamma() - concentration.lgamma().sum(-1)
    prior_constants = prior.sum(-1).lgamma() - prior.lgamma().sum(-1)
    return constants - prior_constants + ((concentration - prior) * logs).sum(-1)
