"""Pyro's distributions as those of the library that are right at every parameter.

A factor or a program of one's own names ``pyro.distributions``; what it gives is taken for the same distribution with
stable draws and densities, where the library has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine.messenger import Messenger

from pyro_lfm.distributions import counts, gamma, heavy_tails
from pyro_lfm.distributions.continuous_bernoulli import ContinuousBernoulli
from pyro_lfm.distributions.kumaraswamy import Kumaraswamy
from pyro_lfm.distributions.multinomial import Multinomial
from pyro_lfm.distributions.zero_inflated import ZeroInflated


def sound(distribution: Any) -> Any:
    """The distribution itself, or its stable equal; independent entries and masks are looked into.

    >>> beta = sound(dist.Beta(0.01, 0.01))
    >>> type(beta).__module__, beta.mean
    ('pyro_lfm.distributions.gamma', tensor(0.5000))
    """
    if isinstance(distribution, dist.Independent):
        base = sound(distribution.base_dist)
        same = base is distribution.base_dist
        return distribution if same else base.to_event(distribution.reinterpreted_batch_ndims)
    if type(distribution) is MaskedDistribution:
        base = sound(distribution.base_dist)
        return distribution if base is distribution.base_dist else base.mask(distribution._mask)
    make = _EQUALS.get(type(distribution))
    return distribution if make is None else make(distribution)


class SoundDistributions(Messenger):
    """Sample statements inside take the stable equals of their distributions."""

    def _pyro_sample(self, msg: Any) -> None:
        msg["fn"] = sound(msg["fn"])


def _poisson(d: Any) -> Any:
    return d if d.is_sparse else counts.Poisson(d.rate, validate_args=d._validate_args)


def _negative_binomial(d: Any) -> Any:
    return counts.NegativeBinomial(d.total_count, d.logits, validate_args=d._validate_args)


def _gamma_poisson(d: Any) -> Any:
    return counts.NegativeBinomial(d.concentration, -d.rate.log(), validate_args=d._validate_args)


def _binomial(d: Any) -> Any:
    return counts.Binomial(d.total_count, logits=d.logits, validate_args=d._validate_args)


def _multinomial(d: Any) -> Any:
    total = torch.as_tensor(d.total_count, dtype=d.logits.dtype, device=d.logits.device)
    return Multinomial(total, d.logits, total)


def _zero_inflated(d: Any) -> Any:
    return ZeroInflated(sound(d.base_dist), d.gate_logits)


_EQUALS: dict[type, Callable[[Any], Any]] = {
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
