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
