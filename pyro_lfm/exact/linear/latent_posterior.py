"""The E step that EM, variational EM and variational Bayes of linear Gaussian models share.

Each column of the data is linear in the latents, x_d = β_d · (z, u) + noise of precision τ_d, β_d = (w_d, b_d). The
intercept u is 1, or another number for weighted rows. β_d is called the line of column d. The noise of the columns is
independent, so leaving out the missing columns of a row marginalises them exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from pyro_lfm.exact.gap_patterns import Patterns, patterns
from pyro_lfm.exact.linear.rows import Piece


@dataclass(frozen=True, eq=False)
class Lines:
    """The D lines, known or with a posterior, and the prior p(z) = N(prior_mean, prior_covariance).

    line: (D, K + 1), β or its expectation. covariance: that of β, (D or 1, K + 1, K + 1); None if β is known.
    precision, log_precision: (D,), τ and ln τ or their expectations. prior_mean: (K,). prior_covariance: (K, K).
    """

    line: Tensor
    precision: Tensor
    log_precision: Tensor
    prior_mean: Tensor
    prior_covariance: Tensor
    covariance: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Latents:
    """The optimal q(z) = N(mean, M⁻¹) of R rows, whose P patterns of observed columns share M.

    mean: (R, K). precision: (P, K, K), M. covariance: (P, K, K), M⁻¹. log_det: (P,), ln |M|.
    residual: (R, D), x − β·(mean, u), 0 where missing.
    observed: (P, D), 1 where observed. pattern: (R,), the pattern of each row.
    """

    mean: Tensor
    precision: Tensor
    covariance: Tensor
    log_det: Tensor
    residual: Tensor
    observed: Tensor
    pattern: Tensor


def infer(lines: Lines, values: Tensor, intercept: Tensor, gaps: Patterns | None = None) -> Latents:
    """The posterior of z for each row: M = S⁻¹ + Σ_d τ_d E[w_d w_dᵀ] over the observed d (Bishop, 2006, eq. 12.41).

    It costs O(P D K²), without any D×D matrix.

    Args:
        values: (R, D). intercept: (R,).
        gaps: the patterns of the missing entries, where they are known.
    """
    dim = values.shape[1]
    latent_dim = lines.line.shape[1] - 1
    missing = values.isnan()
    seen, pattern = patterns(values) if gaps is None else gaps
    observed = seen.to(values.dtype)
    weight, bias = lines.line[:, :-1], lines.line[:, -1]
    prior = torch.cholesky_inverse(torch.linalg.cholesky(lines.prior_covariance))
    weighted = observed * lines.precision
    difference = (values - intercept.unsqueeze(1) * bias).masked_fill(missing, 0.0)
    pull = (difference * lines.precision) @ weight + intercept.unsqueeze(1) * (prior @ lines.prior_mean)
    rest, second = prior.unsqueeze(0), weight.unsqueeze(2) * weight.unsqueeze(1)
    alone = len(observed) == 1
    if lines.covariance is not None:
        spread = lines.covariance.expand(dim, -1, -1)
        pull = pull - intercept.unsqueeze(1) * (weighted @ spread[:, :-1, -1])[pattern]
        if alone:
            rest = rest + (weighted @ spread[:, :-1, :-1].flatten(1)).unflatten(1, (latent_dim, latent_dim))
        else:
            second = second + spread[:, :-1, :-1]
    if alone:
        # M = RᵀR from an orthogonal factorisation, which keeps the digits that WᵀΨ⁻¹W loses where noise is small.
        stacked = torch.cat([weight * weighted[0].sqrt().unsqueeze(1), torch.linalg.cholesky(rest[0]).mT])
        upper = torch.linalg.qr(stacked, mode="r").R
        tril = (upper * upper.diagonal().sign().unsqueeze(1)).mT.unsqueeze(0)
    else:
        tril = torch.linalg.cholesky(rest + (weighted @ second.flatten(1)).unflatten(1, rest.shape[1:]))
    precision = tril @ tril.mT
    covariance = torch.cholesky_inverse(tril)
    if alone:
        mean = torch.cholesky_solve(pull.mT, tril[0]).mT
    else:
        mean = torch.cholesky_solve(pull.unsqueeze(2), tril[pattern]).squeeze(2)
    residual = (difference - mean @ weight.mT).masked_fill(missing, 0.0)
    log_det = 2 * tril.diagonal(dim1=1, dim2=2).log().sum(1)
    return Latents(mean, precision, covariance, log_det, residual, observed, pattern)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over rows of expectations under q(z), from which the M step and the bound are computed.

    Residuals e = x − β·(z, u) are those of the ``lines`` of the E step. They are summed directly, so that noise far
    smaller than the data keeps its digits.

    rows: N, or the sum of weights. observed: (D,), entries per column.
    latent: (D or 1, K + 1, K + 1), Σ E[(z, u)(z, u)ᵀ] over the rows where column d is observed.
    cross: (D, K + 1), Σ E[e (z, u)]. square: (D,), Σ E[e²]. total: (K + 1, K + 1), Σ E[(z, u)(z, u)ᵀ] over all rows.
    log_volume: Σ ½ ln |Cov q|. gap: Σ KL(q ‖ p(z | x)) in nats.
    """

    lines: Lines
    rows: float
    observed: Tensor
    latent: Tensor
    cross: Tensor
    square: Tensor
    total: Tensor
    log_volume: float
    gap: float

    def residual(self, line: Tensor) -> Tensor:
        """Σ E[(x_d − β_d·(z, u))²] over the rows where d is observed, (D,), for lines (D, K + 1)."""
        step = line - self.lines.line
        moved = (step.unsqueeze(1) @ self.latent).squeeze(1)
        return (self.square + ((moved - 2 * self.cross) * step).sum(1)).clamp(min=0.0)

    def spread_of_latents(self, mean: Tensor) -> Tensor:
        """The mean over rows of E[(z − mean)(z − mean)ᵀ], (K, K)."""
        shift = torch.cat([torch.eye(len(mean), dtype=torch.float64), -mean.unsqueeze(1)], 1)
        return shift @ self.total @ shift.mT / self.rows

    def bound(self, lines: Lines) -> float:
        """E[ln p(x, z)] − E[ln q(z)] with this q(z) and any lines, in nats, summed over rows."""
        error = self.residual(lines.line)
        if lines.covariance is not None:
            error = error + (self.latent * lines.covariance).sum((1, 2))
        data = (self.observed * (log(2 * pi) - lines.log_precision) + lines.precision * error).sum()
        tril = torch.linalg.cholesky(lines.prior_covariance)
        spread = self.rows * self.spread_of_latents(lines.prior_mean)
        prior = torch.cholesky_solve(spread, tril).trace() - self.rows * len(tril)
        prior = prior + 2 * self.rows * tril.diagonal().log().sum()
        return float(-0.5 * (data + prior)) + self.log_volume


