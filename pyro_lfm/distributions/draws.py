"""Samplers for cases where torch's fail: counts beyond the range of int64, and Gammas whose draws underflow."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Gamma

from pyro_lfm.distributions.stirling import wide

# Above this variance a count is normal but for its skewness: the next term is below 1e-12 standard deviations.
_NEARLY_NORMAL = 1e12


def _skewed_normal(mean: Tensor, variance: Tensor, skew: Tensor) -> Tensor:
    """A whole number from the first terms of the Cornish-Fisher expansion; ``skew`` is the third moment over σ²."""
    z = torch.randn_like(mean)
    return (mean + variance.sqrt() * z + skew * (z.square() - 1) / 6).round()


def poisson_draw(rate: Tensor) -> Tensor:
    """A draw from Poisson(rate), for rates of any size.

    >>> poisson_draw(torch.tensor([0.0, 1e30])).isfinite()
    tensor([True, True])
    """
    with torch.no_grad():
        mean = wide(rate)
        # torch counts in an int64.
        counted = torch.poisson(mean.clamp_max(_NEARLY_NORMAL))
        return torch.where(
            mean < _NEARLY_NORMAL, counted, _skewed_normal(mean, mean, torch.ones_like(mean))
        ).to(rate.dtype)


def binomial_draw(total_count: Tensor, logits: Tensor) -> Tensor:
    """A draw from Binomial(total_count, logits), for any number of trials."""
    with torch.no_grad():
        n, odds = torch.broadcast_tensors(wide(total_count), wide(logits))
        p, q = odds.sigmoid(), (-odds).sigmoid()
        variance = n * p * q
        # torch.binomial miscounts in single precision from 10⁹ trials on. The rarer outcome is drawn, for which
        # the probability keeps all its digits.
        rarer = torch.binomial(
            torch.where(variance < _NEARLY_NORMAL, n, torch.ones_like(n)), torch.minimum(p, q)
        )
        counted = torch.where(p < q, rarer, n - rarer)
        normal = torch.minimum(_skewed_normal(n * p, variance, q - p).clamp_min(0.0), n)
        return torch.where(variance < _NEARLY_NORMAL, counted, normal).to(total_count.dtype)


def log_gamma_draw(concentration: Tensor) -> Tensor:
    """The logarithm of a draw from Gamma(a, 1), differentiable in a.

    Below a = 1 it is ln g + ln(u) / a with g ~ Gamma(a + 1, 1) and u uniform, as g u^(1/a) itself underflows.

    Source: Marsaglia and Tsang (2000), "A simple method for generating gamma variables", section 6.

    >>> bool((log_gamma_draw(torch.full((1000,), 1e-3)) < -100).any())
    True
    """
    small = concentration < 1
    standard = Gamma(
        torch.where(small, concentration + 1, concentration), torch.ones_like(concentration), False
    ).rsample()
    power = torch.log1p(-torch.rand_like(concentration)) / concentration
    return standard.log() + torch.where(small, power, torch.zeros_like(power))
