"""Starts for EM of linear Gaussian models without a closed-form maximum: principal components, and random draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from pyro_lfm.exact.linear.linear_gaussian import Floor, LinearGaussian, noise_floor, principal
from pyro_lfm.exact.linear.rows import Rows

# The smallest noise of a start, as a share of each column's variance. EM hardly moves from a noise near zero.
_LEAST = 0.1


def linear_starts(
    rows: Rows, latent_dim: int, noise: str, *, restarts: int, seed: int, min_scale: Floor = 1e-3
) -> Iterator[LinearGaussian]:
    """Principal components with noise of at least a tenth of the variance, then random loadings with random noise.

    Args:
        rows: the data. latent_dim: K. noise: "isotropic" or "diagonal". restarts: the number of starts, ≥ 1.
        seed: that of the random draws. min_scale: see ``noise_floor``.

    >>> rows = Rows.of(torch.tensor([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]]))
    >>> [start.structure for start in linear_starts(rows, 1, "diagonal", restarts=2, seed=0)]
    ['diagonal', 'diagonal']
    """
    variance = torch.maximum(rows.variance, noise_floor(rows, min_scale, noise))
    whole = variance if noise == "diagonal" else variance.mean()
    first = principal(rows, latent_dim, noise, min_scale=min_scale)
    yield replace(first, noise=torch.maximum(first.noise, _LEAST * whole))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(restarts - 1):
        loadings = torch.randn(rows.dim, latent_dim, generator=generator, dtype=torch.float64)
        share = torch.rand(whole.shape, generator=generator, dtype=torch.float64)
        weight = loadings * (variance / (2 * latent_dim)).sqrt().unsqueeze(1)
        yield LinearGaussian(weight, rows.mean, whole * (0.2 + 0.8 * share))
