"""Variational Bayes by coordinate ascent, where all parameters have conjugate priors: ``lfm.VariationalBayes``."""

from __future__ import annotations

import time
from dataclasses import KW_ONLY, dataclass
from math import nan
from typing import Any, ClassVar

from pyro_lfm.closed_form import recognise
from pyro_lfm.closed_form.recognition import bayesian_declarations
from pyro_lfm.closed_form.row_blocks import weighted_blocks
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides.conjugate import ConjugateGuide
from pyro_lfm.inference.closed.journal import warn_of_iterations
from pyro_lfm.inference.closed.points import put_points
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.prior_warnings import warn_of_noise
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.objectives import ELBO
from pyro_lfm.shapes import number, whole


class BayesianFit(Fit):
    """A fit by variational Bayes, whose ``posterior`` has the distributions of the parameters too.

    Each record of ``history`` holds the full bound L ≤ ln p(x) in nats per row, parameters and constants included. The
    parameters of ``model`` have their posterior means as point values.
    """

    guide: ConjugateGuide

    @property
    def rank(self) -> int:
        """How many factors the data need: the model with one fewer has a lower bound.

        Raises:
            DeclarationError: for a mixture.
        """
        return self.guide.posterior.rank()


@dataclass(eq=False, repr=False)
class VariationalBayes(Inference):
    """Coordinate ascent in q(parameters) q(latents), each factor in turn the best given the others.

    It raises L = E_q[ln p(x, latents, parameters) − ln q] ≤ ln p(x), which never falls. It has no step size, no noise and
    no θ: every parameter must have a prior. It serves Bayesian factor analysis and PCA, where automatic relevance
    determination chooses the number of factors, and Bayesian mixtures of Gaussians and of Bernoullis. Missing entries are
    integrated out.

    Numbers of a prior that the user gives are in the units of the data. Scales that are left out are in units of each
    column's spread, and locations are each column's mean, so that no answer depends on the units. A ``PriorWarning``
    says where the numbers of a prior outweigh the data. Where the iterations were used up ``fit.converged`` is False,
    with a ``ConvergenceWarning``.

    It always starts from the data, so that a second fit is no continuation. For mixtures the start depends on the seed.
    Validation data are not used, and there is no checkpoint.

    Args:
        iterations: the most iterations.
        tolerance: stop when an iteration gains less, in nats per row.

    Raises:
        DeclarationError: an argument out of range, or, when it runs, a declaration that it cannot serve. The message names
            the factor that stops it.

    Use it for few rows, where the uncertainty of the parameters matters, and for the number of factors (``fit.rank``).

    Limits: every parameter needs a prior of those kinds. q(parameters) q(latents) is factorised, so that intervals tend
    to be too narrow.

    Source: Bishop (1999), "Variational principal components"; Attias (1999); Bishop (2006), section 10.2.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(
    ...     z=lfm.StandardNormal(3),
    ...     x=lfm.Gaussian(
    ...         5,
    ...         mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
    ...         covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
    ...     ),
    ... )
    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 1, generator=g) @ torch.ones(1, 5) + 0.3 * torch.randn(200, 5, generator=g)
    >>> fit = lfm.fit(model, x, lfm.VariationalBayes(), seed=0)
    >>> fit.rank, fit.posterior()["x.weight"].mean.shape
    (1, torch.Size([5, 3]))
    """

    _: KW_ONLY
    iterations: int = 2000
    tolerance: float = 1e-9
    takes_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.iterations = whole("iterations", self.iterations)
        self.tolerance = number("tolerance", self.tolerance, least=0.0)

    def run(self, task: Task) -> BayesianFit:
        """Fits the posterior of the parameters and latents of the task's model."""
        remedy = f"it serves {bayesian_declarations()}; lfm.SVI serves every declaration"
        form = recognise(task.model).bayesian("lfm.VariationalBayes", remedy)
        if task.checkpoint:
            raise DeclarationError("lfm.VariationalBayes keeps no checkpoint: leave checkpoint= out")
        began = time.perf_counter()
        ascent = form.infer(
            weighted_blocks(task.table, form.observed),
            seed=task.seed,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
        if ascent.noise is not None:
            warn_of_noise(form.observed, *ascent.noise)
        guide = ConjugateGuide(form.model, ascent.posterior)
        seconds = (time.perf_counter() - began) / len(ascent.bounds)
        task.model.to(task.device)
        guide.to(task.device)
        put_points(task.model, guide, task.table)
        task.model.eval()
        result = BayesianFit(task.model, guide.eval(), task.table, ELBO())
        result.converged, result.ends = ascent.converged, [ascent.bounds[-1]]
        if not ascent.converged:
            warn_of_iterations(self.iterations)
        for iteration, bound in enumerate(ascent.bounds):
            record = _record(iteration, bound, seconds)
            result.history.append(record)
            if task.report(record, result):
                break
        return result


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
