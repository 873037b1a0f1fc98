"""The kind of Bayesian factor analysis and PCA: a linear Gaussian model with priors of weights, bias and noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.bayesian_form import (
    BayesianAscent,
    BayesianForm,
    ConjugatePosterior,
    NoiseFit,
    check_all_have_priors,
)
from pyro_lfm.closed_form.form import DistributionGiven, unconditional
from pyro_lfm.closed_form.obstacles import Obstacle, family_obstacle
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.distributions.interface import without_independent
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.exact.linear.bayesian_linear import variational_bayes
from pyro_lfm.exact.linear.bayesian_posterior import BayesianLinear, GammaDistribution, LinearPrior
from pyro_lfm.exact.linear.linear_gaussian import principal
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.factors import Conditional
from pyro_lfm.families import Gaussian
from pyro_lfm.priors import StandardNormal
from pyro_lfm.sources.covariances import Isotropic
from pyro_lfm.sources.linear import Linear
from pyro_lfm.sources.parameter_priors import ARD

# The start has no floor but that of float64: priors keep the noise from zero.
_NO_FLOOR = 1e-100


class BayesianLinearForm(BayesianForm):
    """``Model(z=StandardNormal(K), x=Gaussian(D, mean=Linear(prior=ARD()), covariance=Diagonal(prior=Gamma())))``.

    Raises:
        Obstacle: the declaration is another.
    """

    parts = frozenset({"latent", "priors"})
    declarations = (
        "z=StandardNormal(K) with x=Gaussian(D, mean=Linear(prior=ARD()), "
        "covariance=Isotropic or Diagonal(prior=Gamma()))"
    )

    def __init__(self, outline: Outline):
        assert outline.latent is not None  # for the type checker: it is among the parts
        self.model, self.latent, self.observed = outline.model, outline.latent, outline.observed
        prior, factor = self.model.factors[self.latent], outline.factor
        if type(prior.declaration) is not StandardNormal:
            raise family_obstacle(self.latent, prior, "StandardNormal(K)")
        check_all_have_priors(outline)
        declaration = factor.declaration
        if type(declaration) is not Gaussian or not isinstance(declaration.sources["mean"], Linear):
            raise family_obstacle(self.observed, factor, "Gaussian(mean=Linear(prior=ARD()))")
        self.prior = _linear_prior(self.observed, factor)
        self.noise = "isotropic" if type(declaration.covariance) is Isotropic else "diagonal"

    def infer(
        self, rows: Iterable[Tensor], *, seed: int, iterations: int, tolerance: float
    ) -> BayesianAscent:
        data = Rows(lambda: rows)
        size = self.model.latents[self.latent].shape.numel()
        start = principal(data, size, self.noise, min_scale=_NO_FLOOR)
        exact, history = variational_bayes(
            data, start, self.prior, iterations=iterations, tolerance=tolerance
        )
        posterior = LinearPosterior(self.observed, self.latent, exact)
        return BayesianAscent(posterior, history.bound, history.converged, NoiseFit(exact, data))

    def restored(self, tensors: Mapping[str, Tensor]) -> LinearPosterior:
        gammas = {
            name: GammaDistribution(tensors[f"{name}_shape"], tensors[f"{name}_rate"])
            for name in ("relevance", "noise")
        }
        exact = BayesianLinear(
            tensors["line"], tensors["covariance"], **gammas, needed=tensors["needed"], prior=self.prior
        )
        return LinearPosterior(self.observed, self.latent, exact)


@dataclass(frozen=True, eq=False)
class LinearPosterior(ConjugatePosterior):
    """q(α) q(τ) ∏_d q(w_d, b_d) q(z | x): Gammas and Gaussians. The bias is drawn given the weights."""

    observed: str
    latent: str
    exact: BayesianLinear

    @property
    def reads(self) -> Mapping[str, frozenset[str]]:  # type: ignore[override]
        return {self._name("bias"): frozenset({self._name("weight")})}

    def tensors(self) -> dict[str, Tensor]:
        q = self.exact
        gammas = {"relevance": q.relevance, "noise": q.noise}
        shapes = {f"{name}_shape": gamma.shape for name, gamma in gammas.items()}
        rates = {f"{name}_rate": gamma.rate for name, gamma in gammas.items()}
        return {"line": q.line, "covariance": q.covariance, "needed": q.needed, **shapes, **rates}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> LinearPosterior:
        q = self.exact
        exact = replace(
            q,
            line=tensors["line"],
            covariance=tensors["covariance"],
            needed=tensors["needed"],
            relevance=q.relevance._replace(shape=tensors["relevance_shape"], rate=tensors["relevance_rate"]),
            noise=q.noise._replace(shape=tensors["noise_shape"], rate=tensors["noise_rate"]),
        )
        return replace(self, exact=exact)

    def parameters(self, like: Tensor) -> dict[str, DistributionGiven]:
        q = self.exact
        gammas = {
            self._name(name): unconditional(
                dist.Gamma(gamma.shape.to(like).reshape(-1), gamma.rate.to(like).reshape(-1)).to_event(1)
            )
            for name, gamma in (("relevance", q.relevance), ("precision", q.noise))
        }
        line = q.line.to(like)
        mean, bias = line[:, :-1], line[:, -1]
        # L of the covariance of (w, b): its last row gives b given w. In float64, as its squares may be beyond float32.
        root = torch.linalg.cholesky(q.covariance.expand(len(line), -1, -1))
        inner, last = root[:, :-1, :-1], root[:, -1:, :-1]
        gain = torch.linalg.solve_triangular(inner, last, upper=False, left=False).squeeze(1).to(like)
        scale = root[:, -1, -1].to(like)

        def bias_given(values: Mapping[str, Tensor]) -> Distribution:
            away = values[self._name("weight")] - mean
            return Normal(bias + (away * gain).sum(-1), scale).to_event(1)

        weight = unconditional(dist.MultivariateNormal(mean, scale_tril=inner.to(like)).to_event(1))
        return {**gammas, self._name("weight"): weight, self._name("bias"): bias_given}

    def latents(self, x: Tensor, like: Tensor) -> dict[str, Distribution]:
        mean, covariance = self.exact.posterior(x)
        tril = torch.linalg.cholesky(covariance).to(like)
        return {self.latent: dist.MultivariateNormal(mean.to(like), scale_tril=tril, validate_args=False)}

    def marginals(self, like: Tensor) -> dict[str, Distribution]:
        line = self.exact.line
        variance = self.exact.covariance[:, -1, -1].expand(len(line))
        bias = Normal(line[:, -1].to(like), variance.sqrt().to(like)).to_event(1)
        return {self._name("bias"): bias}

    def rank(self) -> int:
        return self.exact.rank()

    def _name(self, parameter: str) -> str:
        return f"{self.observed}.{parameter}"


def _linear_prior(name: str, factor: Conditional) -> LinearPrior:
    """The priors of a linear Gaussian factor as ``exact`` knows them."""
    drawn = factor.drawn
    ard = drawn["weight"].declared if "weight" in drawn else None
    if not isinstance(ard, ARD):
        raise Obstacle(f"{name}.mean has weights whose prior is {ard!r}: a closed form needs ARD()")
    if "bias" not in drawn or "precision" not in drawn:
        raise Obstacle(
            f"{name} has a bias or a noise without a prior: variational Bayes needs a prior of each"
        )
    noise, bias = (
        without_independent(drawn["precision"].prior({})),
        without_independent(drawn["bias"].prior({})),
    )
    assert isinstance(noise, torch.distributions.Gamma) and isinstance(bias, torch.distributions.Normal)
    shape = _for_all_columns(noise.concentration)
    if shape.dim():
        raise Obstacle(f"{name} has priors of other shapes in other columns: a closed form needs one shape")
    return LinearPrior(
        relevance=(ard.shape, 1e-3 if ard.rate is None else ard.rate),
        noise=(float(shape), _for_all_columns(noise.rate)),
        bias_mean=_for_all_columns(bias.loc),
        bias_precision=_for_all_columns(bias.scale) ** -2,
        scale=_for_all_columns(drawn["weight"].unit).flatten() if ard.rate is None else 1.0,
    )


def _for_all_columns(value: Tensor) -> Tensor:
    """One number () where all columns have the same, else (D,)."""
    value = value.detach().cpu().double().flatten()
    return value[0] if bool((value == value[0]).all()) else value
