"""The normal distribution for scales of every size; families, priors and guides use it."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor

from pyro_lfm.distributions.stirling import HALF_LOG_2PI


class Normal(dist.Normal):
    """N(loc, scale²), whose density squares (x − loc) / scale and not the scale: that overflows beyond 1e19 in float32.

    >>> import torch
    >>> Normal(torch.tensor(0.0), torch.tensor(1e20)).log_prob(torch.tensor(1e20))
    tensor(-47.4706)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return -0.5 * ((value - self.loc) / self.scale).square() - self.scale.log() - HALF_LOG_2PI
