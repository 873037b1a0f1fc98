"""Maximum likelihood factor analysis of complete data by Newton steps in the noise alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_lfm.exact.linear.linear_gaussian import Floor, LinearGaussian, noise_floor
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.exact.race import Reached, Won, race

# The likelihood has several maxima. Newton steps from the start itself and from the point after so many EM steps often
# end in different ones, and the better one is kept.
WARM_UP = 20
# Starts with one column that is almost without noise: its noise as a share of its variance, the most columns that are
# tried, and the EM steps after which they are compared.
_ALMOST_NONE, _COLUMNS, _LOOK = 1e-3, 32, 3
# Newton steps of a race between starts.
_ROUNDS = (8, 16, 200)


class _Profile(NamedTuple):
    """−ln p per row at the best W for a noise Ψ, up to a constant, and its derivatives in ln ψ."""

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
            curvature = (1 - small) * (value + small) / (value - small).clamp(min=1e-12 * float(value))
            result += torch.outer(vector, vector) * ((rest * curvature) @ rest.mT)
        return result / 2


def _profile(factor: Tensor, noise: Tensor, latent_dim: int) -> _Profile:
    """The profile from Ψ^-½ C Ψ^-½ = U Λ Uᵀ: the best W explains the K largest eigenvalues that exceed 1."""
    _, root, right = torch.linalg.svd(factor / noise.sqrt(), full_matrices=True)
    values = torch.zeros(len(noise), dtype=torch.float64)
    values[: len(root)] = root.square()
    kept = int((values[:latent_dim] > 1).sum())
    cost = 0.5 * (noise.log().sum() + (values[:kept].log() + 1).sum() + values[kept:].sum())
    gradient = 0.5 * (right[kept:].mT.square() @ (1 - values[kept:]))
    return _Profile(cost, gradient, noise, values, right.mT, kept)


def factor_analysis(
    rows: Rows, latent_dim: int, *, min_scale: Floor = 1e-3, iterations: int = 200, tolerance: float = 1e-12
) -> LinearGaussian:
    """A maximum of the factor analysis likelihood, x = W z + b + ε with ε ~ N(0, diag(ψ)), subject to √ψ ≥ min_scale.

    For given ψ the best W is Ψ^½ U₁ (Λ₁ − I)^½, from the K largest eigenvalues of Ψ^-½ C Ψ^-½ = U Λ Uᵀ. So only ψ is
    searched, by Newton steps in ln ψ with the exact Hessian, halved until the cost falls. Unlike EM this does not
    stall where a noise variance reaches its floor (a Heywood case). With missing entries C is the covariance of the
    data filled with the column means, and the result is a start for ``em``. The likelihood has several maxima: see
    ``factor_analyses``.

    Args:
        rows: the data. latent_dim: K ≥ 1.
        min_scale: the smallest noise standard deviation, > 0, in units of x, one number or one per column.
        iterations: the most Newton steps. Each costs O(K D³), so beyond a few hundred columns ``em`` from ``principal``
            is quicker, at O(K D²) an iteration.
        tolerance: the search ends when a step gains less, in nats per row.

    Raises:
        DeclarationError: min_scale ≤ 0.

    Source: Jöreskog (1967), Some contributions to maximum likelihood factor analysis, sections 4 and 5.

    >>> g = torch.Generator().manual_seed(0)
    >>> z = torch.randn(500, 1, generator=g)
    >>> x = z @ torch.ones(1, 4) + torch.randn(500, 4, generator=g)
    >>> factor_analysis(Rows.of(x), 1).noise.round(decimals=2)
    tensor([1.1200, 0.9200, 1.0800, 1.0400], dtype=torch.float64)
    """
    search = _Search.of(rows, latent_dim, min_scale)
    ends = [_newton(search, search.at(noise), iterations, tolerance) for noise in search.principal()]
    return search.model(min(ends, key=lambda end: float(end.profile.cost)))


def factor_analyses(
    rows: Rows,
    latent_dim: int,
    *,
    restarts: int,
    seed: int,
    min_scale: Floor = 1e-3,
    tolerance: float = 1e-12,
) -> Won[LinearGaussian]:
    """The best maximum that Newton steps reach from several starts, and the log-likelihoods of all, in nats per row.

    The first start is that of ``factor_analysis``, from principal components. A third of the others have one column
    almost without noise, as most maxima do (a Heywood case): the columns with the highest likelihood after a few EM
    steps. The rest have noise variances drawn uniformly between zero and each column's variance. All take a few steps,
    and the better ones go on (``race``).

    Args:
        rows, latent_dim, min_scale, tolerance: as for ``factor_analysis``.
        restarts: the number of starts, ≥ 1. seed: that of the random draws.

    >>> g = torch.Generator().manual_seed(0)
    >>> rows = Rows.of(torch.randn(50, 1, generator=g) @ torch.ones(1, 4) + torch.randn(50, 4, generator=g))
    >>> len(factor_analyses(rows, 1, restarts=3, seed=0).ends)
    3
    """
    search = _Search.of(rows, latent_dim, min_scale)
    generator = torch.Generator().manual_seed(seed)
    exact = search.single_columns((restarts - 1) // 3, generator)
    drawn = torch.rand(restarts - 1 - len(exact), rows.dim, generator=generator, dtype=torch.float64)
    first = min(
        (search.at(noise) for noise in search.principal()), key=lambda point: float(point.profile.cost)
    )
    starts = [first, *map(search.at, exact), *(search.at(noise.clamp(min=1e-3).log()) for noise in drawn)]

    def advance(point: _Point, iterations: int) -> Reached[_Point]:
        end = _newton(search, point, iterations, tolerance)
        return Reached(end, search.log_likelihood(end), converged=end.converged)

    won = race(starts, advance, _ROUNDS)
    return Won(search.model(won.state), won.ends)


@dataclass(frozen=True, eq=False)
class _Point:
    """Logarithms of the noise, (D,), with their profile. converged: no step gains more than the tolerance."""

    noise: Tensor
    profile: _Profile
    converged: bool = False


@dataclass(frozen=True, eq=False)
class _Search:
    """Factor analysis of columns scaled to variance one.

    factor: (R, D), FᵀF = the correlations. scale, mean: (D,), of the columns. lowest: (D,), the floor of ln ψ.
    """

    factor: Tensor
    scale: Tensor
    mean: Tensor
    lowest: Tensor
    latent_dim: int

    @classmethod
    def of(cls, rows: Rows, latent_dim: int, min_scale: Floor) -> _Search:
        floor = noise_floor(rows, min_scale, "diagonal")
        scale = torch.maximum(rows.variance, floor).sqrt()
        factor = rows.factor() / rows.count**0.5 / scale
        return cls(factor, scale, rows.mean, (floor / scale.square()).log(), latent_dim)

    def at(self, noise: Tensor) -> _Point:
        noise = torch.maximum(noise, self.lowest)
        return _Point(noise, _profile(self.factor, noise.exp(), self.latent_dim))

    def principal(self) -> list[Tensor]:
        """Equal noise, whose best W is the principal components, and the noise after a few EM steps from there."""
        start = torch.zeros_like(self.scale)
        return [start, self.em(start, WARM_UP)]

    def em(self, noise: Tensor, steps: int) -> Tensor:
        """The noise after a number of EM steps."""
        for _ in range(steps):
            noise = torch.maximum(self.at(noise).profile.em_step(), self.lowest)
        return noise

    def single_columns(self, count: int, generator: torch.Generator) -> list[Tensor]:
        """Starts of equal noise but for one column, which has almost none: the most likely columns, best first.

        At most 32 columns are tried, drawn at random.
        """
        if not count:
            return []
        starts = []
        for column in torch.randperm(len(self.scale), generator=generator)[:_COLUMNS]:
            noise = torch.zeros_like(self.scale)
            noise[column] = log(_ALMOST_NONE)
            starts.append(noise)
        return sorted(starts, key=lambda noise: float(self.at(self.em(noise, _LOOK)).profile.cost))[:count]

    def log_likelihood(self, point: _Point) -> float:
        """ln p at a point, in nats per row."""
        return float(-0.5 * len(self.scale) * log(2 * pi) - self.scale.log().sum() - point.profile.cost)

    def model(self, point: _Point) -> LinearGaussian:
        noise, best = point.noise.exp(), point.profile
        weight = torch.zeros(len(noise), self.latent_dim, dtype=torch.float64)
        weight[:, : best.kept] = best.vectors[:, : best.kept] * (best.values[: best.kept] - 1).sqrt()
        weight = weight * (noise.sqrt() * self.scale).unsqueeze(1)
        floor = self.lowest.exp() * self.scale.square()
        return LinearGaussian(weight, self.mean, torch.maximum(noise * self.scale.square(), floor))


def _newton(search: _Search, start: _Point, iterations: int, tolerance: float) -> _Point:
    """Newton steps in ln ψ from a point, above the floor."""
    here, now, lowest = start.noise, start.profile, search.lowest
    for _ in range(iterations):
        free = (here > lowest) | (now.gradient < 0)
        if not bool(free.any()):
            return _Point(here, now, True)
        curvature, axes = torch.linalg.eigh(now.hessian()[free][:, free])
        slope = axes.mT @ now.gradient[free]
        # |curvature| leads downhill from saddles too. No variance changes by more than a factor e⁴ in one step.
        move = -(axes @ (slope / curvature.abs().clamp(min=1e-11)))
        direction = torch.zeros_like(here)
        direction[free] = move / (move.abs().max() / 4).clamp(min=1.0)
        step, gain = 1.0, 0.0
        while step > 1e-6 and gain <= 0:
            there = search.at(here + step * direction)
            gain = float(now.cost - there.profile.cost)
            step /= 2
        if gain > 0:
            here, now = there.noise, there.profile
        if gain < tolerance:
            return _Point(here, now, True)
    return _Point(here, now)
