"""Draws of few rows are taken side by side: far fewer runs of the programs, and draws of each row alone."""

import warnings

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.inference.queries import imputation, reconstruction

ROWS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def fit():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    return lfm.fit(model, ROWS, lfm.EM(iterations=500, tolerance=1e-3), seed=0, progress=False)


def test_few_runs_give_many_draws_of_each_row(fit, monkeypatch):
    runs = []
    for module in (imputation, reconstruction):
        run = module.run_filling
        monkeypatch.setattr(module, "run_filling", lambda *a, run=run: runs.append(a[2].size) or run(*a))
    rows = ROWS[:2].clone()
    rows[0, 2] = rows[1, 0] = torch.nan
    filled, decoded = fit.impute(rows, draws=5000, seed=0), fit.reconstruct(rows, draws=5000, seed=1)
    assert filled.drawn["x"].shape == (5000, 2) and len(runs) <= 40
    # The exact conditional means. The error of an estimate is at most 1.5 / sqrt(5000) = 0.02, and 0.1 is five of these.
    exact = fit.model.factors["x"](fit.posterior(rows).mean).mean
    for k, column in ((0, 2), (1, 0)):
        for estimate in (filled.values["x"][k, column], filled.drawn["x"][:, k].mean(), decoded[k, column]):
            assert abs(estimate - exact[k, column]) < 0.1


def test_the_number_of_draws_need_not_be_a_multiple(fit):
    rows = ROWS[:7].clone()
    rows[:, 1] = torch.nan
    drawn = fit.impute(rows, draws=203, seed=0).drawn["x"]
    assert drawn.shape == (203, 7) and len(drawn.unique()) > 0.99 * drawn.numel()
    assert fit.reconstruct(rows, draws=203).shape == rows.shape


def test_a_fit_without_iterations_is_not_asked_to_converge(fit):
    with warnings.catch_warnings():
        warnings.simplefilter("error", lfm.ConvergenceWarning)
        lfm.fit(fit.model, ROWS, lfm.EM(iterations=0, start="model"), progress=False)
