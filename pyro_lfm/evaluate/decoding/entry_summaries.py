"""What p(x | z) says of each entry of x: mean, deviation, interval, probabilities. ``RowDecoder`` answers with them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    Distribution,
    MixtureSameFamily,
    Normal,
)

from pyro_lfm.distributions.entry_marginals import entry_marginals
from pyro_lfm.distributions.interface import without_independent
from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.distributions.logistic import DiscretizedLogistic, OrderedLevels
from pyro_lfm.distributions.multinomial import Multinomial
from pyro_lfm.distributions.noise_draws import CommonNoise, NotOfNoise, draw_from
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.quantiles import quantile
from pyro_lfm.distributions.scaled_distribution import unmasked
from pyro_lfm.runtime import Stream

# Draws of a distribution without closed forms, and the most numbers that they may be together.
_DRAWS, _NUMBERS = 1000, 4_000_000


@dataclass(frozen=True)
class EntrySummaries:
    """The distribution of each of D entries given z, for B rows.

    Attributes:
        mean: (B, D). Where there is none, as of a Cauchy, the median; of labels, which have no order, the likeliest code.
        deviation: the standard deviation, (B, D); NaN of labels.
        lower, upper: the ends of the central interval, (B, D): quantiles (1 − level) / 2 and (1 + level) / 2; NaN of labels.
        probabilities: of each label or level, (B, D, C); None of numbers.
    """

    mean: Tensor
    deviation: Tensor
    lower: Tensor
    upper: Tensor
    probabilities: Tensor | None = None


def entry_summaries(distribution: Distribution, rows: int, level: float) -> EntrySummaries:
    """Summaries of the entries of a distribution, for so many rows.

    They are exact where closed forms of the marginals are known, and else of 1,000 draws. Where these are functions of
    noise, it is the same in all rows and calls, so that the answer moves smoothly with z.

    Args:
        distribution: batch shape () or (B,), any event shape.
        rows: B. level: of the central interval.

    >>> import pyro.distributions as dist
    >>> entry_summaries(dist.Normal(torch.zeros(1, 2), 1.0).to_event(1), rows=1, level=0.9).upper
    tensor([[1.6449, 1.6449]])
    """
    distribution, _ = unmasked(distribution)
    each = single_entries(distribution)
    summary = None if each is None else _exact(each, level)
    if summary is None:
        summary = _of_draws(distribution, level)
    probabilities = summary.probabilities
    return EntrySummaries(
        _flat(summary.mean, distribution, rows),
        _flat(summary.deviation, distribution, rows),
        _flat(summary.lower, distribution, rows),
        _flat(summary.upper, distribution, rows),
        None if probabilities is None else _flat(probabilities, distribution, rows, 1),
    )


def entry_means(distribution: Distribution, rows: int) -> Tensor:
    """The means of the entries, (B, D); of labels, which have none, the probability of each, (B, D, C)."""
    distribution, _ = unmasked(distribution)
    base = without_independent(distribution)
    if isinstance(base, Categorical) and not isinstance(base, OrderedLevels):
        return _flat(base.probs, distribution, rows, 1)
    try:
        mean = distribution.mean
    except NotImplementedError:
        mean = _draws_of(distribution).mean(0)
    if not bool(mean.isfinite().all()):
        mean = entry_summaries(distribution, rows, 0.5).mean
    return _flat(mean, distribution, rows)


def _flat(value: Tensor, distribution: Distribution, rows: int, further: int = 0) -> Tensor:
    """(..., *event, *further) as (B, D, *further)."""
    tail = value.shape[value.dim() - further :]
    entries = distribution.event_shape.numel()
    if value.dim() == 2 + further and value.shape[:2] == (rows, entries):
        return value
    whole = value.expand(*distribution.batch_shape, *distribution.event_shape, *tail)
    return whole.reshape(-1, entries, *tail).expand(rows, entries, *tail)


def single_entries(distribution: Distribution) -> Distribution | None:
    """The marginals as a distribution of single entries, (*batch, *event); None where they are not known."""
    inner = without_independent(distribution)
    if isinstance(inner, Multinomial):
        log_p = inner.logits
        # ln p / (1 − p), exact for p near 0.
        odds = log_p - torch.log1p(-log_p.exp().clamp_max(1 - 1e-7))
        return Binomial(inner.total_count.unsqueeze(-1).expand(log_p.shape), logits=odds, validate_args=False)
    if isinstance(inner, Dirichlet):
        a = inner.concentration
        return Beta(a, a.sum(-1, keepdim=True) - a, validate_args=False)
    if isinstance(inner, OneHotCategorical):
        return Bernoulli(inner.probs, validate_args=False)
    if isinstance(inner, MixtureSameFamily) and inner.event_shape:
        moments = gaussian_moments(inner.component_distribution)
        if moments is None or len(inner.event_shape) > 1:
            return None
        scale = moments.scale if moments.scale is not None else moments.variance.sqrt()
        weights = inner.mixture_distribution.probs.unsqueeze(-2)
        locations, scales = moments.loc.transpose(-1, -2), scale.transpose(-1, -2)
        components = Categorical(probs=weights.expand(locations.shape), validate_args=False)
        return MixtureSameFamily(
            components, Normal(locations, scales, validate_args=False), validate_args=False
        )
    marginals = entry_marginals(distribution)
    return None if marginals is None else marginals.distribution


def _exact(each: Distribution, level: float) -> EntrySummaries | None:
    """By closed forms; None where mean, variance or quantiles have none."""
    probabilities = each.probs if isinstance(each, Categorical) else None
    if probabilities is not None and not isinstance(each, OrderedLevels):
        none = probabilities.new_full(probabilities.shape[:-1], torch.nan)
        return EntrySummaries(probabilities.argmax(-1).to(none), none, none, none, probabilities)
    like = torch.zeros(()).to(_a_parameter(each))
    lower, upper = (quantile(each, like + end) for end in ((1 - level) / 2, (1 + level) / 2))
    if lower is None or upper is None:
        return None
    try:
        mean, variance = moments_of_entries(each)
    except NotImplementedError:
        return None
    if not bool(mean.isfinite().all()):
        middle = quantile(each, like + 0.5)
        mean = mean if middle is None else mean.where(mean.isfinite(), middle)
    return EntrySummaries(mean, variance.sqrt(), lower, upper, probabilities)


def moments_of_entries(each: Distribution) -> tuple[Tensor, Tensor]:
    """Mean and variance, where both need the same sums computed once."""
    if isinstance(each, Pushforward | DiscretizedLogistic):
        return each.moments()
    if isinstance(each, MixtureSameFamily) and isinstance(each.component_distribution, DiscretizedLogistic):
        weights = each.mixture_distribution.probs
        means, variances = each.component_distribution.moments()
        mean = (weights * means).sum(-1)
        return mean, (weights * (variances + (means - mean.unsqueeze(-1)).square())).sum(-1)
    return each.mean, each.variance


def _a_parameter(distribution: Distribution) -> Tensor:
    """A tensor with the type and the device of a distribution."""
    for value in vars(distribution).values():
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    for value in vars(distribution).values():
        if isinstance(value, Distribution):
            return _a_parameter(value)
    return torch.zeros(())


def _draws_of(distribution: Distribution) -> Tensor:
    """Draws, (S, *batch, *event), from the same noise in all rows where they are functions of noise."""
    numbers = (distribution.batch_shape + distribution.event_shape).numel()
    draws = max(100, min(_DRAWS, _NUMBERS // max(1, numbers)))
    with Stream(0), torch.no_grad():
        try:
            values = draw_from(distribution, CommonNoise(draws, len(distribution.batch_shape)))
        except NotOfNoise:
            values = distribution.sample(torch.Size((draws,)))
    values = values.expand(draws, *distribution.batch_shape, *distribution.event_shape)
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def _of_draws(distribution: Distribution, level: float) -> EntrySummaries:
    values = _draws_of(distribution)
    draws = len(values)
    ordered = values.sort(0).values
    # The draw whose place corresponds to the probability, so that intervals of whole numbers end in whole numbers.
    lower, middle, upper = (ordered[round(p * (draws - 1))] for p in ((1 - level) / 2, 0.5, (1 + level) / 2))
    mean, deviation = values.mean(0), values.std(0)
    return EntrySummaries(mean.where(mean.isfinite(), middle), deviation, lower, upper)
