"""Variational Bayes by closed-form coordinate ascent, for declarations with conjugate priors on all parameters."""

from __future__ import annotations

import time
from dataclasses import KW_ONLY, dataclass
from math import nan
from typing import Any

from pyro_lfm.closed_form.bayesian import (
    Blocks,
    component_prior,
    concentration,
    is_isotropic,
    linear_prior,
    one_latent_one_observed,
)
from pyro_lfm.closed_form.mixtures import has_converged
from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.linear.bayesian_linear import variational_bayes
from pyro_lfm.exact.linear.linear_gaussian import principal
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.exact.mixtures.bayesian_mixture import fit_bayesian_mixture
from pyro_lfm.exact.mixtures.starts import start_bernoullis, start_gaussians
from pyro_lfm.families import Bernoulli
from pyro_lfm.guides.conjugate import ConjugateGuide, LinearPosterior, MixturePosterior
from pyro_lfm.inference.closed.journal import warn_of_iterations
from pyro_lfm.inference.closed.points import put_points
from pyro_lfm.inference.prior_warnings import warn_of_noise
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.objectives import ELBO
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import Model
from pyro_lfm.shapes import number, whole

# Where it starts there is no floor but that of float64: priors keep scales from zero.
_NO_FLOOR = 1e-100


class BayesianFit(Fit):
    """What variational Bayes gives back: a ``Fit`` whose ``posterior`` has the distributions of the parameters too.

    Each record of ``history`` holds the full bound L ≤ ln p(x) in nats per row, parameters and constants included;
    the points of ``model`` are the posterior means of its parameters.
    """

    @property
    def rank(self) -> int:
        """How many factors the data ask for: the model with one fewer has a lower bound.

        Raises:
            DeclarationError: for a mixture.
        """
        if not isinstance(self.guide, LinearPosterior):
            raise DeclarationError("rank is of a linear model whose weights have an ARD prior")
        return self.guide.found.rank()


@dataclass(eq=False)
class VariationalBayes(Inference):
    """Coordinate ascent in q(parameters) q(latents), each factor in turn the best given the others.

    It raises L = E_q[ln p(x, latents, parameters) − ln q] ≤ ln p(x), which never falls, and has no step size, no
    noise, and no θ: every parameter must have a prior. It serves Bayesian factor analysis and PCA, with as many
    factors as automatic relevance determination finds, and Bayesian mixtures of Gaussians and of Bernoullis. Missing
    entries are integrated out.

    Numbers of a prior that the user gives are in the units of the data. Those left out are in units of each column's
    spread, and locations those of its mean, so that no answer hangs on the units. Where the numbers of a prior outweigh
    the data, a ``PriorWarning`` says so. ``fit.converged`` is False, with a ``ConvergenceWarning``, where the iterations
    were used up.

    It starts from the data, whatever the model holds, so that a second fit is no continuation; for mixtures the seed decides
    where. Validation data are not looked at, and there is no checkpoint.

    Args:
        iterations: the most iterations.
        tolerance: stop when an iteration gains less, in nats per row.

    Raises:
        DeclarationError: for an argument out of its range; when fitted, for a declaration that it cannot serve,
            naming the factor that stops it.

    Source: Bishop (1999), "Variational principal components"; Attias (1999); Bishop (2006), section 10.2.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(
    ...     z=lfm.StandardNormal(3),
    ...     x=lfm.Gaussian(5, mean=lfm.Linear(prior=lfm.parameter_priors.ARD()), covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma())),
    ... )
    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 1, generator=g) @ torch.ones(1, 5) + 0.3 * torch.randn(200, 5, generator=g)
    >>> fit = lfm.fit(model, x, VariationalBayes(), seed=0)
    >>> fit.rank, fit.posterior()["x.weight"].mean.shape
    (1, torch.Size([5, 3]))
    """

    _: KW_ONLY
    iterations: int = 2000
    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        self.iterations = whole("iterations", self.iterations)
        self.tolerance = number("tolerance", self.tolerance, least=0.0)

    def run(self, task: Task) -> BayesianFit:
        """Fits the posterior of the parameters and latents of the task's model; see the class."""
        latent, observed = one_latent_one_observed(task.model)
        assert isinstance(task.model, Model)  # for the type checker: others were refused
        if task.checkpoint:
            raise DeclarationError("lfm.VariationalBayes keeps no checkpoint: leave checkpoint= out")
        began = time.perf_counter()
        find = (
            self._linear
            if isinstance(task.model.factors[latent].declaration, StandardNormal)
            else self._mixture
        )
        guide, bounds, converged = find(task, latent, observed)
        seconds = (time.perf_counter() - began) / len(bounds)
        task.model.to(task.device)
        guide.to(task.device)
        put_points(task.model, guide, task.table)
        task.model.eval()
        result = BayesianFit(task.model, guide.eval(), task.table, ELBO())
        result.converged, result.ends = converged, [bounds[-1]]
        if not converged:
            warn_of_iterations(self.iterations)
        for iteration, bound in enumerate(bounds):
            record = _record(iteration, bound, seconds)
            result.history.append(record)
            if task.report(record, result):
                break
        return result

    def _linear(self, task: Task, latent: str, observed: str) -> tuple[ConjugateGuide, list[float], bool]:
        model: Any = task.model
        prior = linear_prior(model, observed)
        blocks = Blocks(task.table, observed)
        rows = Rows(lambda: iter(blocks))
        noise = "isotropic" if is_isotropic(model, observed) else "diagonal"
        start = principal(rows, model.factors[latent].dim, noise, min_scale=_NO_FLOOR)
        posterior, history = variational_bayes(
            rows, start, prior, iterations=self.iterations, tolerance=self.tolerance
        )
        warn_of_noise(observed, posterior, rows)
        return LinearPosterior(model, posterior), history.bound, history.converged

    def _mixture(self, task: Task, latent: str, observed: str) -> tuple[ConjugateGuide, list[float], bool]:
        model: Any = task.model
        prior = component_prior(model, observed)
        blocks = Blocks(task.table, observed)
        classes = model.factors[latent].declaration.categories
        if isinstance(model.factors[observed].declaration, Bernoulli):
            start = start_bernoullis(blocks, classes, seed=task.seed)
        else:
            covariance = type(model.factors[observed].declaration.covariance).__name__.lower()
            start = start_gaussians(
                blocks, classes, seed=task.seed, covariance=covariance, min_scale=_NO_FLOOR
            )
        found, history = fit_bayesian_mixture(
            blocks,
            start,
            prior,
            concentration=concentration(model, latent),
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
        converged = has_converged(history, self.tolerance)
        return MixturePosterior(model, found), [iteration.bound for iteration in history], converged


def _record(iteration: int, bound: float, seconds: float) -> dict[str, Any]:
    return {
        "epoch": iteration,
        "step": iteration,
        "bound": bound,
        "reconstruction": nan,
        "kl": nan,
        "validation_bound": nan,
        "seconds": seconds,
    }
