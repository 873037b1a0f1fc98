"""The rank estimated by variational Bayes: zero for noise, the true one for factors, at every scale of the data."""

import warnings

import pytest
import torch

import pyro_lfm as lfm


def fitted(x, latent=4, covariance=None, weight=None):
    covariance = covariance or lfm.Isotropic(prior=lfm.parameter_priors.Gamma())
    mean = lfm.Linear(prior=weight or lfm.parameter_priors.ARD())
    x_factor = lfm.Gaussian(x.shape[1], mean=mean, covariance=covariance)
    model = lfm.Model(z=lfm.StandardNormal(latent), x=x_factor).double()
    return lfm.fit(model, x, lfm.VariationalBayes(), seed=0, progress=False)


def noise(seed, n, d):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factors(seed, n, d, rank, size=1.0, sigma=1.0):
    g = torch.Generator().manual_seed(seed)
    z, w = torch.randn(n, rank, generator=g), size * torch.randn(rank, d, generator=g)
    return (z @ w + sigma * torch.randn(n, d, generator=g)).double()


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))]


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_has_no_factor(seed):
    assert fitted(noise(seed, 500, 30)).rank == 0
    assert fitted(noise(seed, 100, 6), covariance=lfm.Diagonal(prior=lfm.parameter_priors.Gamma())).rank == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_factors_are_counted(seed):
    assert fitted(factors(seed, 500, 30, 2)).rank == 2
    # The bound is higher with a third factor than with it switched off, but not higher than with two factors.
    assert fitted(factors(seed, 400, 12, 2, sigma=0.3)).rank == 2


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1.0, 1e6])
def test_the_rank_does_not_depend_on_the_units(scale):
    x = factors(0, 300, 8, 2, sigma=0.3)
    for structure in (lfm.Isotropic, lfm.Diagonal):
        fit = fitted(x * scale, covariance=structure(prior=lfm.parameter_priors.Gamma()))
        assert fit.rank == 2 and fit.converged


def test_a_prior_that_decides_the_rank_is_warned_of_and_the_remedy_works():
    x = factors(0, 300, 8, 2, sigma=0.3) * 1e-4
    with pytest.warns(lfm.PriorWarning, match=r"Leave the rate out, as in lfm.parameter_priors.Gamma\(\)"):
        assert fitted(x, covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma(1e-3, 1e-3))).rank == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted(x, covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma())).rank == 2
        assert fitted(x, covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma(1e-3, 1e-11))).rank == 2


def test_the_bound_is_that_of_the_program_at_any_scale():
    x = factors(0, 200, 6, 1, sigma=0.3) * 1e-3
    fit = fitted(x, latent=2)
    estimate = fit.bound(draws=400, seed=0).mean()
    # Its standard error is near 0.003 here: false alarms are below 1e-6.
    assert abs(float(estimate) - fit.history[-1]["bound"]) < 0.03
