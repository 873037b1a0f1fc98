"""``scale_tril``: the factor of a distribution's covariance, where it is known, for exported encoders and the service."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from pyro_lfm.distributions.pushforward import Pushforward


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
