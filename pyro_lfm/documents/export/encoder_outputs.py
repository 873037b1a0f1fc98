"""The outputs of an exported encoder that describe a posterior: its mean, and its covariance, variance or probabilities."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Categorical, Distribution

from pyro_lfm.distributions.covariance_factor import scale_tril
from pyro_lfm.distributions.draw_mixture import DrawMixture
from pyro_lfm.distributions.partially_observed import PartiallyObserved
from pyro_lfm.distributions.pushforward import Pushforward


def moments_of(distribution: Distribution) -> dict[str, Tensor]:
    """The outputs for one posterior, by name.

    ``mean`` always, of a label the probability of each category. ``scale_tril`` (B, K, K) of a Gaussian and of a mixture of
    Gaussians, over the flattened entries. ``probs`` of a label. ``variance`` of every other distribution.

    >>> import pyro.distributions as dist, torch
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
