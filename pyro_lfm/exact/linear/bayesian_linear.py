"""Variational Bayes for factor analysis and PCA, with automatic relevance determination of the factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.exact.history import History
from pyro_lfm.exact.linear.bayesian_posterior import (
    BayesianLinear,
    GammaDistribution,
    LinearPrior,
    relevance_of,
)
from pyro_lfm.exact.linear.coordinate_ascent import coordinate_ascent
from pyro_lfm.exact.linear.latent_posterior import Moments, expect
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian
from pyro_lfm.exact.linear.pruning import needed_factors, pruned
from pyro_lfm.exact.linear.rows import Piece, Rows

# The most iterations of the ascents that decide whether a factor is needed.
_TRIAL = 200


def variational_bayes(
    rows: Rows,
    start: LinearGaussian,
    prior: LinearPrior | None = None,
    *,
    iterations: int = 2000,
    tolerance: float = 1e-9,
    rotate: bool = True,
    prune: bool = True,
) -> tuple[BayesianLinear, History]:
    """Bayesian factor analysis or PCA by coordinate ascent in q(Z) q(W, b) q(α) q(τ) (Bishop, 1999).

    The bound L = E_q[ln p(x, Z, W, b, α, τ) − ln q] ≤ ln p(x), all constants included, never falls. It is recorded
    after the update of q(Z) ("E") and after those of the parameters ("M"). Unlike in Bishop (1999), q(w_d, b_d) is
    joint for each column, which costs no more and is never worse. Missing entries are marginalised.

    q(Z) and q(W) change only slowly along rotations of the factors. With ``rotate`` each iteration also tries the
    rotation and shift of the factors that make E[Σ z zᵀ]/N = I and E[WᵀW] diagonal, which is the best one under a
    flat prior on α (Luttinen and Ilin, 2010), and keeps it if the bound gains.

    The ascent is local, and may end with a factor without which the bound is higher. With ``prune`` such factors are
    switched off at the end (``pruned``).

    Args:
        rows: the data. The prior is in their units, so standardise the columns or choose the prior.
        start: the centre of the first q. Its noise, isotropic or diagonal, decides whether there is one τ or D. Its
            prior of z must be standard. Its K is the largest possible number of factors.
        prior: the prior of the parameters; broad by default.
        iterations: the most iterations. tolerance: as in ``em``.

    Returns:
        The posterior of the parameters and the history (bounds only).

    Raises:
        DeclarationError: full noise, or a prior of z that is not standard. ShapeError: a start for other columns.

    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 1, generator=g) @ torch.ones(1, 5) + 0.3 * torch.randn(200, 5, generator=g)
    >>> from pyro_lfm.exact.linear.linear_gaussian import principal
    >>> rows = Rows.of(x)
    >>> posterior, history = variational_bayes(rows, principal(rows, 3))
    >>> posterior.rank(), history.converged
    (1, True)
    """
    prior = LinearPrior() if prior is None else prior
    if start.structure == "full":
        raise DeclarationError("variational Bayes serves isotropic and diagonal noise; got full")
    if len(start.bias) != rows.dim:
        raise ShapeError(f"start must be for the {rows.dim} columns of x; it has {len(start.bias)}")
    mean, covariance = start.prior
    if bool(mean.any()) or not torch.equal(covariance, torch.eye(len(mean), dtype=torch.float64)):
        raise DeclarationError("the prior of z must be standard in variational Bayes; W takes up its scale")
    pieces = None if rows.has_missing else list(rows.pieces())
    problem = _Problem(lambda: rows.pieces() if pieces is None else pieces, prior.bias_mean - rows.mean)

    def ascend(
        state: BayesianLinear, iterations: int = min(iterations, _TRIAL)
    ) -> tuple[BayesianLinear, History]:
        return coordinate_ascent(
            problem,
            state,
            _Rotation() if rotate else None,
            rows=rows.count,
            iterations=iterations,
            tolerance=tolerance,
            likelihood=False,
        )

    state, history = ascend(_start(rows, start, prior), iterations)
    if prune and history.converged:
        state, history = pruned(state, history, ascend, rows.count, tolerance)
        state = replace(state, needed=needed_factors(state, ascend, rows.count, tolerance))
    line = state.line.clone()
    line[:, -1] += rows.mean
    return replace(state, line=line), history


def _start(rows: Rows, start: LinearGaussian, prior: LinearPrior) -> BayesianLinear:
    """q centred on a point, for data minus their column means, as narrow as it would be after N rows of known z."""
    line = start.line.clone()
    line[:, -1] -= rows.mean
    covariance = torch.diag_embed((start.noise / rows.count).reshape(-1, 1).expand(-1, line.shape[1]))
    shape = prior.noise[0] + 0.5 * (rows.observed if start.noise.dim() else rows.observed.sum())
    noise = GammaDistribution(shape, shape * start.noise)
    needed = torch.tensor(float(line.shape[1] - 1), dtype=torch.float64)
    return BayesianLinear(line, covariance, relevance_of(line, covariance, prior), noise, needed, prior)


@dataclass(frozen=True)
class _EStep:
    """The moments of an E step. center: (D,), the prior mean of the bias minus the column means."""

    moments: Moments
    center: Tensor
    gap: float = 0.0

    def bound_at(self, q: BayesianLinear) -> float:
        return self.moments.bound(q.lines()) - _divergence(q, self.center)


@dataclass(frozen=True)
class _Problem:
    """The updates of q(Z) and of the parameters. center: (D,), the prior mean of the bias minus the column means."""

    pieces: Callable[[], Iterable[Piece]]
    center: Tensor

    def expect(self, q: BayesianLinear) -> _EStep:
        return _EStep(expect(q.lines(), self.pieces()), self.center)

    def improve(self, q: BayesianLinear, e_step: _EStep) -> BayesianLinear:
        """q(W, b), then q(τ), then q(α), each the best given the others."""
        moments, prior = e_step.moments, q.prior
        deviation = q.line.clone()
        deviation[:, -1] -= self.center
        scale = prior.precision(q.relevance.mean)
        tau = q.noise.mean.reshape(-1, 1)
        tril = torch.linalg.cholesky(torch.diag_embed(scale) + tau.unsqueeze(2) * moments.latent)
        covariance = torch.cholesky_inverse(tril)
        step = covariance @ (tau * moments.cross - deviation * scale).unsqueeze(2)
        line = q.line + step.squeeze(2)
        error = moments.residual(line) + (moments.latent * covariance).sum((1, 2))
        isotropic = q.noise.shape.dim() == 0
        rate = torch.as_tensor(prior.noise[1], dtype=torch.float64)
        noise = GammaDistribution(q.noise.shape, rate + 0.5 * (error.sum() if isotropic else error))
        return replace(
            q, line=line, covariance=covariance, relevance=relevance_of(line, covariance, prior), noise=noise
        )


class _Rotation:
    """Rotates and shifts the factors: z ← A(z − z̄), W ← W A⁻¹, b ← b + W z̄."""

    def propose(self, q: BayesianLinear, plain: BayesianLinear, e_step: _EStep) -> BayesianLinear:
        total, rows, width = e_step.moments.total, e_step.moments.rows, plain.line.shape[1]
        mean = total[:-1, -1] / rows
        values, vectors = torch.linalg.eigh(total[:-1, :-1] / rows - torch.outer(mean, mean))
        root = vectors * values.clamp(min=1e-300).sqrt()
        change = torch.eye(width, dtype=torch.float64)
        change[:-1, :-1], change[-1, :-1] = root.mT, mean
        line, covariance = _move(plain, change)
        inverse = torch.as_tensor(plain.prior.scale, dtype=torch.float64).square().reshape(-1, 1).reciprocal()
        inverse = inverse.expand(len(line), 1)
        energy = line.mT @ (inverse * line)
        energy = energy + (inverse.unsqueeze(2) * covariance.expand(len(line), -1, -1)).sum(0)
        change = torch.eye(width, dtype=torch.float64)
        change[:-1, :-1] = torch.linalg.eigh(energy[:-1, :-1]).eigenvectors.flip(1).mT
        line, covariance = _move(replace(plain, line=line, covariance=covariance), change)
        return replace(
            plain, line=line, covariance=covariance, relevance=relevance_of(line, covariance, plain.prior)
        )

    def accepted(self) -> None:
        """Changes nothing: a rotation does not depend on earlier ones."""

    def refused(self) -> None:
        """Changes nothing, as ``accepted``."""


def _move(q: BayesianLinear, change: Tensor) -> tuple[Tensor, Tensor]:
    """q(W, b) after (w, b) ← change · (w, b) for every column."""
    return q.line @ change.mT, change @ q.covariance @ change.mT


def _divergence(q: BayesianLinear, center: Tensor) -> float:
    """KL of q(W, b) q(α) q(τ) from the prior, in nats. Both biases are relative to the column means."""
    dim, width = q.line.shape
    prior = q.prior
    deviation = q.line.clone()
    deviation[:, -1] -= center
    precision = prior.precision(q.relevance.mean)
    square = q.covariance.diagonal(dim1=1, dim2=2) + deviation.square()
    log_det = torch.linalg.slogdet(q.covariance).logabsdet.expand(dim).sum()
    mean_log = prior.precision(q.relevance.mean_log.exp()).log().expand(dim, -1).sum()
    lines = 0.5 * ((precision * square).sum() - dim * width - mean_log - log_det)
    relevance, noise = (
        GammaDistribution(*(torch.as_tensor(value, dtype=torch.float64) for value in shape_and_rate))
        for shape_and_rate in (prior.relevance, prior.noise)
    )
    return float(lines + q.relevance.divergence(relevance) + q.noise.divergence(noise))
