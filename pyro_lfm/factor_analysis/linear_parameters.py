"""Loadings, uniquenesses and factor covariances of a fitted linear Gaussian model, for ``solution``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pyro_lfm.closed_form import recognise
from pyro_lfm.closed_form.linear.bayesian_linear_form import LinearPosterior
from pyro_lfm.closed_form.linear.linear_form import LinearForm
from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian
from pyro_lfm.factor_analysis.identification import FreeParameters
from pyro_lfm.factor_analysis.matrices import Matrix
from pyro_lfm.guides.conjugate import ConjugateGuide
from pyro_lfm.inference.fitted import Fit

_REMEDY = (
    "lfm.evaluate.loadings(fit) gives the mean derivatives of any decoder, and lfm.evaluate.variance_explained(fit) the "
    "variance that each latent explains"
)


@dataclass(frozen=True, eq=False)
class LinearParameters:
    """x = W z + b + ε, z ~ N(m, S), ε ~ N(0, diag(ψ)), in the units of the data.

    Attributes:
        exact: the parameters, for densities and posteriors.
        weight: W, (D, K). noise: ψ, (D,). covariance: S, (K, K). mean: of x, (D,).
        observed, latent: the names of the factors in the model.
        axes_free: whether every rotation of the factors has the same likelihood.
        own_noise: whether each column has a noise of its own that is learned, so that it may vanish (a Heywood case).
        free: which parameters are learned, means apart.
    """

    exact: LinearGaussian
    observed: str
    latent: str
    axes_free: bool
    own_noise: bool
    free: FreeParameters

    @cached_property
    def parameters(self) -> int:
        """The number of free parameters of the covariance of x, less what a rotation of the factors leaves free."""
        if not self.axes_free:
            return self.free.identified(self.exact)
        factors = self.weight.shape[1]
        return self.free.count(self.exact) - factors * (factors - 1) // 2

    @property
    def weight(self) -> Matrix:
        return self.exact.weight.numpy()

    @property
    def noise(self) -> Matrix:
        return self.exact.noise.expand(len(self.weight)).numpy()

    @property
    def covariance(self) -> Matrix:
        return self.exact.prior[1].numpy()

    @property
    def mean(self) -> Matrix:
        return (self.exact.bias + self.exact.weight @ self.exact.prior[0]).numpy()


def linear_parameters(fit: Fit, caller: str) -> LinearParameters:
    """The parameters of a fit; of variational Bayes, their posterior means.

    Raises:
        DeclarationError: the model is not linear and Gaussian with one latent and isotropic or diagonal noise.
    """
    if isinstance(fit.guide, ConjugateGuide) and isinstance(fit.guide.posterior, LinearPosterior):
        posterior = fit.guide.posterior
        exact = posterior.exact.expected()
        free = FreeParameters(torch.ones_like(exact.weight, dtype=torch.bool), True, False)
        own = exact.structure == "diagonal"
        return LinearParameters(exact, posterior.observed, posterior.latent, True, own, free)
    form = recognise(fit.model).exact(caller, _REMEDY)
    if not isinstance(form, LinearForm):
        raise DeclarationError(
            f"{caller} is of factor analysis, {LinearForm.declarations}, and this model has classes or no factors; {_REMEDY}"
        )
    exact = form.read()
    if exact.structure == "full":
        raise DeclarationError(
            f"{form.observed}.covariance is Full, so that {caller} has no uniquenesses: it needs Isotropic() or Diagonal()"
        )
    dim, factors = exact.weight.shape
    everything = torch.ones(dim, factors, dtype=torch.bool)
    free = FreeParameters(
        loadings=torch.zeros_like(everything)
        if "weight" in form.fixed
        else _or(form.line.pattern, everything),
        noise="noise" not in form.fixed,
        covariance=form.prior.learned,
    )
    axes_free = "weight" not in form.fixed and form.line.pattern is None
    own = exact.structure == "diagonal" and free.noise
    return LinearParameters(exact, form.observed, form.latent, axes_free, own, free)


def _or(value: Tensor | None, default: Tensor) -> Tensor:
    return default if value is None else value
