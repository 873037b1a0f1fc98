"""Poisson, negative binomial and binomial with accurate log probabilities for counts of any size (see ``stirling``).

torch's log_prob subtracts numbers of size x ln x and loses digits. The families of counts use these. Counts below 0 or
above the number of trials have probability 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.distributions.draws import binomial_draw, log_gamma_draw, poisson_draw
from pyro_lfm.distributions.explicit_derivatives import with_derivatives
from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.stirling import HALF_LOG_2PI, deviance, digamma_error, stirling_error, wide

Derivative = tuple[Callable[[], Tensor], ...]


def _positive(count: Tensor) -> tuple[Tensor, Tensor]:
    """Counts of at least 0 with 1 in place of 0, and a mask of those above 0."""
    above = count > 0
    return count + ~above, above


def log_factorial_error(count: Tensor) -> Tensor:
    """ln x! − (x ln x − x) for counts x; 0 at 0."""
    x, above = _positive(count)
    return (stirling_error(x) + HALF_LOG_2PI + 0.5 * x.log()) * above


def log_poisson(count: Tensor, mean: Tensor, log_mean: Tensor) -> Tensor:
    """ln(m^x e^(−m) / x!) for counts x of at least 0."""
    x, _ = _positive(count)
    return -deviance(count, mean - count, log_mean - x.log()) - log_factorial_error(count)


def odds_gap(successes: Tensor, failures: Tensor, logits: Tensor) -> Tensor:
    """σ(−l) successes − σ(l) failures, which nearly cancel at the mode, in the type of ``successes``."""
    odds = wide(logits)
    up = odds > 0
    smaller = (-odds.abs()).exp()
    s, f = wide(successes), wide(failures)
    return (torch.where(up, smaller * s - f, s - smaller * f) / (1 + smaller)).to(successes.dtype)


def _log_sigmoids(logits: Tensor) -> tuple[Tensor, Tensor]:
    """ln σ(l) and ln σ(−l)."""
    rest = (-logits.abs()).exp().log1p()
    return logits.clamp_max(0) - rest, -logits.clamp_min(0) - rest


def _poisson(count: Tensor, rate: Tensor) -> Tensor:
    log_rate = rate.clamp_min(torch.finfo(rate.dtype).tiny).log()
    return log_poisson(count, rate, log_rate).masked_fill((rate == 0) & (count > 0), -torch.inf)


def _poisson_derivatives(count: Tensor, rate: Tensor) -> Derivative:
    def by_rate() -> Tensor:
        return torch.where(count > 0, (count - rate) / rate, -torch.ones_like(rate))

    return (lambda: rate.log() - (count + 1).digamma()), by_rate


class _Deviances:
    """The terms of the deviances of a shape r and a count x from their expectations out of r + x.

    These are D(r, r + gap) and D(x, x − gap).
    """

    def __init__(self, count: Tensor, r: Tensor, log_odds: Tensor):
        self.x, self.above = _positive(count)
        self.gap = odds_gap(count, r, log_odds)
        self.log_n, self.log_r, self.log_x = (r + self.x).log(), r.log(), self.x.log()
        self.log_q, self.log_p = _log_sigmoids(log_odds.to(r.dtype))
        self.of_r = deviance(r, self.gap, self.log_n - self.log_r + self.log_p)


def _log_odds(r: Tensor, parameter: Tensor, by_mean: bool) -> Tensor:
    return wide(parameter) - wide(r).log() if by_mean else parameter


def _negative_binomial(count: Tensor, r: Tensor, parameter: Tensor, by_mean: bool) -> Tensor:
    terms = _Deviances(count, r, _log_odds(r, parameter, by_mean))
    x = terms.x
    deviances = terms.of_r + deviance(x, -terms.gap, terms.log_n - terms.log_x + terms.log_q)
    errors = stirling_error(r + x) - stirling_error(r) - stirling_error(x)
    # ln(r / (r + x)), accurate also where r or x is tiny beside the other.
    share = torch.where(x < r, -torch.log1p(x / torch.maximum(r, x)), terms.log_r - terms.log_n)
    some = errors - deviances + 0.5 * (share - terms.log_x) - HALF_LOG_2PI
    return torch.where(terms.above, some, r * terms.log_p)


def _negative_binomial_derivatives(count: Tensor, r: Tensor, parameter: Tensor, by_mean: bool) -> Derivative:
    log_odds = _log_odds(r, parameter, by_mean)
    gap = odds_gap(count, r, log_odds)

    def by_r() -> Tensor:
        # ψ(r + x) − ψ(r) + ln σ(−l) without cancellation at large r; with fixed logits the mean moves with r too.
        log_ratio = (r + count).log() - r.log() + _log_sigmoids(log_odds.to(r.dtype))[1]
        slope = digamma_error(r + count) - digamma_error(r) - deviance(r, gap, log_ratio) / r
        return slope if by_mean else slope + gap / r

    def by_count() -> Tensor:
        return (r + count).digamma() - (count + 1).digamma() + _log_sigmoids(log_odds.to(r.dtype))[0]

    return by_count, by_r, lambda: gap


def _trials_gap(count: Tensor, n: Tensor, logits: Tensor) -> Tensor:
    """Successes minus their expectation."""
    return odds_gap(wide(count), wide(n) - wide(count), logits).to(count.dtype)


def _binomial(count: Tensor, n: Tensor, logits: Tensor) -> Tensor:
    rest = n - count
    (x, some), (y, not_all) = _positive(count), _positive(rest)
    gap = _trials_gap(count, n, logits)
    (log_q, log_p), at_least_one = _log_sigmoids(logits), n.clamp_min(1.0)
    log_n, log_x, log_y = at_least_one.log(), x.log(), y.log()
    deviances = deviance(x, -gap, log_n - log_x + log_q) + deviance(y, gap, log_n - log_y + log_p)
    errors = stirling_error(at_least_one) - stirling_error(x) - stirling_error(y)
    between = errors - deviances + 0.5 * (log_n - log_x - log_y) - HALF_LOG_2PI
    return torch.where(some & not_all, between, n * torch.where(some, log_q, log_p))


def _binomial_derivatives(count: Tensor, n: Tensor, logits: Tensor) -> Derivative:
    rest = n - count

    def by_count() -> Tensor:
        return (rest + 1).digamma() - (count + 1).digamma() + logits

    def by_n() -> Tensor:
        return (n + 1).digamma() - (rest + 1).digamma() + _log_sigmoids(logits)[1]

    return by_count, by_n, lambda: _trials_gap(count, n, logits)


class Poisson(dist.Poisson):
    """p(x) = λ^x e^(−λ) / x!.

    >>> Poisson(torch.tensor(1e7)).log_prob(torch.tensor(1e7))
    tensor(-8.9780)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_prob = with_derivatives(_poisson, _poisson_derivatives, value.clamp_min(0.0), self.rate)
        return log_prob.masked_fill(value < 0, -torch.inf)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return poisson_draw(self.rate.expand(self._extended_shape(torch.Size(sample_shape))))


