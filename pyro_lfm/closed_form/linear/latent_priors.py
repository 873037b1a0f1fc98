"""Priors p(z) of a linear Gaussian model: Gaussian, and not learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_lfm.closed_form.obstacles import Obstacle, source_obstacle
from pyro_lfm.closed_form.parts import constant
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.factors import Conditional
from pyro_lfm.families import Gaussian
from pyro_lfm.priors import StandardNormal

_WANTED = "StandardNormal(K), or Gaussian with Fixed mean and covariance"


def gaussian_prior(name: str, factor: Conditional) -> Callable[[], tuple[Tensor, Tensor]]:
    """A function that reads the mean (K,) and the covariance (K, K) of a prior.

    Raises:
        Obstacle: the prior is not Gaussian, or it is learned.
    """
    declaration = factor.declaration
    if type(declaration) is StandardNormal:
        size = factor.shape.numel()
        return lambda: (torch.zeros(size).double(), torch.eye(size).double())
    if type(declaration) is not Gaussian or factor.parents:
        given = f" given {', '.join(factor.parents)}" if factor.parents else ""
        raise Obstacle(f"{name} is {declaration.describe()}{given}: a closed form needs {_WANTED}")
    for parameter in ("mean", "covariance"):
        slot = constant(factor.parts[parameter]) if parameter in factor.parts else None
        if slot is None or not slot.fixed:
            raise source_obstacle(name, factor, parameter, _WANTED)
    return lambda: _moments(factor)


def _moments(factor: Conditional) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        distribution = factor()
    while isinstance(distribution, Pushforward):
        distribution = distribution.base_dist
    mean, matrix = distribution.mean.flatten(), getattr(distribution, "covariance_matrix", None)
    matrix = distribution.variance.flatten().diag() if matrix is None else matrix
    return mean.cpu().double(), matrix.cpu().double()
