"""KL(q ‖ p) within one family of counts, Gammas, Betas or Dirichlets, without the cancellation of torch's formulas.

``kl.kl_closed_form`` uses it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Beta, Binomial, Dirichlet, Distribution, Gamma, Poisson
from torch.nn.functional import logsigmoid

from pyro_lfm.distributions.continuous_bernoulli import ContinuousBernoulli
from pyro_lfm.distributions.interface import without_independent
from pyro_lfm.distributions.stirling import deviance, digamma_error, stirling_error


def kl_of_family(q: Distribution, p: Distribution) -> Tensor | None:
    """KL of two distributions of one family, summed over an event of independent entries; None for other pairs.

    >>> kl_of_family(Gamma(torch.tensor(1e8), torch.tensor(1e8)), Gamma(torch.tensor(1.0001e8), torch.tensor(1e8)))
    tensor(0.5000)
    """
    if q.event_shape != p.event_shape:
        return None
    events = len(q.event_shape)
    q, p = without_independent(q), without_independent(p)
    inner = len(q.event_shape)
    for family, formula in _FORMULAS.items():
        if isinstance(q, family) and isinstance(p, family):
            kl = formula(q, p)
            entries = events - inner
            return None if kl is None else kl.sum(list(range(-entries, 0))) if entries else kl
    return None


def _poisson(q: Poisson, p: Poisson) -> Tensor:
    """λq ln(λq / λp) − λq + λp."""
    log_rate_q = torch.where(q.rate > 0, q.rate, torch.ones_like(q.rate)).log()
    return deviance(q.rate, p.rate - q.rate, p.rate.log() - log_rate_q)


def _binomial(q: Binomial, p: Binomial) -> Tensor | None:
    if q.total_count is not p.total_count and not bool((q.total_count == p.total_count).all()):
        return None
    total = torch.zeros_like(q.logits + p.logits)
    for sign in (1, -1):
        logits_q, logits_p = sign * q.logits, sign * p.logits
        share = logits_q.sigmoid()
        total = total + deviance(
            share, logits_p.sigmoid() - share, logsigmoid(logits_p) - logsigmoid(logits_q)
        )
    return q.total_count * total


def _gamma_of_equal_means(q: Tensor, p: Tensor) -> Tensor:
    """KL(Gamma(q, 1) ‖ Gamma(p, p / q)), two Gammas with the same mean."""
    return 0.5 * (q.log() - p.log()) + (q - p) * digamma_error(q) + stirling_error(p) - stirling_error(q)


def _gamma(q: Gamma, p: Gamma) -> Tensor:
    a, c = q.concentration, p.concentration
    expected = a * (p.rate / q.rate)
    log_ratio = a.log() + p.rate.log() - q.rate.log() - c.log()
    return deviance(c, expected - c, log_ratio) + _gamma_of_equal_means(a, c)


def _concentrations(a: Tensor, c: Tensor) -> Tensor:
    """KL of Dirichlets with concentrations a and c (..., K): that of K Gammas minus that of their sums."""
    total_a, total_c = a.sum(-1, keepdim=True), c.sum(-1, keepdim=True)
    log_ratio = total_c.log() + a.log() - total_a.log() - c.log()
    each = deviance(c, total_c * (a / total_a) - c, log_ratio) + _gamma_of_equal_means(a, c)
    return each.sum(-1) - _gamma_of_equal_means(total_a, total_c).squeeze(-1)


def _dirichlet(q: Dirichlet, p: Dirichlet) -> Tensor:
    return _concentrations(q.concentration, p.concentration)


def _beta(q: Beta, p: Beta) -> Tensor:
    return _concentrations(*(torch.stack([d.concentration1, d.concentration0], -1) for d in (q, p)))


def _continuous_bernoulli(q: ContinuousBernoulli, p: ContinuousBernoulli) -> Tensor:
    return (q.logits - p.logits) * q.mean - q.log_normaliser() + p.log_normaliser()


_FORMULAS: dict[type, Callable[..., Tensor | None]] = {
    Poisson: _poisson,
    Binomial: _binomial,
    Gamma: _gamma,
    Beta: _beta,
    Dirichlet: _dirichlet,
    ContinuousBernoulli: _continuous_bernoulli,
}
