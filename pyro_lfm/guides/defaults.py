"""Defaults of a declared guide: q of a parameter with a prior, and q of a latent whose values are in the data."""

from __future__ import annotations

import torch
from torch.distributions import Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.interface import support_of
from pyro_lfm.distributions.masking import filled
from pyro_lfm.distributions.partially_observed import PartiallyObserved
from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.factors import Factor
from pyro_lfm.factors.variables import Variable
from pyro_lfm.families import Gaussian
from pyro_lfm.sources.covariances import Diagonal
from pyro_lfm.sources.values import Learned


def of_parameter(variable: Variable, point: torch.Tensor) -> Factor:
    """q of a parameter with a prior: a learned Gaussian in unconstrained space, which starts narrow around its point."""
    carry = from_reals(variable.support)
    mean = point if carry is None else carry.inv(point)
    return Gaussian(mean=Learned(mean), covariance=Diagonal(Learned(0.01)))


def at_known_values(distribution: Distribution, name: str, batch: Batch) -> Distribution:
    """A distribution that is a point mass where the data give the value of the latent."""
    value, mask = batch[name], batch.mask(name)
    rows = value.shape[: value.dim() - len(distribution.event_shape)]
    if mask is None:
        return PartiallyObserved(distribution, value, torch.ones(rows, dtype=torch.bool, device=value.device))
    return PartiallyObserved(
        distribution, filled(value, mask, support_of(distribution)), mask.reshape(*rows, -1).all(-1)
    )
