"""EM with missing entries converges from several starts, also where a variance tends to zero, or warns."""

import numpy as np
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.exact.linear.expectation_maximisation import em
from pyro_lfm.exact.linear.linear_starts import linear_starts
from pyro_lfm.exact.linear.rows import Rows


def problem(seed, n=150, d=7, q=2, share=0.3):
    rng = np.random.default_rng(seed)
    weight, noise = rng.normal(size=(d, q)), rng.uniform(0.4, 1.2, d)
    x = rng.normal(size=(n, q)) @ weight.T + rng.normal(size=d) + rng.normal(size=(n, d)) * np.sqrt(noise)
    x[rng.random(x.shape) < share] = np.nan
    return torch.from_numpy(x)


def fitted(x, latent, inference=None, seed=0):
    model = lfm.Model(z=lfm.StandardNormal(latent), x=lfm.Gaussian(x.shape[1], mean=lfm.Linear())).double()
    return lfm.fit(model, x, inference or lfm.EM(), seed=seed, progress=False)


def test_it_converges_where_plain_em_stalls():
    fit = fitted(problem(300), 2)
    assert float(fit.log_likelihood().mean()) > -7.174001 - 1e-6
    assert fit.converged and len(fit.ends) == 10


SHAPES = [(100, 8, 3, 0.4), (200, 6, 2, 0.2), (80, 10, 3, 0.5), (150, 9, 3, 0.3), (120, 7, 2, 0.5)]


@pytest.mark.parametrize("number", range(3))
def test_it_is_as_likely_as_the_best_of_other_starts(number):
    n, d, q, share = SHAPES[number]
    x = problem(301 + number, n, d, q, share)
    fit = fitted(x, q)
    rows = Rows.of(x)
    starts = linear_starts(rows, q, "diagonal", restarts=5, seed=77)
    best = max(em(rows, start, iterations=300, tolerance=1e-10)[1].log_likelihood[-1] for start in starts)
    assert fit.converged
    assert float(fit.log_likelihood().mean()) > best - 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_it_is_as_likely_as_the_best_of_many_starts(number):
    n, d, q, share = SHAPES[number % 5]
    x = problem(400 + number, n, d, q, share)
    fit = fitted(x, q)
    rows = Rows.of(x)
    starts = linear_starts(rows, q, "diagonal", restarts=30, seed=77)
    best = max(em(rows, start, iterations=400, tolerance=1e-10)[1].log_likelihood[-1] for start in starts)
    assert float(fit.log_likelihood().mean()) > best - 1e-6


@pytest.mark.parametrize(
    "inference",
    [
        lfm.EM(iterations=2, restarts=1, accelerate=False),
        lfm.VariationalEM(iterations=2, accelerate=False, restarts=1),
    ],
)
def test_a_fit_that_has_not_converged_warns(inference):
    with pytest.warns(lfm.ConvergenceWarning, match="iterations=2"):
        fit = fitted(problem(1), 2, inference)
    assert fit.converged is False


def test_variational_bayes_and_mixtures_warn_of_it_too():
    x = problem(2, share=0.0)
    linear = lfm.Gaussian(
        7,
        mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
        covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
    )
    bayesian = lfm.Model(z=lfm.StandardNormal(3), x=linear).double()
    with pytest.warns(lfm.ConvergenceWarning, match="iterations=1"):
        assert lfm.fit(bayesian, x, lfm.VariationalBayes(iterations=1), seed=0).converged is False
    observed = lfm.Gaussian(7, mean=lfm.Lookup(), covariance=lfm.Diagonal(lfm.Lookup()), given="c")
    mixture = lfm.Model(c=lfm.Categorical(3), x=observed).double()
    with pytest.warns(lfm.ConvergenceWarning, match="iterations=1"):
        fit = lfm.fit(mixture, x, lfm.EM(iterations=1, restarts=1), seed=0, progress=False)
    assert fit.converged is False


def test_stochastic_inference_does_not_report_convergence():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(7, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    fit = lfm.fit(model, problem(3, share=0.0), lfm.SVI(guide, epochs=1), seed=0, progress=False)
    assert fit.converged is None and fit.ends == []
