"""Mixtures of factor analysers whose loadings and means have a posterior: ``fit_bayesian_factors``, for imputation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.exact.mixtures.starts import clusters

# Rows whose probability of a class is below this do not enter the update of the class.
_NEGLIGIBLE = 1e-9
# Numbers of the matrices (rows, K + 1, K + 1) that are held at a time.
_NUMBERS = 2**21


@dataclass(frozen=True)
class FactorPrior:
    """The priors of a mixture of factor analysers whose columns have mean 0 and variance 1.

    Attributes:
        noise: the a and b of −a ln ψ − b / ψ, the log density of a noise variance ψ.
        mean_precision: that of the mean of each class around the mean of all rows.
        relevance: the e of e (ln α − α), the log density of the precision α of a column of W.
        classes: how many rows each class has beside those of the data.
    """

    noise: tuple[float, float] = (1.0, 0.1)
    mean_precision: float = 1.0
    relevance: float = 1e-3
    classes: float = 1.0


@dataclass(frozen=True, eq=False)
class Latents:
    """q(c, z) of N rows: responsibilities (N, C), means (C, N, K) and covariances (C, N, K, K) of z given c."""

    responsibilities: Tensor
    means: Tensor
    covariances: Tensor


@dataclass(frozen=True, eq=False)
class BayesianFactors:
    """q of a mixture of factor analysers: p(z) = N(0, I), p(x | c, z) = N(W_c z + μ_c, diag(ψ_c)), W and μ uncertain.

    Attributes:
        weights: of the classes (C,).
        line: the posterior mean of (W, μ), (C, D, K + 1). covariance: for each column (C, D, K + 1, K + 1).
        noise: ψ (C, D). relevance: α (C, K), the precisions of W's columns.
        center: the prior mean of μ, (D,).
        prior: of the parameters.
        bounds: the bound on ln p(x) with the log densities of ψ, α and the weights, after each iteration, in nats.

    Source: Ghahramani and Beal (2000), "Variational inference for Bayesian mixtures of factor analysers"; MacKay (1995)
    for the relevance.
    """

    weights: Tensor
    line: Tensor
    covariance: Tensor
    noise: Tensor
    relevance: Tensor
    center: Tensor
    prior: FactorPrior
    bounds: tuple[float, ...] = ()

    @property
    def factors(self) -> int:
        """K."""
        return self.line.shape[2] - 1

    def latents(self, x: Tensor) -> Latents:
        """q(c, z) of rows x (N, D) in float64, NaN = missing."""
        odds, means, tril = self._infer(x)
        return Latents(odds.softmax(1), means, torch.cholesky_inverse(tril))

    def predictive(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """p(x_missing | x_observed) cell by cell: responsibilities (N, C), means and variances (C, N, D).

        The variance holds that of z, of the noise, and of W and μ.

        >>> x = torch.tensor([[1.0, 1.1], [-1.0, -0.9], [0.5, 0.4], [-0.5, float("nan")]]).double()
        >>> _, mean, _ = fit_bayesian_factors(x, 1, 1, seed=0).predictive(x)
        >>> bool(mean[0, 3, 1] < -0.2)
        True
        """
        latents = self.latents(x)
        design, square = _moments(latents.means, latents.covariances)
        means = design @ self.line.mT
        second = square.flatten(2) @ self._second_moment().flatten(2).mT
        return latents.responsibilities, means, (second - means.square()).clamp_min(0.0) + self.noise[:, None]

    def draw(self, x: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        """Draws of the missing entries of rows, with the observed ones as they are: (S, N, D).

        c and z are drawn once for all entries of a row. The uncertainty of W and μ is drawn for each entry, with the noise.
        """
        latents = self.latents(x)
        size, latent = len(x), self.factors
        label = torch.multinomial(latents.responsibilities, draws, replacement=True, generator=generator).T
        noise = torch.randn(draws, size, latent, dtype=x.dtype, generator=generator)
        tril = torch.linalg.cholesky(latents.covariances)
        out = torch.randn(draws, *x.shape, dtype=x.dtype, generator=generator)
        for c, line in enumerate(self.line):
            chosen = (label == c).nonzero()
            for piece in chosen.split(max(1, _NUMBERS // (latent + 1) ** 2)):
                draw, row = piece.T
                z = latents.means[c, row] + (tril[c, row] @ noise[draw, row, :, None])[..., 0]
                design, square = _moments(z, z.new_zeros(()))
                variance = square.flatten(1) @ self.covariance[c].flatten(1).mT + self.noise[c]
                out[draw, row] = design @ line.mT + variance.sqrt() * out[draw, row]
        return torch.where(x.isnan(), out, x)

    def _second_moment(self) -> Tensor:
        """E[w wᵀ] of the lines, (C, D, K + 1, K + 1)."""
        return self.line[..., :, None] * self.line[..., None, :] + self.covariance

    def _infer(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln of the joint bound of x and c, (N, C); the means of z, and Cholesky factors of its precisions."""
        known = ~x.isnan()
        seen, filled, latent = known.to(x), x.nan_to_num(), self.factors
        each = []
        for line, second, noise in zip(self.line, self._second_moment(), self.noise, strict=True):
            precise = (seen @ (second / noise[:, None, None]).flatten(1)).unflatten(1, (latent + 1,) * 2)
            scaled = (filled / noise) @ line
            tril = torch.linalg.cholesky(precise[:, :latent, :latent] + torch.eye(latent, dtype=x.dtype))
            slope = (scaled - precise[:, :, latent])[:, :latent, None]
            half = torch.linalg.solve_triangular(tril, slope, upper=False)
            distance = filled.square() @ (1 / noise) - 2 * scaled[:, latent] + precise[:, latent, latent]
            determinant = seen @ (2 * pi * noise).log() + 2 * tril.diagonal(dim1=1, dim2=2).log().sum(1)
            density = -0.5 * (distance - half.square().sum((1, 2)) + determinant)
            mean = torch.linalg.solve_triangular(tril.mT, half, upper=True)[..., 0]
            each.append((density, mean, tril))
        density, mean, tril = (torch.stack(parts) for parts in zip(*each, strict=True))
        return density.T + self.weights.log(), mean, tril


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the rows of each class, of observed entries.

    Counts (C,) of rows, seen (C, D) of entries, Σx² (C, D), Σxu (C, D, K + 1) and Σuuᵀ (C, D, K + 1, K + 1); the evidence
    is the sum of ln p over all rows.
    """

    counts: Tensor
    seen: Tensor
    squares: Tensor
    cross: Tensor
    moments: Tensor
    evidence: Tensor


def fit_bayesian_factors(
    x: Tensor,
    classes: int,
    factors: int,
    *,
    seed: int,
    iterations: int = 60,
    tolerance: float = 1e-3,
    prior: FactorPrior | None = None,
    start: BayesianFactors | None = None,
) -> BayesianFactors:
    """Fits a mixture of factor analysers to rows with missing entries, by coordinate ascent on a bound of ln p.

    q(c, z), q(W, μ), then ψ, α and the weights are each the best given the others, so that the bound never falls. Columns of
    W that the data do not support vanish, since their precisions α grow.

    Args:
        x: rows (N, D), NaN = missing, each column near mean 0 and variance 1.
        classes: C ≥ 1. factors: K ≥ 1.
        seed: of the first clusters.
        iterations: the most. tolerance: the ascent ends when an iteration gains less, nats per row.
        prior: of the parameters.
        start: an earlier fit to go on from, with C classes and K factors; by default clusters and their principal axes.

    Raises:
        DataError: no rows. DeclarationError: C or K below 1.

    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(300, 1, generator=g).double() @ torch.ones(1, 5).double()
    >>> x = x + 0.3 * torch.randn(300, 5, generator=g).double()
    >>> state = fit_bayesian_factors(x, 1, 3, seed=0)
    >>> bool((state.relevance[0].sort().values[1:] > 50).all())  # one factor is left of three
    True
    """
    if classes < 1 or factors < 1:
        raise DeclarationError(f"a mixture needs classes ≥ 1 and factors ≥ 1; got {classes} and {factors}")
    if not len(x):
        raise DataError("x must hold at least one row; got none")
    state = (
        _start(x, classes, factors, seed, prior or FactorPrior())
        if start is None
        else replace(start, bounds=())
    )
    bounds: list[float] = []
    for _ in range(iterations):
        sums = _sums(state, x)
        bounds.append(float(sums.evidence) + _log_prior(state))
        if len(bounds) > 1 and bounds[-1] - bounds[-2] < tolerance * len(x):
            break
        state = _updated(state, sums)
    return replace(state, bounds=tuple(bounds))


def _start(x: Tensor, classes: int, factors: int, seed: int, prior: FactorPrior) -> BayesianFactors:
    """Clusters of the rows, with the principal axes of each cluster's filled rows as loadings."""
    size, dim = x.shape
    known, filled = ~x.isnan(), x.nan_to_num()
    center = filled.sum(0) / known.sum(0).clamp_min(1)
    means = clusters([x], classes, seed=seed).means
    label = torch.cdist(torch.where(known, x, center), means).argmin(1)
    line = x.new_zeros(classes, dim, factors + 1)
    noise = x.new_ones(classes, dim)
    weights = x.new_ones(classes)
    generator = torch.Generator().manual_seed(seed)
    for c in range(classes):
        member = label == c
        count = int(member.sum())
        weights[c] = (count + prior.classes) / (size + classes * prior.classes)
        line[c, :, factors] = 0.9 * means[c]
        line[c, :, :factors] = 1e-3 * torch.randn(dim, factors, generator=generator, dtype=x.dtype)
        if count < 2:
            continue
        rest = torch.where(known[member], x[member] - 0.9 * means[c], 0.0)
        _, scale, axes = torch.linalg.svd(rest, full_matrices=False)
        kept = min(factors, len(scale))
        line[c, :, :kept] += (axes[:kept] * scale[:kept, None] / count**0.5).T
        noise[c] = (0.5 * rest.square().sum(0) / known[member].sum(0).clamp_min(1)).clamp_min(0.3)
    covariance = torch.eye(factors + 1, dtype=x.dtype).expand(classes, dim, -1, -1) / size
    return BayesianFactors(weights, line, covariance, noise, x.new_ones(classes, factors), center, prior)


