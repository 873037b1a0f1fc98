"""The total correlation of the aggregate of the guide: a penalty for factors that depend on each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, Transform
from torch.distributions.transforms import IndependentTransform

from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.objective import Weight
from pyro_lfm.objectives.penalty import Penalty
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.trace_sites import distribution_name


class TotalCorrelation(Penalty):
    """TC = KL(q(z) ‖ ∏ₖ q(zₖ)) of the aggregate q(z) = 1/N Σₙ q(z | xₙ), in nats: factors that do not depend on each other.

    The estimate is by minibatch-weighted sampling: with rows i, j in a batch of B of N rows and zᵢ ~ q(z | xᵢ) it is
    1/B Σᵢ [log 1/(NB) Σⱼ q(zᵢ | xⱼ) − Σₖ log 1/(NB) Σⱼ q(zᵢₖ | xⱼ)]. It is biased, and its level depends on N and B
    by K − 1 constants log NB: it serves to train, not to measure independence. ELBO − (β − 1) TC is the bound of the
    β-TCVAE.

    Args:
        weight: λ ≥ 0, or a schedule.
        latents: see ``Penalty``. Each is penalised by itself. The distribution of every entry given a row must be known: q
            is a Gaussian with any covariance, or has independent entries, and may be transformed entry by entry.

    Raises:
        DeclarationError: a latent of another kind, at its first use.

    Use it for factors that are independent of each other, with a weight of 1 to 10.

    Limits: factors that are independent need not be those that the data were made of.

    Source: Chen, Li, Grosse and Duvenaud (2018), equations 4 and 5.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> bound = lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(weight=5.0)).bound(model, guide, model.sample(4)["x"])
    >>> bool(bound.penalties["TotalCorrelation"].isfinite())
    True
    """

    formula = "KL(q({z}) || prod_k q({z}_k))"

    def __init__(self, weight: Weight = 1.0, latents: str | Sequence[str] | None = None):
        super().__init__(weight, latents)

    def of(self, run: Run, names: Sequence[str]) -> Tensor:
        return torch.stack([self._of_one(run, name) for name in names]).sum()

    @staticmethod
    def _of_one(run: Run, name: str) -> Tensor:
        site = run.q[name]
        distribution, value = _before_transforms(site["fn"], site["value"])
        event = len(distribution.event_shape)
        # Row i in front, and a dimension of size 1 for rows j: log q(zᵢ | xⱼ), (rows i, ..., rows j).
        across = value.movedim(-1 - event, 0).unsqueeze(-1 - event)
        log_count = math.log(run.layout.size * run.layout.total)
        joint = distribution.log_prob(across).logsumexp(-1) - log_count
        each = _entries(distribution, across, name).logsumexp(-2) - log_count
        return joint.mean() - each.sum(-1).mean()


def _before_transforms(distribution: Distribution, value: Tensor) -> tuple[Distribution, Tensor]:
    """A distribution and its draws before transforms that act entry by entry, which do not change the penalty."""
    while isinstance(distribution, Pushforward) and all(map(_entrywise, distribution.transforms)):
        for transform in reversed(distribution.transforms):
            value = transform.inv(value)
        distribution = distribution.base_dist
    return distribution, value


def _entrywise(transform: Transform) -> bool:
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return transform.domain.event_dim == 0 and transform.codomain.event_dim == 0


def _entries(distribution: Distribution, value: Tensor, name: str) -> Tensor:
    """log q of each entry, (..., rows, entries)."""
    events = len(distribution.event_shape)
    if (moments := gaussian_moments(distribution)) is not None:
        tril = moments.tril
        scale = cast(Tensor, moments.scale) if tril is None else tril.square().sum(-1).sqrt()
        per_entry: Tensor = Normal(moments.loc, scale, validate_args=False).log_prob(_flat(value, events))
        return per_entry
    base = distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if base.event_shape:
        raise DeclarationError(
            f"TotalCorrelation needs the distribution of each entry given a row, of a Gaussian or of independent entries; "
            f"{name} is {distribution_name(distribution)}: name other latents in latents="
        )
    return _flat(base.log_prob(value), events)


def _flat(value: Tensor, events: int) -> Tensor:
    """Events as vectors, (..., entries)."""
    return value.flatten(value.dim() - events) if events else value.unsqueeze(-1)
