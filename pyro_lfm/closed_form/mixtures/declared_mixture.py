"""What mixtures, mixtures of factor analysers and baselines share: EM of weights and components that a model holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from math import nan

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.closed_form.form import AnyLikelihoodForm, Ascent, LikelihoodForm, Watch
from pyro_lfm.closed_form.mixtures.components import AnyComponents
from pyro_lfm.closed_form.obstacles import Obstacle, family_obstacle, source_obstacle
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.closed_form.parts import Slot, constant
from pyro_lfm.exact.history import Step
from pyro_lfm.exact.mixtures.ascent import Iteration
from pyro_lfm.exact.mixtures.mixture import Mixture, fit_mixture
from pyro_lfm.exact.race import Reached, Won, race
from pyro_lfm.families import Categorical
from pyro_lfm.warning_kinds import ScaleFloorWarning

# EM iterations of each round of a race between starts; a start has converged when an iteration gains less, nats per row.
_ROUNDS, _TRIAL = (10, 20, 40), 1e-7
# Each start is the best of this many seedings after a few iterations: most maxima are reached from few seedings.
_SEEDINGS, _GLANCE = 4, (5,)
_ROUNDS_OF_K_MEANS = 10
# A weight of 0 has no logit. This weight is as good.
_TINY = 1e-30

Rows = Iterable[Tensor]


class DeclaredMixture(LikelihoodForm[Mixture, Rows]):
    """A mixture whose weights and components stand in a declared model.

    Attributes:
        weights: the logits of the weights; None where there is one class and no label.
        components: p(x | c). classes: C.
    """

    weights: Slot | None
    components: AnyComponents
    classes: int

    def read(self) -> Mixture:
        weights = torch.ones(1) if self.weights is None else self.weights.read().softmax(0)
        return Mixture(weights, self.components.read())

    def write(self, parameters: Mixture) -> None:
        if self.weights is not None:
            self.weights.write(parameters.weights.clamp_min(_TINY).log())
        self.components.write(parameters.components)

    def rows(self, blocks: Iterable[Tensor]) -> Rows:
        return blocks

    def start(self, rows: Rows, seed: int, restarts: int) -> Won[Mixture]:
        """The best of several starts from clusters of the data, each the best of several seedings.

        A component that narrows onto its floor has a likelihood without bound and no maximum. Such a start counts only if
        all do. From one start there is no race, so that the history has the whole climb.
        """
        drawn = partial(self._drawn, rows, seed)
        if restarts == 1:
            return Won(drawn(0), (nan,))
        advance = self._advance(rows)

        def best_of(number: int) -> Mixture:
            seedings = [drawn(_SEEDINGS * number + which) for which in range(_SEEDINGS)]
            return race(seedings, advance, _GLANCE).state

        return race(map(best_of, range(restarts)), advance, _ROUNDS)

    def _advance(self, rows: Rows) -> Callable[[Mixture, int], Reached[Mixture]]:
        has_floor = self.components.floor is not None

        def advance(start: Mixture, iterations: int) -> Reached[Mixture]:
            end, history = self._em(rows, start, iterations, _TRIAL)
            unbounded = has_floor and history[-1].at_floor > 0
            return Reached(end, history[-1].bound, unbounded, has_converged(history, _TRIAL))

        return advance

    def _drawn(self, rows: Rows, seed: int, number: int) -> Mixture:
        """Every other start has no rounds of k-means, which bring most seedings to the same clusters."""
        rounds = 0 if number % 2 else _ROUNDS_OF_K_MEANS
        drawn = self.components.start(rows, self.classes, seed + number, rounds)
        weights = self.read().weights if "weights" in self.fixed else drawn.weights
        return Mixture(weights, self.components.with_fixed(drawn.components))

    def climb(
        self,
        rows: Rows,
        start: Mixture,
        *,
        iterations: int,
        tolerance: float,
        accelerate: bool,
        watch: Watch[Mixture],
    ) -> Ascent[Mixture]:
        end, history = self._em(
            rows, start, iterations, tolerance, lambda mixture, record: watch(mixture, steps(record))
        )
        number, kind = history[-1].at_floor, self.components.floor
        words = f"{number} of the {kind} of {self.observed}" if number and kind else None
        return Ascent(end, has_converged(history, tolerance), words)

    def _em(
        self,
        rows: Rows,
        start: Mixture,
        iterations: int,
        tolerance: float,
        watch: Callable[[Mixture, Iteration], bool] | None = None,
    ) -> tuple[Mixture, list[Iteration]]:
        with warnings.catch_warnings():
            # The caller warns once, at the end and by name.
            warnings.simplefilter("ignore", ScaleFloorWarning)
            return fit_mixture(
                rows, start, fixed=self.fixed, iterations=iterations, tolerance=tolerance, watch=watch
            )

    def label_given(self, mixture: Mixture, x: Tensor) -> dist.Categorical:
        """p(c | x) for the rows x (N, D)."""
        logits = mixture.responsibilities(x).clamp_min(torch.finfo(torch.float64).tiny).log()
        return dist.Categorical(logits=self.place(logits), validate_args=False)

    def _factorised(self) -> AnyLikelihoodForm:
        latents = ", ".join(self.model.latents)
        words = f"{latents} of a mixture" if latents else "it has no latents"
        raise Obstacle(f"{words}: a factorised posterior is for linear Gaussian models")


def weights_of(outline: Outline, label: str) -> Slot:
    """The logits of the weights of classes; raises Obstacle where they are no constant."""
    prior = outline.model.factors[label]
    if type(prior.declaration) is not Categorical:
        raise family_obstacle(label, prior, "Categorical(C)")
    weights = constant(prior.parts["logits"]) if "logits" in prior.parts else None
    if weights is None:
        raise source_obstacle(label, prior, "logits", "a learned or Fixed value")
    return weights


def has_converged(history: list[Iteration], tolerance: float) -> bool:
    """Whether the last iteration gained less than ``tolerance`` nats per row."""
    return len(history) > 1 and history[-1].bound - history[-2].bound < tolerance


def steps(record: Iteration) -> tuple[Step, ...]:
    """The M step and the E step of an iteration.

    >>> [step.step for step in steps(Iteration(1, -2.5, -2.0, -2.0, (3.0, 1.0), 0))]
    ['M', 'E']
    """
    number, likelihood = record.iteration, record.log_likelihood
    after = Step(number, "E", likelihood, record.bound, record.kl, False)
    if record.bound_before is None:
        return (after,)
    return Step(number, "M", likelihood, record.bound_before, record.kl_before, False), after
