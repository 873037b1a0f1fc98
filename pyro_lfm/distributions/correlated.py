"""Gaussians with a full covariance whose draws know the noise that they were made of."""

from __future__ import annotations

from math import log, pi
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.distributions.logs import logs_of, mark


class CorrelatedGaussian(dist.MultivariateNormal):
    """x = μ + L ε, ε ~ N(0, I).

    ln N(x; μ, LLᵀ) = ln N(ε; 0, I) − ln |L|. Solving L ε = x − μ for ε loses every digit where L is ill conditioned, and a
    fit that is free to choose L finds where it does: the density at its own draws is therefore that of their ε.

    >>> distribution = CorrelatedGaussian(torch.zeros(2), scale_tril=torch.tensor([[1.0, 0.0], [1e9, 1e-3]]))
    >>> bool(distribution.log_prob(distribution.rsample((100,))).max() < 6)
    True
    """

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        loc, tril = self.loc, self._unbroadcasted_scale_tril
        noise = torch.randn(
            self._extended_shape(torch.Size(sample_shape)), dtype=loc.dtype, device=loc.device
        )
        value = loc + (tril @ noise.unsqueeze(-1)).squeeze(-1)
        return mark(value, noise=noise, noise_of=loc)

    def log_prob(self, value: Tensor) -> Tensor:
        known = logs_of(value)
        if known.noise is None or known.noise_of is not self.loc:
            return super().log_prob(value)
        log_det = self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (known.noise.square().sum(-1) + known.noise.shape[-1] * log(2 * pi)) - log_det
