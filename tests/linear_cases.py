"""A linear Gaussian model with known posterior and evidence, for the tests of truths."""

import math

import torch

import pyro_lfm as lfm


def cosine(fraction):
    return 0.5 * (1 + math.cos(math.pi * fraction))


def linear_gaussian(seed, features=6, latent=4, rows=400):
    """A model with fixed W, μ and Ψ, data drawn from it, the exact log p(x) of each row, and W, Ψ, μ and M."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    weight, bias = torch.randn(features, latent, **options), torch.randn(features, **options)
    noise = 0.3 + torch.rand(features, **options)
    model = lfm.Model(
        z=lfm.StandardNormal(latent),
        x=lfm.Gaussian(
            features,
            mean=lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(bias)),
            covariance=lfm.Diagonal(lfm.Fixed(noise)),
        ),
    )
    marginal = torch.distributions.MultivariateNormal(bias, weight @ weight.T + noise.diag())
    data = model.sample(rows, seed=seed)["x"]
    precision = torch.eye(latent, dtype=torch.float64) + weight.T @ (weight / noise[:, None])
    return model, data, marginal.log_prob(data), weight, noise, bias, precision


def exact_bound(posterior, data, weight, noise, bias):
    """E_q[log p(x | z)] − KL(q ‖ N(0, I)) of each row without Monte Carlo and without the library."""
    mean, covariance = posterior.mean, covariance_of(posterior)
    residual = data - mean @ weight.T - bias
    spread = torch.einsum("di,bij,dj->bd", weight, covariance, weight)
    likelihood = -0.5 * ((residual**2 + spread) / noise + torch.log(2 * math.pi * noise)).sum(-1)
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    kl = 0.5 * (trace + (mean**2).sum(-1) - mean.shape[-1] - torch.logdet(covariance))
    return likelihood - kl


def covariance_of(distribution):
    return (
        distribution.covariance_matrix
        if hasattr(distribution, "covariance_matrix")
        else torch.diag_embed(distribution.variance)
    )


GUIDES = {
    "mean-field": lfm.Diagonal(),
    "low-rank": lfm.LowRank(1),
    "full": lfm.Full(),
}


def gaps_of(seed):
    model, data, exact, weight, noise, bias, precision = linear_gaussian(seed)
    gaps = {}
    for name, covariance in GUIDES.items():
        torch.manual_seed(seed)
        guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=covariance))
        svi = lfm.SVI(
            guide,
            objective=lfm.ELBO(particles=16, gradient="sticking-the-landing"),
            steps=800,
            batch_size=len(data),
            learning_rate=0.06,
            schedule=cosine,
        )
        fit = lfm.fit(model, data, svi, seed=seed, progress=False)
        bound = exact_bound(fit.posterior(data), data, weight, noise, bias)
        gaps[name] = (exact - bound).mean().item()
    mean_field = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    return gaps, float(mean_field)
