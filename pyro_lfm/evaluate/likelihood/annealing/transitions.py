"""Hamiltonian transitions that leave a density of the path as it is, whitened row by row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.evaluate.likelihood.annealing.path import Path, Points
from pyro_lfm.inference.blocks import Block

# Whitened, a chain that is further from where it started than this has diverged.
_FAR = 100.0


@dataclass(frozen=True)
class Metric:
    """Precision matrices of a row's points under the guide and under the posterior, (B, K, K), and those between.

    Between two Gaussians the path goes through Gaussians whose precision matrices lie on the line between theirs.
    """

    guide: Tensor
    posterior: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> Metric:
        """As long as nothing is known of the posterior: the guide's covariance for both."""
        found = _inverse(covariance)
        return cls(found, found)

    def with_posterior(self, covariance: Tensor) -> Metric:
        return Metric(self.guide, _inverse(covariance))

    def root(self, beta: Tensor) -> Tensor:
        """The Cholesky factor of the covariance at β of each row, (B, K, K)."""
        beta = beta.reshape(-1, 1, 1).to(self.guide.dtype)
        return torch.linalg.cholesky(_inverse((1 - beta) * self.guide + beta * self.posterior))


def _inverse(matrix: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def covariance(u: Tensor) -> Tensor:
    """Of each row's points (S, B, K) the covariance, (B, K, K), its entries off the diagonal shrunk as few points ask."""
    chains, _, size = u.shape
    centred = (u - u.mean(0)).double()
    found = torch.einsum("sbk,sbl->bkl", centred, centred) / (chains - 1)
    kept = chains / (chains + size)
    spread = found.diagonal(dim1=1, dim2=2).clamp_min(1e-12)
    return kept * found + torch.diag_embed((1 - kept) * spread + 1e-9 * spread)


def transition(
    path: Path,
    block: Block,
    start: Points,
    beta: Tensor,
    step: Tensor,
    root: Tensor,
    leaps: int,
) -> tuple[Points, Tensor]:
    """One step of Hamiltonian Monte Carlo for every chain, with Metropolis's test: reversible in f_β.

    Args:
        beta, step: of each row, (B,). The step of each chain is it times a number in (0.7, 1.1), drawn anew, so that no
            period of the motion is met.
        root: A of each row, (B, K, K): momenta are standard in the space of A⁻¹ u.

    Returns:
        The points after it, and how probable it was that each was gone to, (S, B).
    """
    root = root.to(start.u.dtype)
    now, gradient = path.at(block, start.u, beta)
    momentum = torch.randn_like(now.u)
    length = step.to(now.u.dtype) * (0.7 + 0.4 * torch.rand_like(now.log_q))
    length = length.unsqueeze(-1)
    energy = now.log_density(beta).double() - 0.5 * momentum.double().square().sum(-1)
    momentum = momentum + 0.5 * length * _whitened(root, gradient)
    moved, way = now, torch.zeros_like(momentum)
    lost = torch.zeros_like(now.log_q, dtype=torch.bool)
    for leap in range(leaps):
        way = way + length * momentum
        u = now.u + torch.einsum("bkl,sbl->sbk", root, way)
        # A chain that flies off would show the distributions numbers that they refuse: it stays where it was.
        lost = lost | ~(way.abs() < _FAR).all(-1) | ~path.within(u)
        moved, gradient = path.at(block, torch.where(lost.unsqueeze(-1), now.u, u), beta)
        momentum = momentum + (0.5 if leap == leaps - 1 else 1.0) * length * _whitened(root, gradient)
    after = moved.log_density(beta).double() - 0.5 * momentum.double().square().sum(-1)
    # A point where the density cannot be computed is never gone to.
    chance = (after - energy).nan_to_num(nan=-torch.inf).clamp_max(0.0).exp().masked_fill(lost, 0.0)
    return moved.where(torch.rand_like(chance) < chance, now), chance


def _whitened(root: Tensor, gradient: Tensor) -> Tensor:
    return torch.einsum("bkl,sbk->sbl", root, gradient)