def _moments(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """E[u] (..., K + 1) and E[u uᵀ] of u = (z, 1)."""
    design = torch.cat([mean, torch.ones_like(mean[..., :1])], -1)
    square = design[..., :, None] * design[..., None, :]
    square[..., :-1, :-1] += covariance
    return design, square


def _sums(state: BayesianFactors, x: Tensor) -> _Sums:
    """What the updates need of q(c, z), block of rows by block."""
    classes, dim, width = state.line.shape
    totals = _Sums(
        x.new_zeros(classes),
        x.new_zeros(classes, dim),
        x.new_zeros(classes, dim),
        x.new_zeros(classes, dim, width),
        x.new_zeros(classes, dim, width, width),
        x.new_zeros(()),
    )
    for part in x.split(max(1, _NUMBERS // (classes * width**2))):
        odds, mean, tril = state._infer(part)
        totals.evidence.add_(odds.logsumexp(1).sum())
        responsibilities = odds.softmax(1)
        for c in range(classes):
            rows = responsibilities[:, c] > _NEGLIGIBLE
            weight, own = responsibilities[rows, c, None], part[rows]
            seen, filled = weight * ~own.isnan(), own.nan_to_num()
            design, square = _moments(mean[c, rows], torch.cholesky_inverse(tril[c, rows]))
            totals.counts[c] += weight.sum()
            totals.seen[c] += seen.sum(0)
            totals.squares[c] += (weight * filled.square()).sum(0)
            totals.cross[c] += (weight * filled).T @ design
            totals.moments[c] += (seen.T @ square.flatten(1)).unflatten(1, (width, width))
    return totals


def _precision(state: BayesianFactors) -> Tensor:
    """The prior precisions of (W, μ), (C, 1, K + 1)."""
    mean = state.relevance.new_full((len(state.relevance), 1), state.prior.mean_precision)
    return torch.cat([state.relevance, mean], 1)[:, None]


def _updated(state: BayesianFactors, sums: _Sums) -> BayesianFactors:
    """q(W, μ), then ψ, α and the weights."""
    prior, precision = state.prior, _precision(state)
    noise = state.noise[..., None]
    tril = torch.linalg.cholesky(sums.moments / noise[..., None] + torch.diag_embed(precision))
    target = sums.cross / noise
    target[..., -1] += prior.mean_precision * state.center
    line = torch.cholesky_solve(target[..., None], tril)[..., 0]
    moved = replace(state, line=line, covariance=torch.cholesky_inverse(tril))
    second = moved._second_moment()
    error = sums.squares - 2 * (sums.cross * line).sum(-1) + (second * sums.moments).sum((-2, -1))
    shape, rate = prior.noise
    size = second.diagonal(dim1=-2, dim2=-1)[..., :-1].sum(1)
    classes, dim = len(line), line.shape[1]
    return replace(
        moved,
        noise=(error.clamp_min(0.0) + 2 * rate) / (sums.seen + 2 * shape),
        relevance=(dim + 2 * prior.relevance) / (size + 2 * prior.relevance),
        weights=(sums.counts + prior.classes) / (sums.counts.sum() + classes * prior.classes),
    )


def _log_prior(state: BayesianFactors) -> float:
    """−KL of q(W, μ) from its prior, and the log densities of ψ, α and the weights, without constants."""
    prior, precision = state.prior, _precision(state)
    deviation = state.line.clone()
    deviation[..., -1] -= state.center
    spread = state.covariance.diagonal(dim1=-2, dim2=-1)
    own = precision.log() - precision * (deviation.square() + spread) + 1.0
    tril = torch.linalg.cholesky_ex(state.covariance)[0]
    entropy = 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum()
    shape, rate = prior.noise
    density = -(shape * state.noise.log() + rate / state.noise).sum()
    density = density + prior.relevance * (state.relevance.log() - state.relevance).sum()
    return float(0.5 * (own.sum() + entropy) + density + prior.classes * state.weights.log().sum())
