"""Gaussians with a full covariance whose draws carry their noise; ``lfm.Full`` uses them."""

from __future__ import annotations

from math import log, pi

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.distributions.draw_annotations import annotate, annotations_of
from pyro_lfm.distributions.interface import Shape


class CorrelatedGaussian(dist.MultivariateNormal):
    """x = μ + L ε, ε ~ N(0, I).

    ln N(x; μ, LLᵀ) = ln N(ε; 0, I) − ln |L|. Solving L ε = x − μ for ε loses all digits where L is ill conditioned, and a
    fit that learns L can exploit the error. So a draw carries its ε, and its density is computed from that.

    >>> distribution = CorrelatedGaussian(torch.zeros(2), scale_tril=torch.tensor([[1.0, 0.0], [1e9, 1e-3]]))
    >>> bool(distribution.log_prob(distribution.rsample((100,))).max() < 6)
    True
    """

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        loc, tril = self.loc, self._unbroadcasted_scale_tril
        noise = torch.randn(
            self._extended_shape(torch.Size(sample_shape)), dtype=loc.dtype, device=loc.device
        )
        value = loc + (tril @ noise.unsqueeze(-1)).squeeze(-1)
        return annotate(value, noise=noise, noise_mean=loc)

    def log_prob(self, value: Tensor) -> Tensor:
        annotations = annotations_of(value)
        noise = annotations.noise
        if noise is None or annotations.noise_mean is not self.loc:
            return super().log_prob(value)
        log_det = self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (noise.square().sum(-1) + noise.shape[-1] * log(2 * pi)) - log_det
