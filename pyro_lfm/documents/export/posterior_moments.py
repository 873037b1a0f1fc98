"""The outputs of an exported encoder that describe a posterior: its mean, and its covariance, variance or probabilities."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from pyro_lfm.distributions.draw_mixture import DrawMixture
from pyro_lfm.distributions.partially_observed import PartiallyObserved
from pyro_lfm.distributions.pushforward import Pushforward


def moments_of(distribution: Distribution) -> dict[str, Tensor]:
    """The outputs for one posterior, by name.

    ``mean`` always, of a label the probability of each category. ``scale_tril`` (B, K, K) of a Gaussian and of a mixture of
    Gaussians, over the flattened entries. ``probs`` of a label. ``variance`` of every other distribution.

    >>> import pyro.distributions as dist
    >>> {name: tuple(value.shape) for name, value in moments_of(dist.Normal(torch.zeros(5, 2), 1.0).to_event(1)).items()}
    {'mean': (5, 2), 'scale_tril': (5, 2, 2)}
    """
    probs = _probs(distribution)
    if probs is not None:
        return {"mean": probs, "probs": probs}
    tril = scale_tril(distribution)
    if tril is not None:
        return {"mean": distribution.mean, "scale_tril": tril}
    if isinstance(distribution, Pushforward | DrawMixture):
        mean, variance = distribution.moments()  # together, as each may be an average over draws
    else:
        mean, variance = distribution.mean, distribution.variance
    return {"mean": mean, "variance": variance}


def _probs(distribution: Distribution) -> Tensor | None:
    """The probability of each category, (B, C); None where the distribution is none of categories."""
    inner = distribution.distribution if isinstance(distribution, PartiallyObserved) else distribution
    return distribution.probs if isinstance(inner, Categorical) else None  # type: ignore[attr-defined, no-any-return]


@singledispatch
def scale_tril(distribution: Distribution) -> Tensor | None:
    """L (B, K, K), lower triangular, with the covariance L Lᵀ of the flattened entries; None where it is not known."""
    return None


@scale_tril.register
def _(distribution: MultivariateNormal) -> Tensor:
    return distribution.scale_tril


@scale_tril.register
def _(distribution: LowRankMultivariateNormal) -> Tensor:
    return distribution.scale_tril


@scale_tril.register
def _(distribution: Independent) -> Tensor | None:
    base = distribution.base_dist
    if not isinstance(base, Normal):
        return None
    return base.scale.flatten(len(distribution.batch_shape)).diag_embed()


@scale_tril.register
def _(distribution: Normal) -> Tensor:
    return distribution.scale[..., None, None]


@scale_tril.register
def _(distribution: Pushforward) -> Tensor | None:
    return scale_tril(distribution.base_dist) if distribution.is_reshape else None


@scale_tril.register
def _(distribution: MixtureSameFamily) -> Tensor | None:
    each = scale_tril(distribution.component_distribution)
    if each is None:
        return None
    start = len(distribution.batch_shape)
    weights = distribution.mixture_distribution.probs
    away = (distribution.component_distribution.mean - distribution.mean.unsqueeze(start)).flatten(start + 1)
    second = each @ each.mT + away.unsqueeze(-1) * away.unsqueeze(-2)
    return torch.linalg.cholesky((weights[..., None, None] * second).sum(-3))
