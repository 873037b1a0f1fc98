"""The log density of each value under each distribution of a batch; mixtures and aggregate posteriors use it."""

from __future__ import annotations

from math import log, pi

import torch
from torch.distributions import Distribution

from pyro_lfm.distributions.kl import gaussian_moments


def pairwise_log_prob(distribution: Distribution, value: torch.Tensor) -> torch.Tensor:
    """log p_c(x) of values (..., *event) under distributions c of batch shape (C,): (..., C).

    For Gaussians with independent entries it takes two matrix products, Σ_k (x_k − μ_k)² / σ_k² = x² · σ⁻² − 2 x · μσ⁻² +
    μ² · σ⁻², in double precision because large terms cancel.

    >>> distribution = torch.distributions.Normal(torch.tensor([[0.0], [1.0]]), 1.0)
    >>> distribution = torch.distributions.Independent(distribution, 1)
    >>> pairwise_log_prob(distribution, torch.zeros(3, 1))[0]
    tensor([-0.9189, -1.4189])
    """
    events = len(distribution.event_shape)
    moments = gaussian_moments(distribution)
    if moments is None or moments.scale is None or moments.loc.dim() != 2:
        return distribution.log_prob(value.unsqueeze(value.dim() - events))
    x = value.reshape(*value.shape[: value.dim() - events], -1).double()
    loc, scale = (
        part.expand(*distribution.batch_shape, -1).double() for part in (moments.loc, moments.scale)
    )
    weight = scale.square().reciprocal()
    square = x.square() @ weight.mT - 2 * x @ (loc * weight).mT + (loc.square() * weight).sum(-1)
    log_prob = -0.5 * (square + loc.shape[-1] * log(2 * pi)) - scale.log().sum(-1)
    return log_prob.to(value.dtype)
