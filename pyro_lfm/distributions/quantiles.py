"""Quantiles of the distributions of single entries, which intervals of decoded rows use; torch has those of few."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import numpy as np
import torch
from pyro.distributions import Delta
from scipy import special
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Distribution,
    Gamma,
    MixtureSameFamily,
    Poisson,
    StudentT,
    TransformedDistribution,
)

from pyro_lfm.distributions.count_distributions import NegativeBinomial
from pyro_lfm.distributions.interface import support_of
from pyro_lfm.distributions.logistic import DiscretizedLogistic, OrderedLevels
from pyro_lfm.distributions.unmodelled import Known
from pyro_lfm.distributions.zero_inflated import ZeroInflated

# Halvings of an interval that holds a quantile: beyond single precision for reals.
_HALVINGS = 48


@singledispatch
def quantile(distribution: Distribution, level: Tensor) -> Tensor | None:
    """The least x with P(X ≤ x) ≥ level, for each entry of a batch; None where this library knows none.

    Args:
        distribution: of single numbers: batch shape (...), event shape ().
        level: probabilities above 0 and below 1 that broadcast to (...).

    >>> import pyro.distributions as dist
    >>> quantile(dist.Poisson(torch.tensor([0.01, 4.0])), torch.tensor(0.95))
    tensor([0., 8.])
    """
    try:
        return distribution.icdf(level.expand(distribution.batch_shape))
    except NotImplementedError:
        return None


@quantile.register
def _(distribution: Known, level: Tensor) -> Tensor:
    return distribution.value


@quantile.register
def _(distribution: Delta, level: Tensor) -> Tensor:
    value: Tensor = distribution.v
    return value


@quantile.register
def _(distribution: TransformedDistribution, level: Tensor) -> Tensor | None:
    try:
        rising = torch.ones(())
        for transform in distribution.transforms:
            rising = rising * transform.sign
    except NotImplementedError:
        return None
    value = quantile(distribution.base_dist, torch.where(rising.to(level) > 0, level, 1 - level))
    for transform in distribution.transforms:
        value = None if value is None else transform(value)
    return value


@quantile.register
def _(distribution: Gamma, level: Tensor) -> Tensor:
    concentration, rate = torch.broadcast_tensors(distribution.concentration, distribution.rate)
    return _of_numpy(special.gammaincinv, concentration, level) / rate


@quantile.register
def _(distribution: Beta, level: Tensor) -> Tensor:
    return _of_numpy(special.betaincinv, distribution.concentration1, distribution.concentration0, level)


@quantile.register
def _(distribution: StudentT, level: Tensor) -> Tensor:
    return distribution.loc + distribution.scale * _of_numpy(special.stdtrit, distribution.df, level)


@quantile.register
def _(distribution: Bernoulli, level: Tensor) -> Tensor:
    return (1 - distribution.probs < level).to(distribution.probs.dtype)


@quantile.register
def _(distribution: Categorical, level: Tensor) -> None:
    return None  # labels have no order


@quantile.register
def _(distribution: OrderedLevels, level: Tensor) -> Tensor:
    below = distribution.probs.cumsum(-1)[..., :-1] < level.unsqueeze(-1)
    return below.sum(-1).to(distribution.probs.dtype)


@quantile.register
def _(distribution: Poisson, level: Tensor) -> Tensor:
    rate = distribution.rate
    return _whole(lambda x, m: special.gammaincc(x + 1, m), rate, rate, level, rate)


@quantile.register
def _(distribution: NegativeBinomial, level: Tensor) -> Tensor:
    r, failure = distribution.total_count, torch.sigmoid(-distribution.logits)
    return _whole(
        lambda x, r, q: special.betainc(r, x + 1, q),
        distribution.mean,
        distribution.variance,
        level,
        r,
        failure,
    )


@quantile.register
def _(distribution: Binomial, level: Tensor) -> Tensor:
    n, failure = torch.broadcast_tensors(distribution.total_count, torch.sigmoid(-distribution.logits))

    def cdf(x: np.ndarray, n: np.ndarray, q: np.ndarray) -> np.ndarray:
        return np.where(x >= n, 1.0, special.betainc(np.maximum(n - x, 1e-300), x + 1, q))

    return _whole(cdf, distribution.mean, distribution.variance, level, n, failure)


@quantile.register
def _(distribution: ZeroInflated, level: Tensor) -> Tensor | None:
    zero = torch.sigmoid(distribution.gate_logits)
    # The part of the level that is left to the counts; where zeros take all of it, the quantile is 0.
    left = (level - zero) / (1 - zero)
    tiny = torch.finfo(left.dtype).tiny
    counts = quantile(distribution.base_dist, left.clamp(tiny, 1.0))
    return None if counts is None else counts.where(left > 0, counts.new_zeros(()))


@quantile.register
def _(distribution: DiscretizedLogistic, level: Tensor) -> Tensor:
    logistic = distribution.loc + distribution.scale * torch.logit(level)
    return distribution.grid.value(distribution.grid.index(logistic))


@quantile.register
def _(distribution: MixtureSameFamily, level: Tensor) -> Tensor | None:
    """By halving the interval between the least and the largest quantile of a component, which holds that of the mixture."""
    parts, weights = distribution.component_distribution, distribution.mixture_distribution.probs
    each = _logistic_quantile(parts, level) if isinstance(parts, DiscretizedLogistic) else None
    each = quantile(parts, level.unsqueeze(-1)) if each is None else each
    discrete = not isinstance(parts, DiscretizedLogistic) and bool(support_of(parts).is_discrete)
    if each is None or discrete:
        return None
    low, high = each.amin(-1), each.amax(-1)
    try:
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = (weights * _cdf(parts, middle.unsqueeze(-1))).sum(-1) >= level
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    except NotImplementedError:
        return None
    return parts.grid.value(parts.grid.index(high)) if isinstance(parts, DiscretizedLogistic) else high


def _logistic_quantile(parts: DiscretizedLogistic, level: Tensor) -> Tensor:
    return parts.loc + parts.scale * torch.logit(level).unsqueeze(-1)


def _cdf(distribution: Distribution, value: Tensor) -> Tensor:
    """P(X ≤ value); of a discretized logistic variable that before it is rounded."""
    if isinstance(distribution, DiscretizedLogistic):
        return torch.sigmoid((value - distribution.loc) / distribution.scale)
    return distribution.cdf(value)


def _of_numpy(function: Callable[..., np.ndarray], *arguments: Tensor) -> Tensor:
    """A function of SciPy, computed in double precision."""
    first = arguments[0]
    numbers = [argument.detach().double().cpu().numpy() for argument in torch.broadcast_tensors(*arguments)]
    return torch.as_tensor(function(*numbers)).to(first)


def _whole(
    cdf: Callable[..., np.ndarray], mean: Tensor, variance: Tensor, level: Tensor, *parameters: Tensor
) -> Tensor:
    """The least whole number of at least 0 whose cdf reaches the level.

    It is halved from the interval that Cantelli's inequality gives: μ − σ √((1 − p) / p) to μ + σ √(p / (1 − p)).
    """
    tensors = torch.broadcast_tensors(mean, variance, level, *parameters)
    mu, var, p, *rest = (tensor.detach().double().cpu().numpy() for tensor in tensors)
    sigma = np.sqrt(var)
    with np.errstate(all="ignore"):
        low = np.maximum(np.floor(mu - sigma * np.sqrt((1 - p) / p)) - 1, -1.0)
        high = np.ceil(mu + sigma * np.sqrt(p / np.maximum(1 - p, 1e-12))) + 1
        # Counts above 2⁵³ have gaps in double precision: then the interval stops shrinking.
        for _ in range(max(1, int(np.ceil(np.log2(np.max(high - low, initial=1.0)))) + 1)):
            middle = np.floor((low + high) / 2)
            above = cdf(middle, *rest) >= p
            low, high = np.where(above, low, middle), np.where(above, middle, high)
    return torch.as_tensor(np.maximum(high, 0.0)).to(mean)
