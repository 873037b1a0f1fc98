"""The normal-gamma prior of Gaussian components with diagonal covariances, for variational Bayes."""

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
    as_row,
    for_each_class,
    prior_means,
)
from pyro_lfm.closed_form.obstacles import family_obstacle
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.exact.mixtures.conjugate_components import NormalGammas
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.starts import start_gaussians
from pyro_lfm.factors import Conditional
from pyro_lfm.families import Gaussian
from pyro_lfm.sources.parameter_priors import NormalGamma


class NormalGammaPrior(ComponentPrior[NormalGammas]):
    """``Gaussian(D, mean=Lookup(), covariance=Diagonal(Lookup()), prior=NormalGamma(), given="c")``."""

    family, declared, leading, following = Gaussian, NormalGamma, "precision", ("mean",)
    declaration = "Gaussian(D, mean=Lookup(), covariance=Diagonal(Lookup()), prior=NormalGamma(), given='c')"

    @classmethod
    def of(cls, name: str, factor: Conditional) -> NormalGammaPrior:
        (dim,) = factor.shape
        precision, mean = factor.drawn["precision"], factor.drawn["mean"]
        declared = precision.declared
        assert isinstance(declared, NormalGamma)
        if not for_each_class(precision, 1):
            raise family_obstacle(
                name, factor, "a conjugate prior for each category, as by covariance=Diagonal(Lookup())"
            )
        rate = precision.unit.detach().cpu().double() ** 2 if declared.rate is None else declared.rate
        prior = NormalGammas(
            prior_means(mean, declared.mean, dim),
            torch.tensor(declared.count, dtype=torch.float64),
            as_row(declared.shape, dim),
            as_row(rate, dim),
        )
        return cls(name, prior)

    def start(self, rows: Iterable[Tensor], classes: int, seed: int) -> Mixture:
        return start_gaussians(rows, classes, seed=seed, covariance="diagonal", min_scale=NO_FLOOR)

    def parameters(self, posterior: NormalGammas, like: Tensor) -> dict[str, DistributionGiven]:
        means, counts = posterior.means.to(like), posterior.counts.to(like)
        precision = dist.Gamma(posterior.shapes.to(like), posterior.rates.to(like)).to_event(2)

        def mean_given(values: Mapping[str, Tensor]) -> Distribution:
            return Normal(means, (counts * values[self.name("precision")]).rsqrt()).to_event(2)

        return {self.name("precision"): unconditional(precision), self.name("mean"): mean_given}

    def marginals(self, posterior: NormalGammas, like: Tensor) -> dict[str, Distribution]:
        scale = (posterior.rates / (posterior.shapes * posterior.counts)).sqrt()
        degrees, means = (2 * posterior.shapes).to(like), posterior.means.to(like)
        return {self.name("mean"): dist.StudentT(degrees, means, scale.to(like)).to_event(2)}
