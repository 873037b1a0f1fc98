"""The Kumaraswamy distribution, accurate at every concentration; it replaces Pyro's (see ``stable_versions``)."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.distributions.draw_annotations import exp_with_log, largest_below_one, log_complement_of, log_of
from pyro_lfm.distributions.interface import Shape


def _log_one_minus_exp(log: Tensor) -> Tensor:
    """ln(1 − e^t) for t < 0."""
    return torch.where(
        log > -0.7, (-torch.expm1(log.clamp_min(-0.7))).log(), (-(log.clamp_max(-0.7).exp())).log1p()
    )


def _log_rest(power: Tensor, log: Tensor, complement: Tensor) -> Tensor:
    """ln(1 − x^power) from ln x and ln(1 − x). Next to x = 1 it is ln(power (1 − x))."""
    near_one = power * log > -1e-6
    elsewhere = _log_one_minus_exp(torch.where(near_one, -torch.ones_like(log), power * log))
    return torch.where(near_one, power.log() + complement, elsewhere)


class Kumaraswamy(dist.Kumaraswamy):
    """p(x) = a b x^(a − 1) (1 − x^a)^(b − 1) on (0, 1), a = concentration1, b = concentration0.

    >>> half = torch.tensor(0.5)
    >>> Kumaraswamy(torch.tensor(1.0), torch.tensor(2.0)).log_prob(half).exp()
    tensor(1.)
    """

    def expand(self, batch_shape: Shape, _instance: Kumaraswamy | None = None) -> Kumaraswamy:
        shapes = (c.expand(batch_shape) for c in (self.concentration1, self.concentration0))
        return Kumaraswamy(*shapes, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        log = log_of(value)
        rest = _log_rest(a, log, log_complement_of(value))
        return a.log() + b.log() + (a - 1) * log + (b - 1) * rest

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        a, b = self.concentration1, self.concentration0
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=a.dtype, device=a.device).clamp_min(torch.finfo(a.dtype).eps / 4)
        # w = u^(1/b) and x = (1 − w)^(1/a).
        log_w, ones = u.log() / b, torch.ones_like(u)
        log = _log_rest(1 / b * ones, u.log(), torch.log1p(-u)) / a
        small = log > -1e-6
        complement = _log_one_minus_exp(torch.where(small, -ones, log))
        return exp_with_log(log, torch.where(small, log_w - a.log(), complement), largest_below_one(u.dtype))
