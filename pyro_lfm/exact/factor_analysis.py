"""Maximum likelihood factor analysis of complete data by Newton steps in the noise alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_lfm.exact.linear_gaussian import LinearGaussian, noise_floor
from pyro_lfm.exact.rows import Rows

# The likelihood has several maxima. Long Newton steps and short EM steps from the same start often end in different
# ones; the better is kept.
WARM_UP = 20


class _Profile(NamedTuple):
    """ln p per row at the best W for some noise Ψ, up to a constant and with its sign turned; and its derivatives."""

    cost: Tensor
    gradient: Tensor
    noise: Tensor
    values: Tensor
    vectors: Tensor
    kept: int

    def em_step(self) -> Tensor:
        """ln ψ after one EM step at the best W, ψ = diag(C − W Wᵀ), with the diagonal of C 1."""
        share = self.vectors[:, : self.kept].square() @ (self.values[: self.kept] - 1)
        return (1 - self.noise * share).clamp(min=1e-300).log()

    def hessian(self) -> Tensor:
        """Second derivatives in ln ψ, (D, D); O(K D³)."""
        signal, rest = self.vectors[:, : self.kept], self.vectors[:, self.kept :]
        large, small = self.values[: self.kept], self.values[self.kept :]
        result = (rest @ rest.mT) * ((rest * small) @ rest.mT)
        for value, vector in zip(large, signal.mT, strict=True):
            bend = (1 - small) * (value + small) / (value - small).clamp(min=1e-12 * float(value))
            result += torch.outer(vector, vector) * ((rest * bend) @ rest.mT)
        return result / 2


def _profile(factor: Tensor, noise: Tensor, latent_dim: int) -> _Profile:
    """At the best W, Ψ^-½ C Ψ^-½ = U Λ Uᵀ leaves the eigenvalues beyond the first K unexplained."""
    _, root, right = torch.linalg.svd(factor / noise.sqrt(), full_matrices=True)
    values = torch.zeros(len(noise), dtype=torch.float64)
    values[: len(root)] = root.square()
    kept = int((values[:latent_dim] > 1).sum())
    cost = 0.5 * (noise.log().sum() + (values[:kept].log() + 1).sum() + values[kept:].sum())
    gradient = 0.5 * (right[kept:].mT.square() @ (1 - values[kept:]))
    return _Profile(cost, gradient, noise, values, right.mT, kept)


def factor_analysis(
    rows: Rows, latent_dim: int, *, min_scale: float = 1e-3, iterations: int = 200, tolerance: float = 1e-12
) -> LinearGaussian:
    """A maximum of the factor analysis likelihood, x = W z + b + ε with ε ~ N(0, diag(ψ)), subject to √ψ ≥ min_scale.

    For given ψ the best W is Ψ^½ U₁ (Λ₁ − I)^½, from the K largest eigenvalues of Ψ^-½ C Ψ^-½ = U Λ Uᵀ, so only ψ is
    searched, by Newton steps in ln ψ with the exact Hessian, at most as far as the cost falls. Unlike EM this does not
    stall where a noise variance runs into its floor (a Heywood case). With missing entries C is the covariance of
    the data filled with the column means: a start for ``em``.

    Args:
        rows: the data. latent_dim: K ≥ 1. min_scale: smallest noise standard deviation, > 0, units of x.
        iterations: the most Newton steps, O(K D³) each: beyond a few hundred columns ``em`` from ``principal``,
            O(K D²) an iteration, is quicker. tolerance: stop when a step gains less, nats per row.

    Raises:
        DeclarationError: min_scale ≤ 0.

    Reference: Jöreskog (1967), Some contributions to maximum likelihood factor analysis, sections 4 and 5.

    >>> g = torch.Generator().manual_seed(0)
    >>> z = torch.randn(500, 1, generator=g)
    >>> x = z @ torch.ones(1, 4) + torch.randn(500, 4, generator=g)
    >>> factor_analysis(Rows.of(x), 1).noise.round(decimals=2)
    tensor([1.1200, 0.9200, 1.0800, 1.0400], dtype=torch.float64)
    """
    floor = noise_floor(rows, min_scale, "diagonal")
    factor = rows.factor() / rows.count**0.5
    scale = torch.maximum(rows.variance, floor).sqrt()
    lowest = (floor / scale.square()).log()
    factor = factor / scale
    start = torch.zeros(rows.dim, dtype=torch.float64)
    warm = start
    for _ in range(WARM_UP):
        warm = torch.maximum(_profile(factor, warm.exp(), latent_dim).em_step(), lowest)
    found = [_newton(factor, x, lowest, latent_dim, iterations, tolerance) for x in (start, warm)]
    here, now = min(found, key=lambda pair: float(pair[1].cost))
    noise = here.exp()
    weight = torch.zeros(rows.dim, latent_dim, dtype=torch.float64)
    weight[:, : now.kept] = now.vectors[:, : now.kept] * (now.values[: now.kept] - 1).sqrt()
    weight = weight * (noise.sqrt() * scale).unsqueeze(1)
    return LinearGaussian(weight, rows.mean, torch.maximum(noise * scale.square(), floor))


def _newton(
    factor: Tensor, here: Tensor, lowest: Tensor, latent_dim: int, iterations: int, tolerance: float
) -> tuple[Tensor, _Profile]:
    """Descends in ln ψ from ``here``, (D,), staying above ``lowest``."""
    now = _profile(factor, here.exp(), latent_dim)
    for _ in range(iterations):
        free = (here > lowest) | (now.gradient < 0)
        if not bool(free.any()):
            break
        curvature, axes = torch.linalg.eigh(now.hessian()[free][:, free])
        slope = axes.mT @ now.gradient[free]
        # Saddles are left downhill, and no variance moves by more than a factor e⁴ in one step.
        move = -(axes @ (slope / curvature.abs().clamp(min=1e-6)))
        direction = torch.zeros_like(here)
        direction[free] = move / (move.abs().max() / 4).clamp(min=1.0)
        step, gain = 1.0, 0.0
        while step > 1e-6 and gain <= 0:
            there = torch.maximum(here + step * direction, lowest)
            after = _profile(factor, there.exp(), latent_dim)
            gain = float(now.cost - after.cost)
            step /= 2
        if gain > 0:
            here, now = there, after
        if gain < tolerance:
            break
    return here, now
