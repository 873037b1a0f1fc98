"""The baselines of model selection: models without latents, and mixtures of one class."""

import pytest
import torch

import pyro_lfm as lfm


def rows(n=200, d=4):
    g = torch.Generator().manual_seed(0)
    return (torch.randn(n, d, generator=g) @ torch.randn(d, d, generator=g) + 3).double()


def alone(factor):
    return lfm.Model(x=factor).double()


def em(model, x):
    return lfm.fit(model, x, lfm.EM(), seed=0, progress=False)


def svi(model, x, epochs=200):
    inference = lfm.SVI(lfm.Guide(model), epochs=epochs, batch_size=500, learning_rate=0.1, engine="eager")
    return lfm.fit(model, x, inference, seed=0, progress=False)


@pytest.mark.parametrize("structure", ["full", "diagonal", "isotropic"])
def test_a_gaussian_alone_is_fitted_by_its_mean_and_covariance(structure):
    x = rows()
    scatter = torch.cov(x.mT, correction=0)
    wanted = {
        "full": (lfm.Full, scatter),
        "diagonal": (lfm.Diagonal, scatter.diagonal().diag()),
        "isotropic": (lfm.Isotropic, scatter.diagonal().mean() * torch.eye(4).double()),
    }
    covariance, matrix = wanted[structure]
    fit = em(alone(lfm.Gaussian(4, covariance=covariance())), x)
    truth = torch.distributions.MultivariateNormal(x.mean(0), matrix)
    assert torch.allclose(fit.log_likelihood(), truth.log_prob(x), atol=1e-9)
    assert fit.converged and len(fit.ends) == 1
    assert torch.allclose(fit.model.factors["x"]().mean, x.mean(0))


def test_missing_entries_are_marginalised():
    x = rows()
    x[:50, 0] = torch.nan
    fit = em(alone(lfm.Gaussian(4, covariance=lfm.Full())), x)
    # The rest of the columns is complete: its maximum is its own.
    distribution = fit.model.factors["x"]()
    rest = torch.cov(x[:, 1:].mT, correction=0)
    assert torch.allclose(distribution.covariance_matrix[1:, 1:], rest, atol=1e-4)
    assert not fit.impute(draws=2).values["x"].isnan().any()


def test_a_bernoulli_alone():
    x = (rows() > 3).double()
    assert torch.allclose(em(alone(lfm.Bernoulli(4)), x).model.factors["x"]().mean, x.mean(0))


def counts():
    return torch.poisson(rows().abs(), generator=torch.Generator().manual_seed(0))


SERVED = {
    "poisson": (lambda: lfm.Poisson(4), counts),
    "bernoulli": (lambda: lfm.Bernoulli(4), lambda: (rows() > 3).double()),
    "categorical": (lambda: lfm.Categorical(3), lambda: torch.arange(200.0).double().remainder(3)),
    "gaussian": (lambda: lfm.Gaussian(4, covariance=lfm.Full()), rows),
}


@pytest.mark.parametrize("name", SERVED)
def test_stochastic_inference_serves_them_with_an_empty_guide(name):
    make, data = SERVED[name]
    model, x = alone(make()), data()
    fit = svi(model, x)
    with torch.no_grad():
        exact = model.factors["x"]().log_prob(x)
    assert torch.allclose(fit.bound(), exact, atol=1e-6)
    estimate = lfm.evaluate.log_likelihood(fit, x, draws=2)
    assert torch.allclose(estimate.per_row, exact, atol=1e-6)
    if name == "poisson":
        assert torch.allclose(model.factors["x"]().mean, x.mean(0), rtol=0.02)
    assert model.sample(3, seed=0)["x"].shape == (3, *x.shape[1:])


def test_what_is_of_latents_says_that_there_are_none():
    model = alone(lfm.Gaussian(4))
    fit = em(model, rows())
    for question in (fit.posterior, fit.sample_posterior):
        with pytest.raises(lfm.DeclarationError, match="has none"):
            question()
    assert "no latents: the bound is log p(x) itself" in lfm.describe(model, fit.guide)
    with pytest.raises(lfm.DeclarationError, match="Poisson"):
        em(alone(lfm.Poisson(4)), counts())


def test_several_observed_factors_and_a_regression():
    x = rows()
    model = lfm.Model(x=lfm.Gaussian(4), y=lfm.Poisson(4)).double()
    data = {"x": x, "y": counts()}
    assert svi(model, data, epochs=2).history[-1]["kl"] == 0
    model = lfm.Model(t=lfm.Covariate(1), x=lfm.Gaussian(3, mean=lfm.Linear(), given="t")).double()
    svi(model, {"t": x[:, :1], "x": x[:, 1:]}, epochs=600)
    design = torch.cat([x[:, :1], torch.ones(200, 1)], 1).double()
    line = torch.linalg.lstsq(design, x[:, 1:]).solution
    assert torch.allclose(model.factors["x"](x[:, :1]).mean, design @ line, atol=0.3)


def test_a_forgotten_link_is_still_an_error():
    with pytest.raises(lfm.DeclarationError):
        lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4))


def test_one_class_is_no_mixture():
    x = rows()
    components = lfm.Gaussian(4, mean=lfm.Lookup(), covariance=lfm.Full(lfm.Lookup()), given="c")
    fit = em(lfm.Model(c=lfm.Categorical(1), x=components).double(), x)
    one = em(alone(lfm.Gaussian(4, covariance=lfm.Full())), x)
    assert torch.allclose(fit.log_likelihood(), one.log_likelihood(), atol=1e-9)
    assert torch.equal(fit.posterior(x[:2]).probs, torch.ones(2, 1).double())


def test_they_are_compared_with_the_models_that_they_are_the_baseline_of():
    x = rows()
    table = lfm.compare(alone(lfm.Gaussian(4, covariance=lfm.Full())), x, {"em": lfm.EM()}, test=x)
    assert "em" in str(table)
