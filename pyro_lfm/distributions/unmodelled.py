"""The distribution of what is given and not modelled."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch


class Known(dist.TorchDistribution):
    """A value that is given: log_prob is 0 whatever it is, and a draw is ``value``.

    >>> distribution = Known(torch.ones(3), torch.distributions.constraints.real, 1)
    >>> distribution.log_prob(torch.zeros(2, 3)), distribution.mean
    (tensor([0., 0.]), tensor([1., 1., 1.]))
    """

    def __init__(self, value: torch.Tensor, support: Any, events: int):
        self.value, self._support = value, support
        split = value.dim() - events
        super().__init__(value.shape[:split], value.shape[split:], validate_args=False)

    @property
    def support(self) -> Any:
        return self._support

    @property
    def mean(self) -> torch.Tensor:
        return self.value

    def expand(self, batch_shape: Any, _instance: Any = None) -> Known:
        value = self.value.expand(*batch_shape, *self.event_shape)
        return Known(value, self._support, len(self.event_shape))

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.value.expand(self._extended_shape(sample_shape)).clone()

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        rows = value.shape[: value.dim() - len(self.event_shape)]
        return self.value.new_zeros(torch.broadcast_shapes(rows, self.batch_shape))
