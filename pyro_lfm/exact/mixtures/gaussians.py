"""Gaussian components of mixtures with isotropic or diagonal covariances, one per component or one for all."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial
from math import pi
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.mixtures.ascent import Statistics, Summary, all_finite, float64
from pyro_lfm.exact.mixtures.mixture import EMPTY, Components

# (x − μ)² = x² − 2xμ + μ² loses about as many digits as x²/σ² has. Above this value x − μ is computed and squared.
_EXPANDABLE = 1e4


# The smallest standard deviation: one for all columns, or one for each, (D,).
Floor = float | Tensor


def check_scale(min_scale: Floor) -> None:
    """Raises DeclarationError unless the floor of a scale is above 0."""
    if not bool((torch.as_tensor(min_scale, dtype=torch.float64) > 0).all()):
        raise DeclarationError(f"min_scale must be a number > 0; got {min_scale!r}")


def check_variance(name: str, variance: Tensor, classes: int, dim: int) -> Tensor:
    """A positive variance of shape (C or 1, D or 1), in float64."""
    shape = [
        n if variance.dim() != 2 or m != 1 else 1
        for n, m in zip((classes, dim), variance.shape, strict=False)
    ]
    variance = float64(name, variance, *(shape if variance.dim() == 2 else (classes, dim)))
    if not bool((variance > 0).all()):
        raise DeclarationError(f"{name} must be above 0; got {float(variance.min()):g}")
    return variance


def pooled_variance(variance: Tensor, scatter: Tensor, counts: Tensor, min_scale: Floor) -> Tensor:
    """argmax of −½ Σ [n ln v + s / v] over v ≥ min_scale² of the shape of ``variance``; where n = 0, the old variance.

    The function rises up to its peak at s / n and falls beyond it, so the constrained maximum is the clamped peak.
    """
    scatter, counts = scatter.sum_to_size(variance.shape), counts.sum_to_size(variance.shape)
    best = (scatter / counts.clamp_min(EMPTY)).clamp_min(min_scale**2)
    return torch.where(counts > EMPTY, best, variance)


def gaussian_expectation(variance: Tensor, scatter: Tensor, counts: Tensor) -> Tensor:
    """−½ Σ [n ln 2πv + s / v]."""
    return -0.5 * (counts * (2 * pi * variance).log() + scatter / variance).sum()


class _About(NamedTuple):
    """Rows x (B, D) relative to the centre of the means, so that squares can be expanded into matrix products."""

    x: Tensor
    observed: Tensor  # (B, D), or one row of ones where nothing is missing
    shift: Tensor  # means − centre (C, D)
    powers: Tensor  # deviations from the centre and their squares (B, 2D), 0 where missing
    wide: Tensor  # (D,): columns whose values are too large for that, which are squared class by class


@dataclass(frozen=True, eq=False)
class DiagonalGaussians(Components):
    """p(x | c) = N(x; μ_c, diag(v_c)).

    The shape of the variance says what is shared: (C, D) diagonal, (1, D) diagonal and shared by all components,
    (C, 1) isotropic, (1, 1) isotropic and shared by all.

    Args:
        means: μ (C, D), in the units of the data.
        variance: v (C or 1, D or 1), in squared units.
        min_scale: the smallest standard deviation that a fit may reach: one, or one per column (D,) where v has D.

    Raises:
        ShapeError: shapes do not fit. DeclarationError: a variance or a floor is not above 0.

    >>> distribution = DiagonalGaussians(torch.zeros(2, 3), torch.ones(1, 1))
    >>> distribution.log_density(torch.zeros(1, 3).double()).round(decimals=4)
    tensor([[-2.7568, -2.7568]], dtype=torch.float64)
    """

    means: Tensor
    variance: Tensor
    min_scale: Floor = 1e-3
    names: ClassVar[tuple[str, ...]] = ("means", "covariance")

    def __post_init__(self) -> None:
        check_scale(self.min_scale)
        object.__setattr__(self, "means", float64("means", self.means, "C", "D"))
        object.__setattr__(self, "variance", check_variance("variance", self.variance, *self.size))

    @property
    def size(self) -> tuple[int, int]:
        return self.means.shape[0], self.means.shape[1]

    @property
    def _precision(self) -> Tensor:
        return (1 / self.variance).expand_as(self.means)

    def log_density(self, x: Tensor) -> Tensor:
        return self._log_density(self._about(x))

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        """Counts, Σ r (x − μ) and Σ r (x − μ)² over the observed entries, each (C, D)."""
        return self._statistics(self._about(x), responsibilities)

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        about = self._about(x)
        return self._log_density(about), partial(self._statistics, about)

    def _about(self, x: Tensor) -> _About:
        centre, dim = self.means.mean(0), x.shape[1]
        powers, observed = x.new_empty(len(x), 2 * dim), x.new_ones(1, dim)
        deviation, squares = powers.split(dim, dim=1)
        torch.sub(x, centre, out=deviation)
        if not all_finite(x):
            missing = x.isnan()
            deviation.masked_fill_(missing, 0.0)
            observed = (~missing).double()
        torch.mul(deviation, deviation, out=squares)
        wide = (squares.amax(0) * self._precision).amax(0) > _EXPANDABLE
        return _About(x, observed, self.means - centre, powers, wide)

    def _log_density(self, about: _About) -> Tensor:
        x, observed, shift, powers, wide = about
        precision = self._precision.masked_fill(wide, 0.0)
        distance = torch.cat([-2 * precision * shift, precision], dim=1) @ powers.T
        distance += (precision * shift.square() + (2 * pi * self.variance).log()) @ observed.T
        if wide.any():
            for c, mean in enumerate(self.means):
                distance[c] += (x[:, wide] - mean[wide]).nan_to_num().square() @ self._precision[c, wide]
        return -0.5 * distance.T

    def _statistics(self, about: _About, responsibilities: Tensor) -> Statistics:
        x, observed, shift, powers, wide = about
        weight = responsibilities if len(observed) == len(x) else responsibilities.sum(0, keepdim=True)
        counts = weight.T @ observed
        first, second = (responsibilities.T @ powers).split(x.shape[1], dim=1)
        second = second + shift * (counts * shift - 2 * first)
        first = first - counts * shift
        if wide.any():
            for c, mean in enumerate(self.means):
                of_class = (x[:, wide] - mean[wide]).nan_to_num()
                first[c, wide] = responsibilities[:, c] @ of_class
                second[c, wide] = responsibilities[:, c] @ of_class.square()
        return counts, first, second

    def scatter(self, statistics: Statistics, means: Tensor) -> Tensor:
        """Σ r (x − m)² (C, D) about other means m, from statistics about these."""
        counts, first, second = statistics
        step = means - self.means
        return (second + step * (counts * step - 2 * first)).clamp_min(0.0)

    def maximised(self, statistics: Statistics, fixed: Set[str]) -> DiagonalGaussians:
        counts, first, _ = statistics
        step = torch.where(counts > EMPTY, first / counts.clamp_min(EMPTY), 0.0)
        means = self.means if "means" in fixed else self.means + step
        variance = self.variance
        if "covariance" not in fixed:
            variance = pooled_variance(variance, self.scatter(statistics, means), counts, self.min_scale)
        return DiagonalGaussians(means, variance, self.min_scale)

    def expected_log_density(self, statistics: Statistics, at: Components) -> Tensor:
        assert isinstance(at, DiagonalGaussians)
        return gaussian_expectation(at.variance, self.scatter(statistics, at.means), statistics[0])

    def filled(self, x: Tensor, responsibilities: Tensor) -> Tensor:
        return torch.where(x.isnan(), responsibilities @ self.means, x)

    def above_floor(self) -> DiagonalGaussians:
        return replace(self, variance=self.variance.clamp_min(self.min_scale**2))

    def at_floor(self) -> int:
        return int((self.variance <= self.min_scale**2).sum())
