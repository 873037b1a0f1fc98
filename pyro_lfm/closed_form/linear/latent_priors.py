"""Priors p(z) of a linear Gaussian model: Gaussian, fixed, or with learned correlations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.closed_form.obstacles import Obstacle, source_obstacle
from pyro_lfm.closed_form.parts import Spread, constant
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.factors import Conditional
from pyro_lfm.families import Gaussian
from pyro_lfm.priors import StandardNormal

_WANTED = "StandardNormal(K), or Gaussian with Fixed mean and covariance, or with Full() where the loadings have a pattern"


@dataclass(frozen=True, eq=False)
class LatentPrior:
    """z ~ N(m, S).

    Attributes:
        factor: the built factor of z.
        spread: its covariance, where that is learned; None where it is fixed.
        mean_learned: whether its mean is a free parameter, which a bias makes redundant: closed forms leave it as it is.
    """

    factor: Conditional
    spread: Spread | None
    mean_learned: bool

    @classmethod
    def of(cls, name: str, factor: Conditional) -> LatentPrior:
        """The prior of a latent.

        Raises:
            Obstacle: the prior is not Gaussian, or learned in another way.
        """
        declaration = factor.declaration
        if type(declaration) is StandardNormal:
            return cls(factor, None, False)
        if type(declaration) is not Gaussian or factor.parents:
            given = f" given {', '.join(factor.parents)}" if factor.parents else ""
            raise Obstacle(f"{name} is {declaration.describe()}{given}: a closed form needs {_WANTED}")
        slots = {
            part: constant(factor.parts[part]) if part in factor.parts else None
            for part in ("mean", "covariance")
        }
        for part, slot in slots.items():
            if slot is None:
                raise source_obstacle(name, factor, part, _WANTED)
        mean, covariance = slots["mean"], slots["covariance"]
        assert mean is not None and covariance is not None  # for the type checker
        if covariance.fixed:
            if not mean.fixed:
                raise source_obstacle(name, factor, "mean", _WANTED)
            return cls(factor, None, False)
        spread = Spread.of(name, factor, tables=False)
        if not spread.full:
            raise source_obstacle(name, factor, "covariance" if mean.fixed else "mean", _WANTED)
        return cls(factor, spread, not mean.fixed)

    @property
    def learned(self) -> bool:
        """Whether the covariance is learned."""
        return self.spread is not None

    def read(self) -> tuple[Tensor, Tensor]:
        """The mean (K,) and the covariance (K, K)."""
        if type(self.factor.declaration) is StandardNormal:
            size = self.factor.shape.numel()
            return torch.zeros(size).double(), torch.eye(size).double()
        with torch.no_grad():
            distribution = self.factor()
        while isinstance(distribution, Pushforward):
            distribution = distribution.base_dist
        mean, matrix = distribution.mean.flatten(), getattr(distribution, "covariance_matrix", None)
        matrix = distribution.variance.flatten().diag() if matrix is None else matrix
        return mean.cpu().double(), matrix.cpu().double()

    def write(self, covariance: Tensor) -> None:
        """Writes the covariance, where it is learned."""
        if self.spread is not None:
            self.spread.write_scale_tril(torch.linalg.cholesky(covariance).unsqueeze(0))
