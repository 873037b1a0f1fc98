"""KL(q ‖ p) within one family of counts, Gammas, Betas or Dirichlets, without the cancellation of torch's formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta, Binomial, Dirichlet, Gamma, Independent, Poisson
from torch.nn.functional import logsigmoid

from pyro_lfm.distributions.continuous_bernoulli import ContinuousBernoulli
from pyro_lfm.distributions.stirling import deviance, digamma_error, stirling_error


def kl_of_family(q: Any, p: Any) -> Tensor | None:
    """KL of two distributions of one family, summed over an event of independent entries; None of other pairs.

    >>> far = Gamma(torch.tensor(1e8), torch.tensor(1e8)), Gamma(torch.tensor(1.0001e8), torch.tensor(1e8))
    >>> kl_of_family(*far)
    tensor(0.5000)
    """
    if q.event_shape != p.event_shape:
        return None
    events = len(q.event_shape)
    while isinstance(q, Independent):
        q = q.base_dist
    while isinstance(p, Independent):
        p = p.base_dist
    inner = len(q.event_shape)
    for family, formula in _FORMULAS.items():
        if isinstance(q, family) and isinstance(p, family):
            kl = formula(q, p)
            entries = events - inner
            return None if kl is None else kl.sum(list(range(-entries, 0))) if entries else kl
    return None


def _of_means(q: Tensor, p: Tensor) -> Tensor:
    """q ln(q / p) − q + p."""
    return deviance(q, p - q, p.log() - torch.where(q > 0, q, torch.ones_like(q)).log())


def _poisson(q: Any, p: Any) -> Tensor:
    return _of_means(q.rate, p.rate)


def _binomial(q: Any, p: Any) -> Tensor | None:
    if q.total_count is not p.total_count and not bool((q.total_count == p.total_count).all()):
        return None
    total = torch.zeros_like(q.logits + p.logits)
    for sign in (1, -1):
        mine, its = sign * q.logits, sign * p.logits
        total = total + deviance(
            mine.sigmoid(), its.sigmoid() - mine.sigmoid(), logsigmoid(its) - logsigmoid(mine)
        )
    return q.total_count * total


def _of_shapes(q: Tensor, p: Tensor) -> Tensor:
    """KL(Gamma(q, 1) ‖ Gamma(p, p / q)): of Gammas with one mean."""
    return 0.5 * (q.log() - p.log()) + (q - p) * digamma_error(q) + stirling_error(p) - stirling_error(q)


def _gamma(q: Any, p: Any) -> Tensor:
    a, c = q.concentration, p.concentration
    expected = a * (p.rate / q.rate)
    log_ratio = a.log() + p.rate.log() - q.rate.log() - c.log()
    return deviance(c, expected - c, log_ratio) + _of_shapes(a, c)


def _concentrations(a: Tensor, c: Tensor) -> Tensor:
    """Of Dirichlets: that of Gammas of one rate less that of their sums."""
    whole, its = a.sum(-1, keepdim=True), c.sum(-1, keepdim=True)
    log_ratio = its.log() + a.log() - whole.log() - c.log()
    each = deviance(c, its * (a / whole) - c, log_ratio) + _of_shapes(a, c)
    return each.sum(-1) - _of_shapes(whole, its).squeeze(-1)


def _dirichlet(q: Any, p: Any) -> Tensor:
    return _concentrations(q.concentration, p.concentration)


def _beta(q: Any, p: Any) -> Tensor:
    return _concentrations(*(torch.stack([d.concentration1, d.concentration0], -1) for d in (q, p)))


def _continuous_bernoulli(q: ContinuousBernoulli, p: ContinuousBernoulli) -> Tensor:
    return (q.logits - p.logits) * q.mean - q.log_normaliser() + p.log_normaliser()


_FORMULAS: dict[type, Callable[[Any, Any], Tensor | None]] = {
    Poisson: _poisson,
    Binomial: _binomial,
    Gamma: _gamma,
    Beta: _beta,
    Dirichlet: _dirichlet,
    ContinuousBernoulli: _continuous_bernoulli,
}
