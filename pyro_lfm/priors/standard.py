"""The standard normal prior."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch.distributions import Distribution

from pyro_lfm.factors import Prior


class StandardNormal(Prior):
    """z ~ N(0, I), independent standard normals, without parameters.

    Args:
        event: size K, or a shape.

    Use it for every first model. A Gaussian guide has a KL in closed form against it.

    KL: closed form with a Gaussian guide, ½ Σ_k (μ_k² + σ_k² − 1 − ln σ_k²) where its covariance is diagonal.

    Limits: it has no clusters and no sparse latents, and a linear decoder is known only up to a rotation of z.

    Source: Kingma and Welling (2014), appendix B.

    >>> StandardNormal(3)().variance
    tensor([1., 1., 1.])
    """

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, event: int | Sequence[int]):
        super().__init__(event)
        self.register_buffer("loc", torch.zeros(self.shape))
        self.register_buffer("scale", torch.ones(self.shape))

    def forward(self) -> Distribution:
        return dist.Normal(self.loc, self.scale, validate_args=False).to_event(len(self.shape))
