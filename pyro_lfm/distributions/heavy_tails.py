"""Distributions with long tails, whose densities neither overflow far out nor lose digits near their limits."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.distributions.draws import log_gamma_draw
from pyro_lfm.distributions.logs import log_of, within
from pyro_lfm.distributions.stirling import HALF_LOG_2PI, stirling_error
from pyro_lfm.distributions.support_maps import Exp


class LogNormal(dist.LogNormal):
    """ln x ~ N(loc, scale²), drawn with its logarithm.

    >>> draw = LogNormal(torch.tensor(-300.0), torch.tensor(0.1)).sample()
    >>> bool(draw > 0), bool(log_of(draw) < -290)
    (True, True)
    """

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        super().__init__(loc, scale, validate_args=validate_args)
        self.transforms = [Exp()]

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogNormal:
        return LogNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log = log_of(value)
        return self.base_dist.log_prob(log) - log


class HalfCauchy(dist.HalfCauchy):
    """p(x) = 2 / (π s (1 + x² / s²)) for x > 0, s = scale.

    >>> HalfCauchy(torch.tensor(1.0)).log_prob(torch.tensor(1e30))
    tensor(-138.6067)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_ratio = log_of(value) - self.scale.log()
        tail = torch.logaddexp(torch.zeros_like(log_ratio), 2 * log_ratio)
        log_prob = math.log(2 / math.pi) - self.scale.log() - tail
        return log_prob.masked_fill(value < 0, -torch.inf)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.scale.dtype, device=self.scale.device)
        # tan(πu / 2), each tail from its own end.
        small = (u.clamp_min(torch.finfo(u.dtype).eps / 4) * (math.pi / 2)).tan()
        return within(small.log() + self.scale.log())


class StudentT(dist.StudentT):
    """p(x) ∝ [1 + t²]^(−(df + 1) / 2), t = (x − loc) / (scale √df): of df → ∞ a Gaussian, digit by digit.

    >>> gaussian = dist.Normal(0.0, 1.0).log_prob(torch.tensor(2.0))
    >>> bool((StudentT(torch.tensor(1e9)).log_prob(torch.tensor(2.0)) - gaussian).abs() < 1e-6)
    True
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        half = self.df / 2
        t = (value - self.loc) / self.scale * self.df.rsqrt()
        near, far = t.clamp(-1, 1), t.abs().clamp_min(1)
        spread = torch.where(
            t.abs() < 1, near.square().log1p(), 2 * far.log() + far.reciprocal().square().log1p()
        )
        # ln Γ(h + ½) − ln Γ(h) − ½ ln h.
        ratio = half * (0.5 / half).log1p() - 0.5 + stirling_error(half + 0.5) - stirling_error(half)
        return ratio - HALF_LOG_2PI - self.scale.log() - (half + 0.5) * spread

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        half = (self.df / 2).expand(shape)
        log_spread = 0.5 * (half.log() - log_gamma_draw(half))
        normal = torch.randn(shape, dtype=self.df.dtype, device=self.df.device)
        limit = math.log(torch.finfo(self.df.dtype).max) / 2
        return self.loc + self.scale * normal * log_spread.clamp_max(limit).exp()
