"""Log-normal, half-Cauchy and Student t that neither overflow far out nor lose digits near their limits.

Families of positive and real numbers and the horseshoe prior use them.
"""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.distributions.draw_annotations import exp_with_log, log_of
from pyro_lfm.distributions.draws import log_gamma_draw
from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.stirling import HALF_LOG_2PI, stirling_error
from pyro_lfm.distributions.support_maps import Exp


class LogNormal(dist.LogNormal):
    """ln x ~ N(loc, scale²). A draw is annotated with its logarithm.

    >>> draw = LogNormal(torch.tensor(-300.0), torch.tensor(0.1)).sample()
    >>> bool(draw > 0), bool(log_of(draw) < -290)
    (True, True)
    """

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None):
        super().__init__(loc, scale, validate_args=validate_args)
        self.transforms = [Exp()]

    def expand(self, batch_shape: Shape, _instance: LogNormal | None = None) -> LogNormal:
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

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.scale.dtype, device=self.scale.device)
        # x = scale · tan(πu / 2).
        small = (u.clamp_min(torch.finfo(u.dtype).eps / 4) * (math.pi / 2)).tan()
        return exp_with_log(small.log() + self.scale.log())


class StudentT(dist.StudentT):
    """p(x) ∝ [1 + t²]^(−(df + 1) / 2), t = (x − loc) / (scale √df). It becomes a Gaussian as df → ∞, without lost digits.

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
        # ln Γ(h + ½) − ln Γ(h) − ½ ln h, h = df / 2.
        ratio = half * (0.5 / half).log1p() - 0.5 + stirling_error(half + 0.5) - stirling_error(half)
        return ratio - HALF_LOG_2PI - self.scale.log() - (half + 0.5) * spread

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        half = (self.df / 2).expand(shape)
        log_spread = 0.5 * (half.log() - log_gamma_draw(half))
        normal = torch.randn(shape, dtype=self.df.dtype, device=self.df.device)
        limit = math.log(torch.finfo(self.df.dtype).max) / 2
        return self.loc + self.scale * normal * log_spread.clamp_max(limit).exp()
