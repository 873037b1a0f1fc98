"""The normal distribution for scales of every size; families, priors and guides use it."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.stirling import HALF_LOG_2PI
from pyro_lfm.shapes import is_shape


class Normal(dist.Normal):
    """N(loc, scale²), whose density squares (x − loc) / scale and not the scale: that overflows beyond 1e19 in float32.

    >>> import torch
    >>> Normal(torch.tensor(0.0), torch.tensor(1e20)).log_prob(torch.tensor(1e20))
    tensor(-47.4706)
    """

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None):
        if not (isinstance(loc, Tensor) and isinstance(scale, Tensor) and is_shape(loc.shape, scale.shape)):
            super().__init__(loc, scale, validate_args=validate_args)
            return
        # Nothing is to be broadcast, and so no view is made for autograd to pass through.
        self.loc, self.scale = loc, scale
        Distribution.__init__(self, loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: Normal | None = None) -> Normal:
        new = object.__new__(type(self)) if _instance is None else _instance
        expanded: Normal = super().expand(batch_shape, new)
        return expanded

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return -0.5 * ((value - self.loc) / self.scale).square() - self.scale.log() - HALF_LOG_2PI
