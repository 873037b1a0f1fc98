"""Mixtures: a class c, latent, and x | c; or with factors, c and z, both latent, and x | c, z."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from math import nan
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.closed_form.components import components_of
from pyro_lfm.closed_form.constants import Obstacle, constant, obstacle
from pyro_lfm.closed_form.form import Ascent, ClosedForm, Distribution, Watch
from pyro_lfm.errors import ScaleFloorWarning
from pyro_lfm.exact.history import Step
from pyro_lfm.exact.mixtures.ascent import Iteration
from pyro_lfm.exact.mixtures.mixture import Mixture, fit_mixture
from pyro_lfm.exact.mixtures.mixture_of_factors import FactorAnalysers
from pyro_lfm.exact.race import Reached, Won, race
from pyro_lfm.families import Categorical
from pyro_lfm.priors import StandardNormal

# EM iterations of a race between starts, and the gain of one, nats per row, below which a start has arrived.
_ROUNDS, _TRIAL = (10, 20, 40), 1e-7
# Each start is the best of some seedings after so many: most peaks are reached from few of them.
_SEEDINGS, _GLANCE = 4, (5,)
_ROUNDS_OF_K_MEANS = 10
# A weight of 0 has no logit: this one is as good.
_TINY = 1e-30


class MixtureForm(ClosedForm):
    """``Model(c=Categorical(C), x=..., given="c")``, and with factors z that x reads too.

    Raises:
        Obstacle: the declaration is another.
    """

    def __init__(self, model: Any, label: str, observed: str, factors: str | None):
        self.model, self.label, self.observed, self.factors = model, label, observed, factors
        self.later = {label: {factors} if factors else set(), **({factors: set()} if factors else {})}
        prior = model.factors[label]
        weights = (
            constant(prior.parts["logits"])
            if type(prior.declaration) is Categorical and not prior.parents
            else None
        )
        if weights is None:
            raise obstacle(label, prior, "logits", "a learned or Fixed value")
        if factors and type(model.factors[factors].declaration) is not StandardNormal:
            raise Obstacle(
                f"{factors} is {model.factors[factors].describe()}: a closed form of a mixture needs StandardNormal(K)"
            )
        self.weights = weights
        self.classes = len(weights.tensor)
        self.components = components_of(observed, model.factors[observed], self.classes, bool(factors))
        self.fixed = self.components.fixed | ({"weights"} if weights.fixed else frozenset())

    def read(self) -> Mixture:
        return Mixture(self.weights.read().softmax(0), self.components.read())

    def write(self, parameters: Mixture) -> None:
        self.weights.write(parameters.weights.clamp_min(_TINY).log())
        self.components.write(parameters.components)

    def rows(self, blocks: Iterable[Tensor]) -> Iterable[Tensor]:
        return blocks

    def start(self, rows: Iterable[Tensor], seed: int, restarts: int) -> Won[Mixture]:
        """The best of several starts from clusters of the data, each the best of several seedings. A component that narrows
        onto its floor has a likelihood without bound: no maximum, so that such a start counts only if all do."""
        floored = self.components.floor is not None

        def advance(start: Mixture, iterations: int) -> Reached[Mixture]:
            end, history = self._em(rows, start, iterations=iterations, tolerance=_TRIAL)
            converged = has_converged(history, _TRIAL)
            return Reached(end, history[-1].bound, floored and history[-1].at_floor > 0, converged)

        if restarts == 1:  # nothing to choose from: the whole climb is on record
            return Won(self._drawn(rows, seed, 0), (nan,))

        def best_of(number: int) -> Mixture:
            seedings = [self._drawn(rows, seed, _SEEDINGS * number + which) for which in range(_SEEDINGS)]
            return race(seedings, advance, _GLANCE).state

        return race(map(best_of, range(restarts)), advance, _ROUNDS)

    def _drawn(self, rows: Iterable[Tensor], seed: int, number: int) -> Mixture:
        """Every other start takes seeds as they are drawn: rounds of k-means bring most of them to the same clusters."""
        drawn = self.components.start(
            rows, self.classes, seed + number, 0 if number % 2 else _ROUNDS_OF_K_MEANS
        )
        weights = self.read().weights if "weights" in self.fixed else drawn.weights
        return Mixture(weights, self.components.keep(drawn.components))

    def climb(
        self,
        rows: Iterable[Tensor],
        start: Mixture,
        *,
        iterations: int,
        tolerance: float,
        accelerate: bool,
        watch: Watch,
    ) -> Ascent:
        def see(mixture: Mixture, record: Iteration) -> bool:
            return watch(mixture, steps(record))

        found, history = self._em(rows, start, iterations=iterations, tolerance=tolerance, watch=see)
        number = history[-1].at_floor
        words = f"{number} of the {self.components.floor} of {self.observed}"
        return Ascent(
            found, has_converged(history, tolerance), words if number and self.components.floor else None
        )

    def _em(self, rows: Iterable[Tensor], start: Mixture, **options: Any) -> tuple[Mixture, list[Iteration]]:
        with warnings.catch_warnings():
            # Told once, at the end and by name.
            warnings.simplefilter("ignore", ScaleFloorWarning)
            return fit_mixture(rows, start, fixed=self.fixed, **options)

    def distributions(self, x: Tensor) -> dict[str, Distribution]:
        mixture = self.read()
        label = self._label(mixture, x)
        distributions: dict[str, Distribution] = {self.label: lambda values: label}
        if self.factors:
            mean, tril = self._given_class(mixture, x)
            row = torch.arange(len(x), device=mean.device)

            def given(values: Mapping[str, Tensor]) -> Any:
                c = values[self.label]
                return dist.MultivariateNormal(mean[row, c], scale_tril=tril[row, c], validate_args=False)

            distributions[self.factors] = given
        return distributions

    def marginals(self, x: Tensor) -> dict[str, Any]:
        mixture = self.read()
        found: dict[str, Any] = {self.label: self._label(mixture, x)}
        if self.factors:
            mean, tril = self._given_class(mixture, x)
            each = dist.MultivariateNormal(mean, scale_tril=tril, validate_args=False)
            found[self.factors] = dist.MixtureSameFamily(found[self.label], each, validate_args=False)
        return found

    def _label(self, mixture: Mixture, x: Tensor) -> Any:
        logits = mixture.responsibilities(x).clamp_min(torch.finfo(torch.float64).tiny).log()
        return dist.Categorical(logits=self.place(logits), validate_args=False)

    def _given_class(self, mixture: Mixture, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of p(z | x, c): means (N, C, K) and Cholesky factors (N, C, K, K)."""
        assert isinstance(mixture.components, FactorAnalysers)
        mean, covariance = mixture.components.posterior(x)
        return self.place(mean), self.place(torch.linalg.cholesky(covariance))


def has_converged(history: list[Iteration], tolerance: float) -> bool:
    """Whether the last iteration gained less than ``tolerance`` nats per row."""
    return len(history) > 1 and history[-1].bound - history[-2].bound < tolerance


def steps(record: Iteration) -> tuple[Step, ...]:
    """An iteration as the two steps that it consists of.

    >>> [step.step for step in steps(Iteration(1, -2.5, -2.0, -2.0, (3.0, 1.0), 0))]
    ['M', 'E']
    """
    number, likelihood = record.iteration, record.log_likelihood
    after = Step(number, "E", likelihood, record.bound, record.kl, False)
    if record.bound_before is None:
        return (after,)
    return Step(number, "M", likelihood, record.bound_before, record.kl_before, False), after
