"""Tables fitted by pyro_lfm: variational Bayes where all views are Gaussian, stochastic gradients for mixed ones."""

from __future__ import annotations

import warnings

import numpy as np
import torch

import pyro_lfm as lfm
from exact_inference.tables import Table


def variational_bayes(table: Table, factors: int, budget: int) -> list[np.ndarray]:
    """One table of all columns, with a noise for each and one relevance for each factor.

    Args:
        budget: the most iterations.
    """
    x = np.concatenate(table.values, 1)
    columns = lfm.Gaussian(
        x.shape[1],
        mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
        covariance=lfm.Diagonal(prior=lfm.parameter_priors.Gamma()),
    )
    model = lfm.Model(z=lfm.StandardNormal(factors), x=columns).double()
    inference = lfm.VariationalBayes(iterations=budget, tolerance=1e-7)
    rows = torch.from_numpy(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ConvergenceWarning)  # the number of iterations is meant
        fit = lfm.fit(model, rows, inference, seed=0, progress=False)
    q = fit.posterior()
    means = (q["z"].mean @ q["x.weight"].mean.mT + q["x.bias"].mean).numpy()
    return np.split(means, np.cumsum([view.shape[1] for view in table.values])[:-1], 1)


FAMILIES = {
    "gaussian": lambda dim: lfm.Gaussian(dim, mean=lfm.Linear(), covariance=lfm.Diagonal()),
    "bernoulli": lambda dim: lfm.Bernoulli(dim, logits=lfm.Linear()),
    "poisson": lambda dim: lfm.Poisson(dim, rate=lfm.Linear()),
}


def stochastic_gradients(table: Table, factors: int, budget: int) -> list[np.ndarray]:
    """A factor for each view, and q(z) of each row by parameters of its own, which gaps do not disturb.

    Args:
        budget: epochs.
    """
    views = {
        f"view{k}": FAMILIES[kind](x.shape[1])
        for k, (kind, x) in enumerate(zip(table.kinds, table.values, strict=True))
    }
    model = lfm.Model(z=lfm.StandardNormal(factors), **views)
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.PerRow(), covariance=lfm.Diagonal(lfm.PerRow())))
    rows = {name: torch.from_numpy(x).float() for name, x in zip(views, table.values, strict=True)}
    inference = lfm.SVI(guide, epochs=budget, batch_size=250, learning_rate=0.02)
    fit = lfm.fit(model, rows, inference, seed=0, progress=False)
    means = fit.reconstruct(draws=16)
    return [means[name].double().numpy() for name in views]