def expect(lines: Lines, pieces: Iterable[Piece], *, factorised: bool = False) -> Moments:
    """The E step: moments under the best Gaussian q(z) of each row, or under the best fully factorised one.

    The best factorised q(z) = ∏ N(z_j; m_j, 1/M_jj) has the means of the full posterior: coordinate ascent over j solves
    M m = h by Gauss-Seidel sweeps, and here the system is solved directly.
    """
    dim, width = lines.line.shape
    weight = lines.line[:, :-1]
    rows: float = 0
    log_volume, gap = 0.0, 0.0
    observed, square = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    cross, total = torch.zeros_like(lines.line), torch.zeros(width, width, dtype=torch.float64)
    latent = torch.zeros(1, width, width, dtype=torch.float64)
    for piece in pieces:
        latents = infer(lines, piece.values, piece.intercept, piece.patterns)
        complete = len(latents.observed) == 1 and bool(latents.observed.all())
        repeats = torch.bincount(latents.pattern, piece.weights, len(latents.observed)).double()
        if complete:
            repeats = repeats.new_tensor([piece.rows])
        covariance, diagonal = latents.covariance, latents.precision.diagonal(dim1=1, dim2=2)
        excess = 0.5 * (diagonal.log().sum(1) - latents.log_det) if factorised else torch.zeros_like(repeats)
        if factorised:
            covariance = torch.diag_embed(1 / diagonal)
        gap += float(repeats @ excess)
        log_volume -= float(repeats @ (0.5 * latents.log_det + excess))
        design = torch.cat([latents.mean, piece.intercept.unsqueeze(1)], 1)
        spread = torch.nn.functional.pad(covariance, (0, 1, 0, 1))
        everything = design.mT @ design + (repeats.reshape(-1, 1, 1) * spread).sum(0)
        if complete:
            here, spread = everything.unsqueeze(0), piece.rows * spread
        else:
            weights = latents.observed.mT * repeats
            spread = (weights @ spread.flatten(1)).reshape(dim, width, width)
            outer = (design.unsqueeze(2) * design.unsqueeze(1)).flatten(1)
            of_pattern = outer.new_zeros(len(repeats), width**2).index_add_(0, latents.pattern, outer)
            here = (latents.observed.mT @ of_pattern).reshape(dim, width, width) + spread
        # Under q the residual deviates from that at the mean by −w·(z − mean).
        deviation = (weight.unsqueeze(1) @ spread[:, :-1, :-1]).squeeze(1)
        square += latents.residual.square().sum(0) + (deviation * weight).sum(1)
        cross += latents.residual.mT @ design
        cross[:, :-1] -= deviation
        latent = latent + here
        total += everything
        observed += latents.observed.mT @ repeats
        rows += piece.rows
    return Moments(lines, rows, observed, latent, cross, square, total, log_volume, gap)
