"""The Parzen mixture: equal Gaussians of one scale about many centres, of which only those near a point count."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.interface import Shape

# The numbers of one block of distances, 16 MB in double precision.
_ENTRIES = 2**21


class ParzenMixture(dist.TorchDistribution):
    """p(z) = 1/M Σ_m N(z; c_m, σ² I), with a centre left out for each row of a batch where there is one.

    With ``neighbours`` the sum is over the nearest centres of z alone. The density is then too low, by far less than a nat
    if σ is small beside the spread of the centres.

    Args:
        centres: c, (M, K), by which the nearest are found.
        log_scale: ln σ, ().
        neighbours: how many of the nearest count; None for all.
        left_out: (B, M), True where a centre is not one of the row's; None where all are.
        renew: m ↦ the centres (..., K) of those indices, with gradients; by default the centres as they are.

    Source: Parzen (1962); Norouzi, Fleet and Norouzi (2020), equations 4 and 8, for the rest.

    >>> centres = torch.tensor([[0.0], [4.0]])
    >>> mixture = ParzenMixture(centres, torch.zeros(()))
    >>> mixture.mean, mixture.variance, mixture.log_prob(torch.zeros(1)).exp()
    (tensor([2.]), tensor([5.]), tensor(0.1995))
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    support = constraints.real_vector

    def __init__(
        self,
        centres: Tensor,
        log_scale: Tensor,
        neighbours: int | None = None,
        left_out: Tensor | None = None,
        renew: Callable[[Tensor], Tensor] | None = None,
    ):
        self.centres, self.log_scale, self.left_out, self.renew = centres, log_scale, left_out, renew
        self.neighbours = len(centres) if neighbours is None else min(neighbours, len(centres))
        batch = () if left_out is None else left_out.shape[:1]
        super().__init__(torch.Size(batch), centres.shape[1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.neighbours == len(self.centres) and self.renew is None and self.left_out is None:
            return self._of_all(value)
        with torch.no_grad():
            distance = torch.cdist(value.reshape(-1, value.shape[-1]), self.centres)
            distance = distance.reshape(*value.shape[:-1], len(self.centres))
            if self.left_out is not None:
                distance = distance.masked_fill(self.left_out, torch.inf)
            near = distance.topk(self.neighbours, -1, largest=False)
        # (..., n, K), and those that are left out still, where a row has no more others than neighbours are asked for.
        centres = self.centres[near.indices] if self.renew is None else self.renew(near.indices)
        squares = (value.unsqueeze(-2) - centres).square().sum(-1)
        dim = value.shape[-1]
        each = -0.5 * squares * (-2 * self.log_scale).exp() - dim * (self.log_scale + 0.5 * log(2 * pi))
        return each.masked_fill(near.values.isinf(), -torch.inf).logsumexp(-1) - self._count.log()

    def _of_all(self, value: Tensor) -> Tensor:
        """The density under all centres, from squared distances by one matrix product, in blocks of values.

        The products are in double precision about the mean centre, because large terms cancel. Nothing of size
        (values, centres, K) is made.
        """
        dim, middle = value.shape[-1], self.centres.mean(0)
        flat = (value - middle).reshape(-1, dim).double()
        centres = (self.centres - middle).double()
        half = centres.square().sum(-1) / 2
        precision = (-2 * self.log_scale).exp().double()
        blocks = []
        for block in flat.split(max(1, _ENTRIES // len(centres))):
            inner = torch.addmm(-half, block, centres.mT)
            blocks.append((precision * inner).logsumexp(-1) - precision * block.square().sum(-1) / 2)
        log_sum = torch.cat(blocks).reshape(value.shape[:-1]).to(value.dtype)
        return log_sum - dim * (self.log_scale + 0.5 * log(2 * pi)) - self._count.log()

    @property
    def _count(self) -> Tensor:
        """The number of centres of each row, batch shape."""
        total = self.centres.new_tensor(float(len(self.centres)))
        return total if self.left_out is None else total - self.left_out.sum(-1)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        shape = torch.Size((*sample_shape, *self.batch_shape))
        with torch.no_grad():
            weights = torch.ones(len(self.centres), device=self.centres.device).expand(*shape, -1)
            if self.left_out is not None:
                weights = weights.masked_fill(self.left_out, 0.0)
            chosen = torch.distributions.Categorical(probs=weights).sample()
            noise = torch.randn(
                *shape, *self.event_shape, dtype=self.centres.dtype, device=self.centres.device
            )
            return self.centres[chosen] + self.log_scale.exp() * noise

    @property
    def mean(self) -> Tensor:
        return self.centres.mean(0).expand(*self.batch_shape, *self.event_shape)

    @property
    def variance(self) -> Tensor:
        variance = self.centres.var(0, correction=0) + (2 * self.log_scale).exp()
        return variance.expand(*self.batch_shape, *self.event_shape)
