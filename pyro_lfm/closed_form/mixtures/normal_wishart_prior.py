"""The normal-Wishart prior of Gaussian components with full covariances, for variational Bayes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.form import DistributionGiven, unconditional
from pyro_lfm.closed_form.mixtures.component_prior import (
    NO_FLOOR,
    ComponentPrior,
    for_each_class,
    prior_means,
)
from pyro_lfm.closed_form.obstacles import Obstacle
from pyro_lfm.distributions.positive_definite import Wishart, tril_of_precision
from pyro_lfm.exact.mixtures.conjugate_components import NormalWisharts
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.starts import start_gaussians
from pyro_lfm.factors import Conditional
from pyro_lfm.families import Gaussian
from pyro_lfm.sources.parameter_priors import NormalWishart


class NormalWishartPrior(ComponentPrior[NormalWisharts]):
    """``Gaussian(D, mean=Lookup(), covariance=Full(Lookup()), prior=NormalWishart(), given="c")``."""

    family, declared, leading, following = Gaussian, NormalWishart, "precision", ("mean",)
    declaration = "Gaussian(D, mean=Lookup(), covariance=Full(Lookup()), prior=NormalWishart(), given='c')"

    @classmethod
    def of(cls, name: str, factor: Conditional) -> NormalWishartPrior:
        (dim,) = factor.shape
        precision, mean = factor.drawn["precision"], factor.drawn["mean"]
        declared = precision.declared
        assert isinstance(declared, NormalWishart)
        if not for_each_class(precision, 2):
            raise Obstacle(
                f"{name} has the same covariance in each category: a closed form needs covariance=Full(Lookup())"
            )
        degrees = declared.degrees_for(dim)
        unit = precision.unit.detach().cpu().double()
        matrix = declared.matrix(torch.zeros(dim, dim, dtype=torch.float64), unit)
        prior = NormalWisharts(
            prior_means(mean, declared.mean, dim),
            torch.tensor(declared.count, dtype=torch.float64),
            torch.tensor(degrees, dtype=torch.float64),
            torch.linalg.cholesky(degrees * matrix)[None],
        )
        return cls(name, prior)

    def start(self, rows: Iterable[Tensor], classes: int, seed: int) -> Mixture:
        return start_gaussians(rows, classes, seed=seed, covariance="full", min_scale=NO_FLOOR)

    def parameters(self, posterior: NormalWisharts, like: Tensor) -> dict[str, DistributionGiven]:
        means, counts = posterior.means.to(like), posterior.counts.to(like)
        scale = torch.cholesky_inverse(posterior.scale_tril).to(like)
        degrees = posterior.degrees.to(like)
        precision = Wishart(degrees, covariance_matrix=scale, validate_args=False).to_event(1)

        def mean_given(values: Mapping[str, Tensor]) -> Distribution:
            matrix = counts[:, None, None] * values[self.name("precision")]
            tril = tril_of_precision(matrix)
            return dist.MultivariateNormal(means, scale_tril=tril, validate_args=False).to_event(1)

        return {self.name("precision"): unconditional(precision), self.name("mean"): mean_given}

    def marginals(self, posterior: NormalWisharts, like: Tensor) -> dict[str, Distribution]:
        degrees = posterior.degrees - posterior.size[1] + 1
        tril = posterior.scale_tril / (degrees * posterior.counts).sqrt()[:, None, None]
        mean = dist.MultivariateStudentT(degrees.to(like), posterior.means.to(like), tril.to(like))
        return {self.name("mean"): mean.to_event(1)}
