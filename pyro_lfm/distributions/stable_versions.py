"""Replaces Pyro's distributions by the library's numerically stable versions of them.

Factors and programs that users write return distributions of ``pyro.distributions``. Where the library has the same
distribution with more accurate draws and densities, that one is used.
"""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch.distributions import Distribution

from pyro_lfm.distributions import count_distributions as counts
from pyro_lfm.distributions import gamma, heavy_tails
from pyro_lfm.distributions.continuous_bernoulli import ContinuousBernoulli
from pyro_lfm.distributions.interface import independent
from pyro_lfm.distributions.kumaraswamy import Kumaraswamy
from pyro_lfm.distributions.multinomial import Multinomial
from pyro_lfm.distributions.zero_inflated import ZeroInflated
from pyro_lfm.runtime import mask_of


def stable_version(distribution: Distribution) -> Distribution:
    """The library's version of a Pyro distribution, or the distribution itself; also inside masks and ``Independent``.

    >>> beta = stable_version(dist.Beta(0.01, 0.01))
    >>> type(beta).__module__, beta.mean
    ('pyro_lfm.distributions.gamma', tensor(0.5000))
    """
    if isinstance(distribution, dist.Independent):
        base = stable_version(distribution.base_dist)
        if base is distribution.base_dist:
            return distribution
        return independent(base, distribution.reinterpreted_batch_ndims)
    if type(distribution) is MaskedDistribution:
        base = stable_version(distribution.base_dist)
        if base is distribution.base_dist:
            return distribution
        return MaskedDistribution(base, mask_of(distribution))
    convert = _CONVERSIONS.get(type(distribution))
    return distribution if convert is None else convert(distribution)


class StableVersions(Messenger):
    """A Pyro handler that replaces the distributions of sample statements by their stable versions."""

    def _pyro_sample(self, msg: Message) -> None:
        msg["fn"] = stable_version(msg["fn"])  # type: ignore[typeddict-item, arg-type]


def _poisson(d: dist.Poisson) -> Distribution:
    return d if d.is_sparse else counts.Poisson(d.rate, validate_args=d._validate_args)


def _negative_binomial(d: dist.NegativeBinomial) -> Distribution:
    return counts.NegativeBinomial(d.total_count, d.logits, validate_args=d._validate_args)


def _gamma_poisson(d: dist.GammaPoisson) -> Distribution:
    return counts.NegativeBinomial(d.concentration, -d.rate.log(), validate_args=d._validate_args)


def _binomial(d: dist.Binomial) -> Distribution:
    return counts.Binomial(d.total_count, logits=d.logits, validate_args=d._validate_args)


def _multinomial(d: dist.Multinomial) -> Distribution:
    total = torch.as_tensor(d.total_count, dtype=d.logits.dtype, device=d.logits.device)
    return Multinomial(total, d.logits, total)


def _zero_inflated(d: dist.ZeroInflatedPoisson | dist.ZeroInflatedNegativeBinomial) -> Distribution:
    return ZeroInflated(stable_version(d.base_dist), d.gate_logits)


_CONVERSIONS: dict[type, Callable[..., Distribution]] = {
    dist.Poisson: _poisson,
    dist.NegativeBinomial: _negative_binomial,
    dist.GammaPoisson: _gamma_poisson,
    dist.Binomial: _binomial,
    dist.Multinomial: _multinomial,
    dist.ZeroInflatedPoisson: _zero_inflated,
    dist.ZeroInflatedNegativeBinomial: _zero_inflated,
    dist.ContinuousBernoulli: lambda d: ContinuousBernoulli(d.logits, validate_args=d._validate_args),
    dist.Gamma: lambda d: gamma.Gamma(d.concentration, d.rate, d._validate_args),
    dist.Beta: lambda d: gamma.Beta(d.concentration1, d.concentration0, d._validate_args),
    dist.Dirichlet: lambda d: gamma.Dirichlet(d.concentration, d._validate_args),
    dist.Kumaraswamy: lambda d: Kumaraswamy(
        d.concentration1, d.concentration0, validate_args=d._validate_args
    ),
    dist.HalfCauchy: lambda d: heavy_tails.HalfCauchy(d.scale, d._validate_args),
    dist.LogNormal: lambda d: heavy_tails.LogNormal(d.loc, d.scale, d._validate_args),
    dist.StudentT: lambda d: heavy_tails.StudentT(d.df, d.loc, d.scale, d._validate_args),
}
