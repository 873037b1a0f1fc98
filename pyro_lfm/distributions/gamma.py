"""Gamma, Beta and Dirichlet that are accurate at every concentration; families and parameter priors use them.

At concentrations a below about 0.1 most draws underflow: those of Gamma(0.01) are of size e⁻¹⁰⁰. So draws are computed
from their logarithms (``draws``). At a above 10⁵, ln Γ(a) cancels all digits of the density, which is therefore
computed from deviances (``stirling``).
"""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.distributions.draw_annotations import (
    annotations_of,
    exp_with_log,
    largest_below_one,
    log_complement_of,
    log_of,
)
from pyro_lfm.distributions.draws import log_gamma_draw
from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.stirling import HALF_LOG_2PI, deviance, digamma_error, stirling_error, wide


def _finite_log(log: Tensor) -> Tensor:
    """ln x with a finite number in place of ln 0."""
    return torch.where(log == -torch.inf, math.log(torch.finfo(log.dtype).tiny), log)


def _log_power_of_zero(power: Tensor, log: Tensor) -> Tensor:
    """ln 0^power where x is 0 (0 for a power of 0), and 0 elsewhere."""
    return torch.where(
        log == -torch.inf, torch.xlogy(power, torch.zeros_like(power)), torch.zeros_like(power)
    )


def gamma_entropy(a: Tensor) -> Tensor:
    """The entropy of Gamma(a, 1) in nats, a + ln Γ(a) + (1 − a) ψ(a)."""
    return (
        0.5 * (a.log() + 1)
        + HALF_LOG_2PI
        + stirling_error(a)
        + (1 - a) * (digamma_error(a) + 0.5 / a)
        - 0.5 / a
    )


def dirichlet_entropy(a: Tensor) -> Tensor:
    """The entropy of Dirichlets with concentrations (..., K), in nats, from those of K Gammas and of their sum."""
    n = a.sum(-1)
    return gamma_entropy(a).sum(-1) - gamma_entropy(n) - (a.shape[-1] - 1) * n.digamma()


class Gamma(dist.Gamma):
    """p(x) = b^a x^(a − 1) e^(−b x) / Γ(a), a = concentration, b = rate.

    >>> Gamma(torch.tensor(1e8), torch.tensor(1e8)).log_prob(torch.tensor(1.0))
    tensor(8.2914)
    """

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return exp_with_log(log_gamma_draw(self.concentration.expand(shape)) - self.rate.log())

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration, self.rate
        log = log_of(value)
        log_x = _finite_log(log)
        gap = (wide(b) * wide(value) - wide(a)).to(log.dtype)
        deviances = deviance(a, gap, b.log() + log_x - a.log()) + stirling_error(a)
        return 0.5 * a.log() - HALF_LOG_2PI - deviances - log_x + _log_power_of_zero(a - 1, log)

    def entropy(self) -> Tensor:
        return gamma_entropy(self.concentration) - self.rate.log()


class Beta(dist.Beta):
    """p(x) = x^(a − 1) (1 − x)^(b − 1) / B(a, b), a = concentration1, b = concentration0.

    >>> Beta(torch.tensor(1e8), torch.tensor(1e8)).log_prob(torch.tensor(0.5))
    tensor(9.3311)
    """

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        ones, zeros = (log_gamma_draw(c.expand(shape)) for c in (self.concentration1, self.concentration0))
        whole = torch.logaddexp(ones, zeros)
        return exp_with_log(ones - whole, zeros - whole, largest_below_one(whole.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        logs = log_of(value), log_complement_of(value)
        log_x, log_y = map(_finite_log, logs)
        # For an annotated draw next to 1, only ln(1 − x) has the digits of 1 − x.
        x = wide(value)
        y = 1 - x if annotations_of(value).log_complement is None else wide(log_y).exp()
        gap = (wide(b) * x - wide(a) * y).to(value.dtype)
        n = a + b
        deviances = deviance(a, gap, n.log() + log_x - a.log()) + deviance(b, -gap, n.log() + log_y - b.log())
        errors = stirling_error(n) - stirling_error(a) - stirling_error(b)
        density = errors - deviances + 0.5 * (a.log() + b.log() - n.log()) - HALF_LOG_2PI - log_x - log_y
        return density + _log_power_of_zero(a - 1, logs[0]) + _log_power_of_zero(b - 1, logs[1])

    def entropy(self) -> Tensor:
        return dirichlet_entropy(torch.stack([self.concentration1, self.concentration0], -1))


class Dirichlet(dist.Dirichlet):
    """p(x) = Γ(Σ_k a_k) Π_k x_k^(a_k − 1) / Γ(a_k) on the simplex.

    >>> shares = Dirichlet(torch.full((3,), 1e-3)).sample((1000,))
    >>> bool((shares.max(-1).values > 0.9).double().mean() > 0.98)
    True
    """

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        logs = log_gamma_draw(self.concentration.expand(shape))
        return exp_with_log(logs - logs.logsumexp(-1, keepdim=True), most=1.0)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, log = self.concentration, log_of(value)
        n, log_x = a.sum(-1), _finite_log(log)
        gap = (wide(a).sum(-1, keepdim=True) * wide(value) - wide(a)).to(log.dtype)
        deviances = deviance(a, gap, n.log().unsqueeze(-1) + log_x - a.log())
        deviances = deviances + stirling_error(a) - 0.5 * a.log()
        each = (gap - deviances - log_x - HALF_LOG_2PI + _log_power_of_zero(a - 1, log)).sum(-1)
        return each + stirling_error(n) - 0.5 * n.log() + HALF_LOG_2PI

    def entropy(self) -> Tensor:
        return dirichlet_entropy(self.concentration)
