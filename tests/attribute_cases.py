"""Fits and attributes that several tests of attributes share."""

from functools import cache

import torch

import pyro_lfm as lfm

# Factors of the rows, and what is read of them.
K, D, N = 3, 10, 600


def draw(seed, rows=N):
    """Factors (N, K) and rows x = z Wᵀ + noise, so little that a fit knows the factors but for a rotation."""
    noise = torch.Generator().manual_seed(seed)
    weight = torch.randn(D, K, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    z = torch.randn(rows, K, generator=noise, dtype=torch.float64)
    return z, z @ weight.T + 0.05 * torch.randn(rows, D, generator=noise, dtype=torch.float64), weight


@cache
def linear():
    """A linear Gaussian fit with two correlated numbers and a label that are functions of its factors."""
    z, x, weight = draw(0)
    model = lfm.Model(z=lfm.StandardNormal(K), x=lfm.Gaussian(D, mean=lfm.Linear())).double()
    fit = lfm.fit(model, x, lfm.EM(), seed=0, progress=False)
    labels = {"a": z[:, 0], "b": 0.6 * z[:, 0] + 0.8 * z[:, 1], "c": z[:, 2] > 0}
    attributes = lfm.attributes.fit(fit, x, labels, seed=0)
    return attributes, x, z, weight


def factors_of(x, weight):
    """The factors of rows without noise."""
    return torch.linalg.lstsq(weight, x.double().T).solution.T
