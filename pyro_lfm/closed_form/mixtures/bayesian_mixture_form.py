"""The kind of Bayesian mixtures: a Dirichlet prior of the weights and a conjugate prior of the components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.bayesian_form import (
    BayesianAscent,
    BayesianForm,
    ConjugatePosterior,
    check_all_have_priors,
)
from pyro_lfm.closed_form.form import DistributionGiven, unconditional
from pyro_lfm.closed_form.mixtures.beta_prior import BetaPrior
from pyro_lfm.closed_form.mixtures.component_prior import AnyComponentPrior
from pyro_lfm.closed_form.mixtures.declared_mixture import has_converged
from pyro_lfm.closed_form.mixtures.normal_gamma_prior import NormalGammaPrior
from pyro_lfm.closed_form.mixtures.normal_wishart_prior import NormalWishartPrior
from pyro_lfm.closed_form.obstacles import Obstacle, family_obstacle
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.exact.mixtures.bayesian_mixture import BayesianMixture, fit_bayesian_mixture
from pyro_lfm.families import Categorical

# The conjugate families of components.
PRIORS: Sequence[type[NormalGammaPrior] | type[NormalWishartPrior] | type[BetaPrior]] = (
    NormalGammaPrior,
    NormalWishartPrior,
    BetaPrior,
)
# Logarithms of responsibilities stay above this, so that none is −∞.
_LEAST_LOGIT = -1e3


class BayesianMixtureForm(BayesianForm):
    """``Model(c=Categorical(C, prior=Dirichlet()), x=...)`` with components whose parameters have a conjugate prior.

    Raises:
        Obstacle: the declaration is another.
    """

    parts = frozenset({"label", "priors"})
    declarations = (
        f"c=Categorical(C, prior=Dirichlet()) with x={' or '.join(prior.declaration for prior in PRIORS)}"
    )

    def __init__(self, outline: Outline):
        assert outline.label is not None  # for the type checker: it is among the parts
        self.model, self.label, self.observed = outline.model, outline.label, outline.observed
        self.classes = outline.classes
        weights, factor = self.model.factors[self.label], outline.factor
        if type(weights.declaration) is not Categorical:
            raise family_obstacle(self.label, weights, "Categorical(C, prior=Dirichlet())")
        if "probs" not in weights.drawn:
            raise Obstacle(
                f"{self.label} has weights without a prior: variational Bayes needs prior=Dirichlet()"
            )
        check_all_have_priors(outline)
        kind = next((prior for prior in PRIORS if prior.matches(factor)), None)
        if kind is None:
            raise family_obstacle(self.observed, factor, "a conjugate prior for each category")
        self.prior: AnyComponentPrior = kind.of(self.observed, factor)
        probs = weights.drawn["probs"]
        concentration = torch.as_tensor(probs.declared.concentration, dtype=torch.float64)
        self.concentration = concentration.expand(probs.value.shape)

    def infer(
        self, rows: Iterable[Tensor], *, seed: int, iterations: int, tolerance: float
    ) -> BayesianAscent:
        exact, history = fit_bayesian_mixture(
            rows,
            self.prior.start(rows, self.classes, seed),
            self.prior.prior,
            concentration=self.concentration,
            iterations=iterations,
            tolerance=tolerance,
        )
        posterior = MixturePosterior(self.label, self.prior, exact)
        return BayesianAscent(posterior, [each.bound for each in history], has_converged(history, tolerance))

    def restored(self, tensors: Mapping[str, Tensor]) -> MixturePosterior:
        of_components = {name: value for name, value in tensors.items() if name != "concentration"}
        # All fields of the prior are in the tensors, so that nothing of the prior stays.
        components = self.prior.with_tensors(self.prior.prior, of_components)
        exact = BayesianMixture(tensors["concentration"], components, self.concentration, self.prior.prior)
        return MixturePosterior(self.label, self.prior, exact)


@dataclass(frozen=True, eq=False)
class MixturePosterior(ConjugatePosterior):
    """q(π) ∏_c q(η_c) q(c | x): a Dirichlet, conjugate distributions of the components, responsibilities."""

    label: str
    prior: AnyComponentPrior
    exact: BayesianMixture

    @property
    def reads(self) -> Mapping[str, frozenset[str]]:  # type: ignore[override]
        return self.prior.reads

    def tensors(self) -> dict[str, Tensor]:
        return {"concentration": self.exact.concentration, **self.prior.tensors(self.exact.components)}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> MixturePosterior:
        of_components = {name: value for name, value in tensors.items() if name != "concentration"}
        components = self.prior.with_tensors(self.exact.components, of_components)
        exact = replace(self.exact, concentration=tensors["concentration"], components=components)
        return replace(self, exact=exact)

    def parameters(self, like: Tensor) -> dict[str, DistributionGiven]:
        weights = dist.Dirichlet(self.exact.concentration.to(like))
        components = self.prior.parameters(self.exact.components, like)
        return {f"{self.label}.probs": unconditional(weights), **components}

    def latents(self, x: Tensor, like: Tensor) -> dict[str, Distribution]:
        logits = self.exact.responsibilities(x).log().clamp_min(_LEAST_LOGIT)
        return {self.label: dist.Categorical(logits=logits.to(like))}

    def marginals(self, like: Tensor) -> dict[str, Distribution]:
        return self.prior.marginals(self.exact.components, like)
