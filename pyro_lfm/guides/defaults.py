"""What a declared guide does where nobody says it: q of a parameter with a prior, and of a latent that the data hold."""

from __future__ import annotations

from typing import Any

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.covariances import Diagonal
from pyro_lfm.distributions.masking import filled
from pyro_lfm.distributions.pinned import Pinned
from pyro_lfm.distributions.sources import Learned
from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.factors import Factor
from pyro_lfm.families import Gaussian
from pyro_lfm.variables import Variable


def of_parameter(variable: Variable, point: torch.Tensor) -> Factor:
    """q of a parameter with a prior: a learned Gaussian in its unconstrained space, narrow around its point."""
    carry = from_reals(variable.support)
    mean = point if carry is None else carry.inv(point)
    return Gaussian(mean=Learned(mean), covariance=Diagonal(Learned(0.01)))


def pinned(law: Any, name: str, batch: Batch) -> Any:
    """A law with the values that the data hold of its latent in their place."""
    value, mask = batch[name], batch.mask(name)
    rows = value.shape[: value.dim() - len(law.event_shape)]
    if mask is None:
        return Pinned(law, value, torch.ones(rows, dtype=torch.bool, device=value.device))
    return Pinned(law, filled(value, mask, law.support), mask.reshape(*rows, -1).all(-1))
