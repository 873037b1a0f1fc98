"""Zero-inflated counts, used by the families of counts and in place of Pyro's zero-inflated distributions."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.nn.functional import logsigmoid

from pyro_lfm.distributions.interface import Shape


class ZeroInflated(dist.TorchDistribution):
    """Zero with probability σ(gate_logits), else a count from ``base``.

    Pyro's own computes ln(gate + ...) from probabilities after it has been sampled, which loses digits.

    >>> ZeroInflated(dist.Poisson(torch.tensor(3.0)), torch.tensor(0.0)).mean
    tensor(1.5000)
    """

    arg_constraints: dict[str, Constraint] = {}

    def __init__(self, base: Distribution, gate_logits: torch.Tensor):
        shape = torch.broadcast_shapes(base.batch_shape, gate_logits.shape)
        self.base_dist: Distribution = base.expand(shape)
        self.gate_logits = gate_logits.expand(shape)
        super().__init__(shape, validate_args=False)

    @property
    def support(self) -> Constraint | None:
        return self.base_dist.support

    def expand(self, batch_shape: Shape, _instance: ZeroInflated | None = None) -> ZeroInflated:
        return ZeroInflated(
            self.base_dist.expand(torch.Size(batch_shape)), self.gate_logits.expand(batch_shape)
        )

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        counted = logsigmoid(-self.gate_logits) + self.base_dist.log_prob(value)
        return torch.where(value == 0, torch.logaddexp(logsigmoid(self.gate_logits), counted), counted)

    def sample(self, sample_shape: Shape = ()) -> torch.Tensor:
        counts = self.base_dist.sample(torch.Size(sample_shape))
        inflated = torch.rand_like(counts) < torch.sigmoid(self.gate_logits)
        return counts.masked_fill(inflated, 0.0)

    @property
    def mean(self) -> torch.Tensor:
        return torch.sigmoid(-self.gate_logits) * self.base_dist.mean

    @property
    def variance(self) -> torch.Tensor:
        counted, extra = torch.sigmoid(-self.gate_logits), torch.sigmoid(self.gate_logits)
        return counted * (self.base_dist.variance + extra * self.base_dist.mean.square())
