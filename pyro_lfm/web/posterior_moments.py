"""The posterior of a latent as tensors by name, for ``/posterior``: mean and standard deviation, or probabilities."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from pyro_lfm.distributions.covariance_factor import scale_tril
from pyro_lfm.distributions.pushforward import monte_carlo_moments
from pyro_lfm.runtime import Stream

# The further moments that a request may ask for.
FURTHER = ("covariance", "scale_tril")
# Draws from which the covariance of a distribution without a formula for it is computed.
_DRAWS = 4000


def moments(distribution: Distribution, further: Collection[str] = ()) -> dict[str, Tensor]:
    """Mean and standard deviation, (N, *event); of a categorical distribution ``probs``, (N, categories).

    A distribution without formulas for its moments has those of 4,000 draws with a fixed seed.

    Args:
        further: of ``FURTHER``; each (N, K, K) for events of K entries.

    >>> import pyro.distributions as dist
    >>> {name: value.tolist() for name, value in moments(dist.Normal(torch.zeros(1), 2.0)).items()}
    {'mean': [0.0], 'standard_deviation': [2.0]}
    """
    if isinstance(distribution, Categorical):
        return {"probs": distribution.probs}
    try:
        mean, variance = distribution.mean, distribution.variance
    except NotImplementedError:
        mean, variance = monte_carlo_moments(distribution)
    each = {"mean": mean, "standard_deviation": variance.clamp_min(0.0).sqrt()}
    if further:
        tril = scale_tril(distribution)
        covariance = _of_draws(distribution) if tril is None else tril @ tril.mT
        each["covariance"] = covariance
        if "scale_tril" in further:
            each["scale_tril"] = _factor(covariance) if tril is None else tril
    return {name: value for name, value in each.items() if name not in FURTHER or name in further}


def _factor(covariance: Tensor) -> Tensor:
    """L with L Lᵀ the covariance; NaN where rounding left it indefinite."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    return factor.where((failed == 0)[..., None, None], torch.nan)


def _of_draws(distribution: Distribution) -> Tensor:
    """The covariance of draws, (N, K, K), for events of K entries."""
    with Stream(0), torch.no_grad():
        draws = distribution.sample((_DRAWS,))
    draws = draws.reshape(_DRAWS, *distribution.batch_shape, -1)
    centred = draws - draws.mean(0)
    return torch.einsum("s...i,s...j->...ij", centred, centred) / (_DRAWS - 1)
