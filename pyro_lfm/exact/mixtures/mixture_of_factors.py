"""Factor analysers as components of mixtures: a class c and factors z are both latent."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from math import pi
from typing import ClassVar

import torch
from torch import Tensor

from pyro_lfm.exact.algebra import triangular
from pyro_lfm.exact.gap_patterns import patterns
from pyro_lfm.exact.mixtures.ascent import Statistics, float64, pieces
from pyro_lfm.exact.mixtures.gaussians import (
    Floor,
    check_scale,
    check_variance,
    gaussian_expectation,
    pooled_variance,
)
from pyro_lfm.exact.mixtures.mixture import EMPTY, Components

# Patterns of missing entries are processed in pieces of so many numbers.
_NUMBERS = 2**20


@dataclass(frozen=True, eq=False)
class FactorAnalysers(Components):
    """p(z) = N(0, I), p(x | c, z) = N(W_c z + μ_c, diag(ψ_c)), so p(x | c) = N(μ_c, W_c W_cᵀ + diag(ψ_c)).

    ``Mixture(weights, FactorAnalysers(...))`` is the mixture of factor analysers. Missing entries are marginalised row
    by row: with o the observed ones, p(z | x_o, c) has the precision I + W_oᵀ ψ_o⁻¹ W_o.

    Args:
        loadings: W (C, D, K), in the units of the data.
        means: μ (C, D), in the units of the data.
        noise: ψ (C or 1, D or 1), variances. One row is shared by all classes, one column by all entries.
        min_scale: the smallest standard deviation of the noise that a fit may reach: one, or one per column (D,) where
            ψ has D.

    Raises:
        ShapeError: shapes do not fit. DeclarationError: a variance or a floor is not above 0.

    Source: Ghahramani and Hinton (1996), "The EM algorithm for mixtures of factor analyzers".

    >>> distribution = FactorAnalysers(torch.ones(1, 2, 1), torch.zeros(1, 2), torch.ones(1, 1))
    >>> distribution.log_density(torch.tensor([[0.0, 0.0], [0.0, float("nan")]]).double()).round(decimals=4)
    tensor([[-2.3872],
            [-1.2655]], dtype=torch.float64)
    """

    loadings: Tensor
    means: Tensor
    noise: Tensor
    min_scale: Floor = 1e-3
    names: ClassVar[tuple[str, ...]] = ("loadings", "means", "noise")

    def __post_init__(self) -> None:
        check_scale(self.min_scale)
        object.__setattr__(self, "means", float64("means", self.means, "C", "D"))
        object.__setattr__(self, "loadings", float64("loadings", self.loadings, *self.size, "K"))
        object.__setattr__(self, "noise", check_variance("noise", self.noise, *self.size))

    @property
    def size(self) -> tuple[int, int]:
        return self.means.shape[0], self.means.shape[1]

    @property
    def latent(self) -> int:
        """K."""
        return self.loadings.shape[2]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """p(z | x, c) = N(m_c, S_c) for the rows x (N, D) and each class: m (N, C, K) and S (N, C, K, K).

        >>> distribution = FactorAnalysers(torch.ones(1, 2, 1), torch.zeros(1, 2), torch.ones(1, 1))
        >>> mean, covariance = distribution.posterior(torch.tensor([[3.0, 3.0]]))
        >>> round(float(mean), 4), round(float(covariance), 4)
        (2.0, 0.3333)
        """
        means, covariances = [], []
        for part in pieces([x], *self.size):
            distinct, pattern = patterns(part)
            solved = [self._infer(c, part, distinct, pattern) for c in range(self.size[0])]
            means.append(torch.stack([mean for mean, _, _ in solved], 1))
            covariances.append(torch.stack([tril.cholesky_inverse()[pattern] for _, tril, _ in solved], 1))
        return torch.cat(means), torch.cat(covariances)

    def _infer(self, c: int, x: Tensor, distinct: Tensor, pattern: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """p(z | x, c) of rows x (B, D) whose patterns of observed entries are distinct[pattern].

        Returns its mean (B, K), the Cholesky factor (P, K, K) of its precision for each pattern, and the residual
        x − μ − W E[z] (B, D), 0 where missing.
        """
        loadings, noise = self.loadings[c], self._noise[c]
        scaled = loadings / noise.sqrt()[:, None]
        identity = torch.eye(self.latent, dtype=x.dtype)
        # The factor of I + Wᵀψ⁻¹W over the observed entries, from the rows ψ^-½ W and I themselves.
        tril = torch.cat(
            [
                triangular(torch.cat([part * scaled.T, identity.expand(len(part), -1, -1)], -1))
                for part in distinct.double()[:, None].split(max(1, _NUMBERS // loadings.numel()))
            ]
        )
        residual, mean = (x - self.means[c]).nan_to_num(), x.new_zeros(len(x), self.latent)
        # The second pass corrects the rounding of the first, which matters where the noise is tiny beside W.
        for _ in range(2):
            gradient = residual @ (loadings / noise[:, None]) - mean
            if len(tril) == 1:
                step = torch.cholesky_solve(gradient.T, tril[0]).T
            else:
                step = torch.cholesky_solve(gradient[:, :, None], tril[pattern])[:, :, 0]
            mean = mean + step
            residual = (residual - step @ loadings.T).masked_fill(x.isnan(), 0.0)
        return mean, tril, residual

    @property
    def _noise(self) -> Tensor:
        return self.noise.expand_as(self.means)

    def log_density(self, x: Tensor) -> Tensor:
        distinct, pattern = patterns(x)
        out = x.new_empty(len(x), self.size[0])
        for c, noise in enumerate(self._noise):
            mean, tril, residual = self._infer(c, x, distinct, pattern)
            # (x − μ)ᵀ(WWᵀ + ψ)⁻¹(x − μ) as the minimum over z of |x − μ − Wz|²/ψ + |z|² has no cancellation.
            distance = residual.square() @ (1 / noise) + mean.square().sum(-1)
            determinant = distinct.double() @ (2 * pi * noise).log()
            determinant += 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            out[:, c] = -0.5 * (distance + determinant[pattern])
        return out

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        """Sums over the rows in which an entry is observed, with e = x − μ − Wz and u = (z, 1).

        Returns counts and Σ r E[e²], (C, D), Σ r E[e u], (C, D, K + 1), and Σ r E[u uᵀ], (C, D, K + 1, K + 1).
        """
        distinct, pattern = patterns(x)
        seen, latent = distinct.double(), self.latent
        out = []
        for c, loadings in enumerate(self.loadings):
            mean, tril, residual = self._infer(c, x, distinct, pattern)
            weight = responsibilities[:, c]
            design = torch.cat([mean, torch.ones_like(mean[:, :1])], 1)
            count = weight.new_zeros(len(seen)).index_add_(0, pattern, weight)
            covariance = (seen.T @ (count[:, None, None] * tril.cholesky_inverse()).flatten(1)).unflatten(
                1, (latent,) * 2
            )
            outer = ((weight[:, None] * design)[:, :, None] * design[:, None, :]).flatten(1)
            squares = seen.T @ outer.new_zeros(len(seen), outer.shape[1]).index_add_(0, pattern, outer)
            squares = squares.unflatten(1, (latent + 1,) * 2)
            squares[:, :latent, :latent] += covariance
            spread = (covariance @ loadings[:, :, None])[:, :, 0]
            weighted = weight[:, None] * residual
            cross = weighted.T @ design
            cross[:, :latent] -= spread
            error = (weighted * residual).sum(0) + (spread * loadings).sum(-1)
            out.append((seen.T @ count, error, cross, squares))
        return tuple(torch.stack(parts) for parts in zip(*out, strict=True))

    def _scatter(self, statistics: Statistics, step: Tensor) -> Tensor:
        """Σ r E[(x − μ − Wz)²] (C, D) after a step (C, D, K + 1) of (W, μ)."""
        _, error, cross, squares = statistics
        moved = (squares @ step[..., None])[..., 0]
        return (error + (step * (moved - 2 * cross)).sum(-1)).clamp_min(0.0)

    def maximised(self, statistics: Statistics, fixed: Set[str]) -> FactorAnalysers:
        counts, _, cross, squares = statistics
        latent = self.latent
        free = [k for k in range(latent + 1) if ("means" if k == latent else "loadings") not in fixed]
        step = torch.zeros_like(cross)
        step[..., free] = _solved(squares[..., free, :][..., free], cross[..., free])
        noise = self.noise
        if "noise" not in fixed:
            noise = pooled_variance(noise, self._scatter(statistics, step), counts, self.min_scale)
        return FactorAnalysers(
            self.loadings + step[..., :latent], self.means + step[..., latent], noise, self.min_scale
        )

    def expected_log_density(self, statistics: Statistics, at: Components) -> Tensor:
        assert isinstance(at, FactorAnalysers)
        step = torch.cat([at.loadings - self.loadings, (at.means - self.means)[..., None]], -1)
        return gaussian_expectation(at.noise, self._scatter(statistics, step), statistics[0])

    def filled(self, x: Tensor, responsibilities: Tensor) -> Tensor:
        distinct, pattern = patterns(x)
        expected = torch.zeros_like(x)
        for c, loadings in enumerate(self.loadings):
            mean = self._infer(c, x, distinct, pattern)[0]
            expected += responsibilities[:, c, None] * (mean @ loadings.T + self.means[c])
        return torch.where(x.isnan(), expected, x)

    def above_floor(self) -> FactorAnalysers:
        return replace(self, noise=self.noise.clamp_min(self.min_scale**2))

    def at_floor(self) -> int:
        return int((self.noise <= self.min_scale**2).sum())


def _solved(matrix: Tensor, target: Tensor) -> Tensor:
    """M⁻¹ t for positive semidefinite M (..., n, n) and t (..., n). It is 0 where M is 0, in entries without rows.

    Where M is singular in float64 the pseudoinverse is used, with which the objective does not fall either.
    """
    empty = (
        matrix.diagonal(dim1=-2, dim2=-1).amax(-1) <= EMPTY if matrix.shape[-1] else matrix.new_zeros(()) > 0
    )
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    matrix = torch.where(empty[..., None, None], identity, matrix)
    tril, failed = torch.linalg.cholesky_ex(matrix)
    singular = failed > 0
    tril = torch.where(singular[..., None, None], identity, tril)
    solution = torch.cholesky_solve(target[..., None], tril)[..., 0].masked_fill(empty[..., None], 0.0)
    if singular.any():
        inverse = torch.linalg.pinv(matrix[singular], hermitian=True)
        solution[singular] = (inverse @ target[singular][..., None])[..., 0]
    return solution
