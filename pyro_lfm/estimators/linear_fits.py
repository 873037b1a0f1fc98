"""Fits of the linear Gaussian model x = W z + b + ε to rows of unit variance, by each method of ``FactorAnalysis``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_lfm.families import Gaussian
from pyro_lfm.guides import Guide
from pyro_lfm.inference import EM, SVI, Fit, VariationalBayes, fit
from pyro_lfm.inference.closed.variational_bayes import BayesianFit
from pyro_lfm.inference.task import Inference
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import Model
from pyro_lfm.schedules import cosine
from pyro_lfm.sources import parameter_priors
from pyro_lfm.sources.covariances import Covariance, Diagonal, Full, Isotropic
from pyro_lfm.sources.linear import Linear
from pyro_lfm.sources.values import Learned
from pyro_lfm.warning_kinds import ScaleFloorWarning

Numbers = NDArray[np.float64]

NOISE: dict[str, type[Diagonal | Isotropic]] = {"diagonal": Diagonal, "isotropic": Isotropic}
# The smallest noise variance, as a share of a column's variance: as small as float64 resolves. Scales are held a little
# above their floor.
LEAST_NOISE = 1e-12
_FLOOR = 0.99e-6
# SVI: the least number of steps, and the rows of a step.
_STEPS, _BATCH = 1000, 256


@dataclass(frozen=True)
class LinearFit:
    """A fitted model, in the units of its rows.

    Attributes:
        weight: W, (D, K). bias: b, (D,). noise: the variances of ε, (D,).
        bounds: the log-likelihood after each iteration, nats per row; of "vb" and "svi" its lower bound.
        rank: how many factors the data support; K for "em" and "svi".
    """

    weight: Numbers
    bias: Numbers
    noise: Numbers
    bounds: Sequence[float]
    rank: int


@dataclass(frozen=True)
class Task:
    """What is fitted.

    Attributes:
        rows: (N, D), float64, NaN where missing; each column has mean 0 and variance 1, or is constant.
        weights: (N,), of the rows; None: all alike.
        factors: K. noise: "diagonal" or "isotropic". iterations, tolerance: where to stop. seed: of starts and noise.
    """

    rows: Numbers
    weights: Numbers | None
    factors: int
    noise: str
    iterations: int
    tolerance: float
    seed: int

    def fit(self, inference: Callable[[Model], Inference], linear: Linear, covariance: Covariance) -> Fit:
        """A model with these sources, fitted in double precision."""
        x = Gaussian(self.rows.shape[1], mean=linear, covariance=covariance)
        model = Model(z=StandardNormal(self.factors), x=x).double()
        return fit(model, self.rows, inference(model), weights=self.weights, seed=self.seed, progress=False)


def by_em(task: Task) -> LinearFit:
    """The maximum of the likelihood."""

    def em(model: Model) -> Inference:
        return EM(iterations=task.iterations, tolerance=task.tolerance)

    with warnings.catch_warnings():
        # FactorAnalysis has its own words for it, in which columns have names.
        warnings.simplefilter("ignore", ScaleFloorWarning)
        done = task.fit(em, Linear(), NOISE[task.noise](min_scale=_FLOOR))
    return _read(done, [record["log_likelihood"] for record in done.history if record["step"] == "E"])


def by_variational_bayes(task: Task) -> LinearFit:
    """The posterior means of the parameters, where relevance determination switches off factors that are not needed."""

    def bayes(model: Model) -> Inference:
        return VariationalBayes(iterations=task.iterations, tolerance=task.tolerance)

    covariance = NOISE[task.noise](prior=parameter_priors.Gamma())
    done = task.fit(bayes, Linear(prior=parameter_priors.ARD()), covariance)
    assert isinstance(done, BayesianFit)
    return _read(done, [record["bound"] for record in done.history], rank=max(1, done.rank))


def by_svi(task: Task) -> LinearFit:
    """About the maximum of the likelihood, by stochastic gradients under a guide that is linear in the rows."""
    per_epoch = ceil(len(task.rows) / _BATCH)
    epochs = min(task.iterations, max(20, ceil(_STEPS / per_epoch)))

    def svi(model: Model) -> Inference:
        return SVI(
            Guide(model, z=Gaussian(mean=Linear(), covariance=Full())),
            epochs=epochs,
            batch_size=_BATCH,
            learning_rate=2e-2,
            schedule=cosine(1.0, 0.0),
        )

    covariance = NOISE[task.noise](Learned(0.5), min_scale=_FLOOR)
    done = task.fit(svi, Linear(), covariance)
    return _read(done, [record["bound"] for record in done.history])


METHODS: dict[str, Callable[[Task], LinearFit]] = {
    "em": by_em,
    "vb": by_variational_bayes,
    "svi": by_svi,
}


def _read(done: Fit, bounds: Sequence[float], rank: int | None = None) -> LinearFit:
    """The parameters of a fit, by the distributions that it gives."""
    model: Any = done.model
    factor, factors = model.factors["x"], model.factors["z"].shape[0]
    with torch.no_grad():
        at_zero = factor(torch.zeros(factors, dtype=torch.float64))
        slopes = factor(torch.eye(factors, dtype=torch.float64)).mean - at_zero.mean
    return LinearFit(
        slopes.mT.numpy(),
        at_zero.mean.numpy(),
        at_zero.variance.numpy(),
        bounds,
        factors if rank is None else rank,
    )


def principal_axes(weight: Numbers, noise: Numbers) -> Numbers:
    """The same model with its factors turned so that WᵀΨ⁻¹W is diagonal, largest first, the largest loading positive.

    >>> principal_axes(np.array([[0.0, -3.0], [1.0, 0.0]]), np.ones(2))
    array([[3., 0.],
           [0., 1.]])
    """
    scaled = weight / np.sqrt(noise)[:, None]
    _, _, axes = np.linalg.svd(scaled, full_matrices=True)
    turned = weight @ axes.T
    largest = np.take_along_axis(turned, np.abs(turned).argmax(0)[None], 0)[0]
    return turned * np.where(largest < 0, -1.0, 1.0) + 0.0
