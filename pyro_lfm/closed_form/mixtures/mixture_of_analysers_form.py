"""The kind of mixtures of factor analysers: c and z for each row, and x | c, z Gaussian with a linear mean per class."""

from __future__ import annotations

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.form import DistributionGiven, unconditional
from pyro_lfm.closed_form.mixtures.analyser_components import AnalyserComponents
from pyro_lfm.closed_form.mixtures.declared_mixture import DeclaredMixture, weights_of
from pyro_lfm.closed_form.obstacles import Obstacle, family_obstacle
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.mixture_of_factors import FactorAnalysers
from pyro_lfm.families import Gaussian
from pyro_lfm.priors import StandardNormal


class MixtureOfAnalysersForm(DeclaredMixture):
    """``Model(c=Categorical(C), z=StandardNormal(K), x=Gaussian(D, mean=Lookup(Linear()), given=("c", "z")))``.

    Raises:
        Obstacle: the declaration is another.
    """

    parts = frozenset({"label", "latent"})
    declarations = "c=Categorical(C) and z=StandardNormal(K) with x=Gaussian(D, mean=Lookup(Linear()))"

    def __init__(self, outline: Outline):
        assert outline.label is not None and outline.latent is not None  # for the type checker
        self.model, self.observed = outline.model, outline.observed
        self.label, self.latent = outline.label, outline.latent
        self.descendants = {self.label: {self.latent}, self.latent: set()}
        shape = self.model.latents[self.latent].shape
        if len(shape) != 1:
            raise Obstacle(
                f"{self.latent} has event shape {tuple(shape)}: a closed form of a mixture needs a vector"
            )
        self.weights, self.classes = weights_of(outline, self.label), outline.classes
        prior, factor = self.model.factors[self.latent], outline.factor
        if type(prior.declaration) is not StandardNormal:
            words = f"{self.latent} is {prior.declaration.describe()}"
            raise Obstacle(f"{words}: a closed form of a mixture needs StandardNormal(K)")
        if type(factor.declaration) is not Gaussian:
            raise family_obstacle(self.observed, factor, "Gaussian(mean=Lookup(Linear()))")
        self.components = AnalyserComponents.of(self.observed, factor)
        self.fixed = self.components.fixed | ({"weights"} if self.weights.fixed else frozenset())

    def distributions(self, x: Tensor) -> dict[str, DistributionGiven]:
        mixture = self.read()
        mean, tril = self._given_class(mixture, x)
        row = torch.arange(x.shape[0], device=mean.device)

        def latent_given(values: Mapping[str, Tensor]) -> Distribution:
            c = values[self.label]
            return dist.MultivariateNormal(mean[row, c], scale_tril=tril[row, c], validate_args=False)

        return {self.label: unconditional(self.label_given(mixture, x)), self.latent: latent_given}

    def marginals(self, x: Tensor) -> dict[str, Distribution]:
        mixture = self.read()
        label, (mean, tril) = self.label_given(mixture, x), self._given_class(mixture, x)
        each = dist.MultivariateNormal(mean, scale_tril=tril, validate_args=False)
        return {self.label: label, self.latent: dist.MixtureSameFamily(label, each, validate_args=False)}

    def _given_class(self, mixture: Mixture, x: Tensor) -> tuple[Tensor, Tensor]:
        """The means (N, C, K) and Cholesky factors (N, C, K, K) of p(z | x, c)."""
        assert isinstance(mixture.components, FactorAnalysers)  # for the type checker
        mean, covariance = mixture.components.posterior(x)
        return self.place(mean), self.place(torch.linalg.cholesky(covariance))
