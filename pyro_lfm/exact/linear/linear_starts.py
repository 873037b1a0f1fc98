"""Starts for EM of linear Gaussian models without a closed-form maximum: principal components, and random draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

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


def pattern_starts(
    rows: Rows, pattern: Tensor, like: LinearGaussian, *, restarts: int, seed: int, min_scale: Floor = 1e-3
) -> Iterator[LinearGaussian]:
    """Starts for weights with a pattern of zeros: each factor the first principal component of its columns, then draws.

    A column of several factors belongs to the first of them that has no purer one.

    Args:
        rows: the data. pattern: (D, K), which weights are free. like: the structure of the noise and the prior mean.
        restarts: the number of starts, ≥ 1. seed: that of the random draws. min_scale: see ``noise_floor``.

    >>> rows = Rows.of(torch.tensor([[2.0, 1.0], [-2.0, -1.0], [2.0, 1.0], [-2.0, -3.0]]))
    >>> like = LinearGaussian(torch.ones(2, 1), torch.zeros(2), torch.ones(2))
    >>> [start] = pattern_starts(rows, torch.ones(2, 1, dtype=torch.bool), like, restarts=1, seed=0)
    >>> bool((start.weight > 0).all())
    True
    """
    variance = torch.maximum(rows.variance, noise_floor(rows, min_scale, like.structure))
    scale = variance.sqrt()
    factor = rows.factor() / rows.count**0.5 / scale
    correlations = factor.mT @ factor
    share = pattern.double() / pattern.sum(1, keepdim=True).clamp(min=1)
    weight = torch.zeros_like(share)
    for k in range(pattern.shape[1]):
        most = share[:, k].max()
        columns = (share[:, k] == most).nonzero().flatten()
        _, vectors = torch.linalg.eigh(correlations[columns][:, columns])
        first = vectors[:, -1] * (vectors[:, -1].sum().sign() or 1.0)
        # Of the other columns of the factor, their correlation with the component.
        along = correlations[:, columns] @ first
        weight[:, k] = (
            along / along[columns].norm().clamp(min=1e-12) * len(columns) ** 0.5 * 0.7 * pattern[:, k]
        )
    generator = torch.Generator().manual_seed(seed)
    # Factors with the same columns must not start equal: they would stay so.
    shared = pattern.sum(1, keepdim=True) > 1
    weight = weight + 0.3 * shared * pattern * torch.randn(
        pattern.shape, generator=generator, dtype=torch.float64
    )
    correlated = 0.7 * torch.eye(pattern.shape[1], dtype=torch.float64) + 0.3
    for number in range(restarts):
        if number:
            weight = torch.randn(pattern.shape, generator=generator, dtype=torch.float64) * pattern
        size = weight.square().sum(1, keepdim=True)
        # At most 0.7 of a column's variance is of the factors.
        standard = weight * (0.7 / size.clamp(min=0.7)).sqrt()
        noise = variance * (1 - standard.square().sum(1)).clamp(min=_LEAST)
        noise = noise.mean() if like.structure == "isotropic" else noise
        prior = correlated if number == 0 else torch.eye(pattern.shape[1], dtype=torch.float64)
        yield LinearGaussian(standard * scale.unsqueeze(1), rows.mean, noise, like.prior[0], prior)
