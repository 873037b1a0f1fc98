"""Linear Gaussian models against closed forms, in float64: gaps of guides, and the PPCA likelihood."""

import math

import pytest
import torch
from linear_cases import cosine, exact_bound, gaps_of
from sklearn.datasets import load_digits, load_iris

import pyro_lfm as lfm


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(k, marks=pytest.mark.slow) for k in range(2, 10))])
def test_gap_of_each_guide_is_the_closed_form(seed):
    """The gap of mean field is ½[Σ ln Mⱼⱼ − ln|M|], that of full covariance 0, and that of low rank lies between."""
    gaps, mean_field = gaps_of(seed)
    assert gaps["mean-field"] == pytest.approx(mean_field, abs=1e-4)
    assert -1e-12 < gaps["full"] < 1e-4
    assert gaps["full"] < gaps["low-rank"] < gaps["mean-field"]


def ppca_likelihood(data, latent):
    """The maximum of the PPCA log-likelihood per row (Tipping and Bishop, 1999)."""
    dim = data.shape[1]
    eigenvalues = torch.linalg.eigvalsh(torch.cov(data.T, correction=0)).flip(0)
    noise = eigenvalues[latent:].mean()
    terms = eigenvalues[:latent].log().sum() + (dim - latent) * noise.log() + dim
    return -0.5 * float(dim * math.log(2 * math.pi) + terms)


def fitted_likelihood(data, latent, **options):
    """The exact log-likelihood per row of a linear VAE fitted by SVI, and its bound."""
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(latent),
        x=lfm.Gaussian(data.shape[1], mean=lfm.Linear(), covariance=lfm.Isotropic()),
    ).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Full()))
    objective = lfm.ELBO(gradient="sticking-the-landing")
    svi = lfm.SVI(guide, objective=objective, batch_size=len(data), schedule=cosine, **options)
    fit = lfm.fit(model, data, svi, seed=0, progress=False)
    with torch.no_grad():
        zero = torch.zeros(1, latent, dtype=torch.float64)
        distribution = fit.model.factors["x"](zero)
        bias, noise = distribution.mean[0], distribution.variance[0]
        weight = fit.model.factors["x"](torch.eye(latent, dtype=torch.float64)).mean.T - bias[:, None]
        marginal = torch.distributions.MultivariateNormal(bias, weight @ weight.T + noise.diag())
        likelihood = float(marginal.log_prob(data).mean())
        bound = exact_bound(fit.posterior(data), data, weight, noise, bias)
    return likelihood, float(bound.mean())


@pytest.mark.parametrize(
    ("load", "latent", "published", "options"),
    [
        (load_iris, 2, -2.699751868, {"steps": 4000, "learning_rate": 0.03}),
        (load_digits, 10, -159.993731201, {"steps": 4000, "learning_rate": 0.1}),
    ],
)
def test_linear_vae_reaches_the_ppca_likelihood(load, latent, published, options):
    # Centred, because a bias that has to move far makes the weaker factors fade, and they recover slowly.
    data = torch.as_tensor(load().data, dtype=torch.float64)
    data = data - data.mean(0)
    exact = ppca_likelihood(data, latent)
    assert exact == pytest.approx(published, abs=1e-8)
    likelihood, bound = fitted_likelihood(data, latent, **options)
    assert exact - 1e-3 < likelihood <= exact + 1e-9
    assert bound <= likelihood + 1e-9