class NegativeBinomial(dist.TorchDistribution):
    """p(x) = Γ(x + r) / (Γ(r) x!) σ(logits)^x σ(−logits)^r, with mean μ = r exp(logits) and variance μ + μ² / r.

    Args:
        total_count: r > 0, of any size. The limit r → ∞ at a fixed mean is a Poisson.
        logits: ln(μ / r).
        log_mean: ln μ, instead of logits. At r = 10⁸ logits in single precision have too few digits to tell r.

    >>> NegativeBinomial(torch.tensor(1e7), log_mean=torch.tensor(5.0).log()).log_prob(torch.tensor(5.0))
    tensor(-1.7403)
    """

    arg_constraints = {"total_count": constraints.positive, "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(
        self,
        total_count: Tensor,
        logits: Tensor | None = None,
        *,
        log_mean: Tensor | None = None,
        validate_args: bool | None = False,
    ):
        if (logits is None) == (log_mean is None):
            raise ValueError("a NegativeBinomial takes either logits or log_mean")
        parameter = logits if logits is not None else log_mean
        self.total_count, self._parameter = torch.broadcast_tensors(total_count, parameter)
        self._by_mean = log_mean is not None
        super().__init__(self._parameter.shape, validate_args=validate_args)

    @property
    def logits(self) -> Tensor:
        return _log_odds(self.total_count, self._parameter, self._by_mean).to(self._parameter.dtype)

    def expand(self, batch_shape: Shape, _instance: NegativeBinomial | None = None) -> NegativeBinomial:
        name = "log_mean" if self._by_mean else "logits"
        parameter = {name: self._parameter.expand(batch_shape)}
        return NegativeBinomial(
            self.total_count.expand(batch_shape), **parameter, validate_args=self._validate_args
        )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        dtype = torch.promote_types(self._parameter.dtype, value.dtype)
        r, parameter, count = (part.to(dtype) for part in (self.total_count, self._parameter, value))
        function = partial(_negative_binomial, by_mean=self._by_mean)
        derivatives = partial(_negative_binomial_derivatives, by_mean=self._by_mean)
        log_prob = with_derivatives(function, derivatives, count.clamp_min(0.0), r, parameter)
        return log_prob.masked_fill(value < 0, -torch.inf)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            r = wide(self.total_count).expand(shape)
            log_scale = _log_odds(r, wide(self._parameter), self._by_mean)
            return poisson_draw((log_gamma_draw(r) + log_scale).exp()).to(self._parameter.dtype)

    @property
    def mean(self) -> Tensor:
        return self._parameter.exp() if self._by_mean else self.total_count * self._parameter.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 + self.mean / self.total_count)


class Binomial(dist.Binomial):
    """p(x) = n! / (x! (n − x)!) σ(logits)^x σ(−logits)^(n − x).

    >>> Binomial(torch.tensor(1e8), logits=torch.tensor(0.0)).log_prob(torch.tensor(5e7))
    tensor(-9.4361)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        dtype = torch.promote_types(self.logits.dtype, value.dtype)
        n, logits, count = self.total_count.to(dtype), self.logits.to(dtype), value.to(dtype)
        outside = (count < 0) | (count > n)
        count = torch.minimum(count.clamp_min(0.0), n)
        log_prob = with_derivatives(_binomial, _binomial_derivatives, count, n, logits)
        return log_prob.masked_fill(outside, -torch.inf)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return binomial_draw(self.total_count.expand(shape), self.logits.expand(shape))
