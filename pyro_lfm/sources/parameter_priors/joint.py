"""Joint priors of the mean and the precision of a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.interface import independent
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.distributions.positive_definite import Wishart, tril_of_precision
from pyro_lfm.errors import DeclarationError
from pyro_lfm.sources.parameter_priors.independent import Numbers, check_positive, like_parameter, or_default
from pyro_lfm.sources.parameter_priors.parameter_prior import ParameterPrior


@dataclass(eq=False, repr=False)
class NormalGamma(ParameterPrior):
    """λ_d ~ Gamma(shape, rate), μ_d | λ_d ~ N(mean, 1 / (count λ_d)): of a Gaussian with ``Diagonal`` covariance.

    Args:
        mean: m, in the units of the data, a number or one per entry, by default the mean of each column.
        count: how many rows the prior mean is worth.
        shape, rate: of the precisions λ = 1 / σ². The rate is by default spread², for each entry.

    Use it for mixtures with diagonal covariances, where a class has few rows.

    Limits: columns are independent given the class. ``NormalWishart`` has their correlations.

    Source: Bishop (2006), section 2.3.6.

    >>> NormalGamma(count=4.0).location(torch.zeros(2), torch.tensor([1.0, 0.25])).variance
    tensor([0.2500, 1.0000])
    """

    mean: Numbers | None = None
    count: float = 1.0
    shape: Numbers = 1.0
    rate: Numbers | None = None

    def __post_init__(self) -> None:
        check_positive(self, "count", "shape", "rate")

    def precision(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        rate = or_default(self, "rate", like, unit**2)
        return independent(dist.Gamma(like_parameter(self, "shape", like), rate), like.dim())

    def location(
        self, like: Tensor, precision: Tensor, unit: Tensor | float = 1.0, origin: Tensor | float = 0.0
    ) -> Distribution:
        scale = (self.count * precision).rsqrt()
        mean = or_default(self, "mean", like, origin)
        return independent(Normal(*torch.broadcast_tensors(mean, scale)), like.dim())

    def tied_location(
        self, like: Tensor, precision: Tensor, unit: Tensor | float = 1.0, origin: Tensor | float = 0.0
    ) -> Distribution:
        """The means (C, D) of all categories, which share one precision."""
        return self.location(like, precision.unsqueeze(-2), unit, origin)


def _positive_definite(value: Tensor) -> bool:
    # By NumPy, because a compiled step cannot branch on the value of a tensor.
    return bool(np.linalg.eigvalsh(value.detach().cpu().numpy())[0] > 0)


@dataclass(eq=False, repr=False)
class NormalWishart(ParameterPrior):
    """Λ ~ Wishart(ν), E[Λ]⁻¹ = covariance, μ | Λ ~ N(mean, (count Λ)⁻¹): of a Gaussian with ``Full`` covariance.

    Args:
        mean: m, in the units of the data, a number or (D,), by default the mean of each column.
        count: how many rows the prior mean is worth.
        degrees: ν > D − 1, how many rows the prior covariance is worth, by default D + 2.
        covariance: a variance for all entries, variances (D,), or a matrix (D, D). By default it is spread² for each entry.

    Use it for mixtures with full covariances, where a class has few rows.

    Limits: D (D + 1) / 2 numbers for each class, and D³ operations.

    Source: Bishop (2006), section 2.3.6.

    >>> NormalWishart(covariance=2.0).precision(torch.eye(3)).mean.diagonal()
    tensor([0.5000, 0.5000, 0.5000])
    """

    mean: Numbers | None = None
    count: float = 1.0
    degrees: float | None = None
    covariance: Numbers | None = None

    def __post_init__(self) -> None:
        check_positive(self, "count")

    def degrees_for(self, dim: int) -> float:
        degrees = dim + 2.0 if self.degrees is None else float(self.degrees)
        if not degrees > dim - 1:
            raise DeclarationError(
                f"degrees of NormalWishart must be above D − 1 = {dim - 1}; got {self.degrees!r}"
            )
        return degrees

    def matrix(self, like: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        """E[Λ]⁻¹, (D, D), for a ``like`` (..., D, D)."""
        dim = like.shape[-1]
        if self.covariance is None:
            unit = torch.as_tensor(unit, dtype=like.dtype, device=like.device)
            return unit.square().expand(dim).diag()
        value = torch.as_tensor(self.covariance, dtype=like.dtype, device=like.device)
        if value.dim() < 2:
            value = torch.diag(like_parameter(self, "covariance", like[..., 0].reshape(-1, dim)[0]))
        if value.shape != (dim, dim) or not _positive_definite(value):
            raise DeclarationError(
                f"covariance of NormalWishart must be a positive definite ({dim}, {dim}) matrix, its diagonal or a "
                f"variance; got {self.covariance!r}"
            )
        return value

    def precision(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        degrees = self.degrees_for(like.shape[-1])
        # torch names a Wishart by its scale matrix V, E[Λ] = ν V.
        precision = torch.linalg.inv(self.matrix(like, unit)) / degrees
        distribution = Wishart(like.new_tensor(degrees), covariance_matrix=precision, validate_args=False)
        return independent(distribution.expand(like.shape[:-2]), like.dim() - 2)

    def location(
        self, like: Tensor, precision: Tensor, unit: Tensor | float = 1.0, origin: Tensor | float = 0.0
    ) -> Distribution:
        mean = or_default(self, "mean", like, origin)
        tril = tril_of_precision(self.count * precision)
        distribution = dist.MultivariateNormal(mean, scale_tril=tril, validate_args=False)
        return independent(distribution, like.dim() - 1)

    def tied_location(
        self, like: Tensor, precision: Tensor, unit: Tensor | float = 1.0, origin: Tensor | float = 0.0
    ) -> Distribution:
        """The means (C, D) of all categories, which share one precision."""
        return self.location(like, precision.unsqueeze(-3), unit, origin)
