"""The placeholder distribution of a variable that is given and not modelled, such as a covariate."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.interface import Shape


class Known(dist.TorchDistribution):
    """A given value: log_prob is 0 at every point, and each draw is ``value``.

    >>> distribution = Known(torch.ones(3), torch.distributions.constraints.real, 1)
    >>> distribution.log_prob(torch.zeros(2, 3)), distribution.mean
    (tensor([0., 0.]), tensor([1., 1., 1.]))
    """

    def __init__(self, value: torch.Tensor, support: Constraint, events: int):
        self.value, self._support = value, support
        split = value.dim() - events
        super().__init__(value.shape[:split], value.shape[split:], validate_args=False)

    @property
    def support(self) -> Constraint:
        return self._support

    @property
    def mean(self) -> torch.Tensor:
        return self.value

    def expand(self, batch_shape: Shape, _instance: Known | None = None) -> Known:
        value = self.value.expand(*batch_shape, *self.event_shape)
        return Known(value, self._support, len(self.event_shape))

    def sample(self, sample_shape: Shape = ()) -> torch.Tensor:
        return self.value.expand(self._extended_shape(torch.Size(sample_shape))).clone()

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        rows = value.shape[: value.dim() - len(self.event_shape)]
        return self.value.new_zeros(torch.broadcast_shapes(rows, self.batch_shape))
