"""The E and M steps of EM for linear Gaussian models whose noise covariance is a fixed full matrix."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import log, pi

import torch
from torch import Tensor

from pyro_lfm.exact.linear.latent_posterior import Lines, infer
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian
from pyro_lfm.exact.linear.m_step import free_step
from pyro_lfm.exact.linear.quasi_newton_ascent import Slope
from pyro_lfm.exact.linear.rows import Rows


@dataclass(frozen=True, eq=False)
class FullMoments:
    """Sums over rows of expectations under q(z, x_missing). The residuals e = x − β·(z, u) are those of the E step's β.

    line: (D, K + 1), β. total: (K + 1, K + 1), Σ E[(z, u)(z, u)ᵀ]. cross: (D, K + 1), Σ E[e (z, u)ᵀ].
    scatter: (D, D), Σ E[e eᵀ]. entropy: that of q(z, x_missing) in nats, summed over rows.
    """

    line: Tensor
    rows: float
    total: Tensor
    cross: Tensor
    scatter: Tensor
    entropy: float
    gap: float = 0.0

    def bound_at(self, model: LinearGaussian) -> float:
        step = model.line - self.line
        scatter = self.scatter - step @ self.cross.mT - self.cross @ step.mT + step @ self.total @ step.mT
        mean, covariance = model.prior
        cost = _gaussian_cost(model.noise, scatter, self.rows)
        cost = cost + _gaussian_cost(covariance, _about(self.total, mean), self.rows)
        return self.entropy - 0.5 * float(cost)

    def slope(self, model: LinearGaussian) -> Slope:
        """The gradient of ln p of all rows in (W, b) at the model of the E step. Noise and prior are fixed."""
        zero = torch.zeros(())
        return Slope(torch.linalg.solve(model.noise, self.cross), zero, zero)


@dataclass(frozen=True)
class FullNoise:
    """The two steps of EM. Missing entries are latent variables beside z, so the M step stays least squares.

    The residual of the missing columns given that of the observed ones is e_m = Ψ_mo Ψ_oo⁻¹ e_o + η with
    η ~ N(0, Ψ_mm − Ψ_mo Ψ_oo⁻¹ Ψ_om). An iteration costs O(D³) per pattern of missing entries in a block.
    """

    rows: Rows
    free: Collection[str]

    def expect(self, model: LinearGaussian) -> FullMoments:
        dim, latent_dim = model.weight.shape
        total = torch.zeros(latent_dim + 1, latent_dim + 1, dtype=torch.float64)
        cross = torch.zeros(dim, latent_dim + 1, dtype=torch.float64)
        scatter = torch.zeros(dim, dim, dtype=torch.float64)
        entropy = 0.0
        for piece in self.rows.pieces():
            for number, seen in enumerate(piece.patterns.observed):
                index = piece.patterns.own == number
                values, intercept = piece.values[index][:, seen], piece.intercept[index]
                count = piece.rows
                if self.rows.has_missing:
                    count = float(index.sum() if piece.weights is None else piece.weights[index].sum())
                observed, tril = _whitened(model, seen)
                white = torch.linalg.solve_triangular(tril, values.mT, upper=False).mT
                latents = infer(observed, white, intercept)
                covariance = latents.covariance[0]
                design = torch.cat([latents.mean, intercept.unsqueeze(1)], 1)
                spread = count * torch.nn.functional.pad(covariance, (0, 1, 0, 1))
                weight = tril @ observed.line[:, :-1]
                residual = latents.residual @ tril.mT
                regression, conditional = _regression(model.noise, seen)
                total += design.mT @ design + spread
                observed_cross = residual.mT @ design
                observed_cross[:, :-1] -= count * weight @ covariance
                cross += regression @ observed_cross
                inner = residual.mT @ residual + count * weight @ covariance @ weight.mT
                scatter += regression @ inner @ regression.mT
                missing = ~seen
                scatter[missing.unsqueeze(1) & missing] += count * conditional.flatten()
                unseen = int(missing.sum())
                entropy += 0.5 * count * (latent_dim + unseen) * (1 + log(2 * pi))
                entropy += 0.5 * count * float(conditional.logdet() if unseen else 0.0)
                entropy -= 0.5 * count * float(latents.log_det[0])
        return FullMoments(model.line, self.rows.count, total, cross, scatter, entropy)

    def improve(self, model: LinearGaussian, e_step: FullMoments) -> LinearGaussian:
        line = e_step.line + free_step(e_step.total.unsqueeze(0), e_step.cross, self.free)
        return replace(model, weight=line[:, :-1], bias=line[:, -1])


def _whitened(model: LinearGaussian, seen: Tensor) -> tuple[Lines, Tensor]:
    """The model of the observed columns (maybe none) with whitened noise, and the Cholesky factor of their noise."""
    tril = torch.linalg.cholesky(model.noise[seen][:, seen])
    line = torch.linalg.solve_triangular(tril, model.line[seen], upper=False)
    unit = torch.ones(len(line), dtype=torch.float64)
    mean, covariance = model.prior
    return Lines(line, unit, torch.zeros_like(unit), mean, covariance), tril


def _regression(noise: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The regression of the noise of all columns on that of the observed ones, (D, D_o), and the conditional
    covariance of the noise of the missing ones, (D_m, D_m)."""
    missing = ~seen
    regression = torch.zeros(len(seen), int(seen.sum()), dtype=torch.float64)
    regression[seen] = torch.eye(int(seen.sum()), dtype=torch.float64)
    between = noise[missing][:, seen]
    solved = torch.linalg.solve(noise[seen][:, seen], between.mT).mT
    regression[missing] = solved
    conditional = noise[missing][:, missing] - solved @ between.mT
    return regression, (conditional + conditional.mT) / 2


def _gaussian_cost(covariance: Tensor, scatter: Tensor, rows: float) -> Tensor:
    """−2 Σ ln N(· ; 0, covariance) for rows with this scatter matrix."""
    tril = torch.linalg.cholesky(covariance)
    log_det = 2 * tril.diagonal().log().sum()
    return rows * (len(tril) * log(2 * pi) + log_det) + torch.cholesky_solve(scatter, tril).trace()


def _about(total: Tensor, mean: Tensor) -> Tensor:
    """Σ E[(z − mean)(z − mean)ᵀ] from Σ E[(z, u)(z, u)ᵀ]."""
    shift = torch.cat([torch.eye(len(mean), dtype=torch.float64), -mean.unsqueeze(1)], 1)
    return shift @ total @ shift.mT
