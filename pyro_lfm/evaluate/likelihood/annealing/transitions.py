"""Transitions of Hamiltonian Monte Carlo that leave a density of the path invariant, whitened row by row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.evaluate.likelihood.annealing.path import Path, Points
from pyro_lfm.inference.blocks import Block

# A chain at a larger whitened distance from its start has diverged.
_FAR = 100.0


@dataclass(frozen=True)
class MassMatrix:
    """The mass matrices of rows: the precision of their points under the guide and under the posterior, (B, K, K).

    The path between two Gaussians consists of Gaussians with precision matrices on the line between theirs.
    """

    guide: Tensor
    posterior: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> MassMatrix:
        """The guide's covariance for both, as long as that of the posterior is not known."""
        precision = _inverse(covariance)
        return cls(precision, precision)

    def with_posterior(self, covariance: Tensor) -> MassMatrix:
        return MassMatrix(self.guide, _inverse(covariance))

    def root(self, beta: Tensor) -> Tensor:
        """The Cholesky factor of the covariance at β of each row, (B, K, K)."""
        beta = beta.reshape(-1, 1, 1).to(self.guide.dtype)
        return torch.linalg.cholesky(_inverse((1 - beta) * self.guide + beta * self.posterior))


def _inverse(matrix: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def covariance(u: Tensor) -> Tensor:
    """The covariance of each row's points (S, B, K), (B, K, K), its off-diagonal entries shrunk for few points."""
    chains, _, size = u.shape
    centred = (u - u.mean(0)).double()
    sample = torch.einsum("sbk,sbl->bkl", centred, centred) / (chains - 1)
    kept = chains / (chains + size)
    spread = sample.diagonal(dim1=1, dim2=2).clamp_min(1e-12)
    return kept * sample + torch.diag_embed((1 - kept) * spread + 1e-9 * spread)


def transition(
    path: Path,
    block: Block,
    start: Points,
    beta: Tensor,
    step: Tensor,
    root: Tensor,
    leaps: int,
) -> tuple[Points, Tensor]:
    """One step of Hamiltonian Monte Carlo for every chain, with a Metropolis test, reversible with respect to f_β.

    Args:
        beta, step: β and step length of each row, (B,). The step of each chain is multiplied by a random number in
            (0.7, 1.1), which avoids the period of the motion.
        root: A of each row, (B, K, K). Momenta are standard normal in the space of A⁻¹ u.

    Returns:
        The points after the step, and the acceptance probabilities, (S, B).
    """
    root = root.to(start.u.dtype)
    now, gradient = path.at(block, start.u, beta)
    momentum = torch.randn_like(now.u)
    length = step.to(now.u.dtype) * (0.7 + 0.4 * torch.rand_like(now.log_q))
    length = length.unsqueeze(-1)
    energy = now.log_density(beta).double() - 0.5 * momentum.double().square().sum(-1)
    momentum = momentum + 0.5 * length * _whitened(root, gradient)
    moved, shift = now, torch.zeros_like(momentum)
    lost = torch.zeros_like(now.log_q, dtype=torch.bool)
    for leap in range(leaps):
        shift = shift + length * momentum
        u = now.u + torch.einsum("bkl,sbl->sbk", root, shift)
        # A diverged chain stays where it was, as distributions raise errors for its values.
        lost = lost | ~(shift.abs() < _FAR).all(-1) | ~path.within(u)
        moved, gradient = path.at(block, torch.where(lost.unsqueeze(-1), now.u, u), beta)
        momentum = momentum + (0.5 if leap == leaps - 1 else 1.0) * length * _whitened(root, gradient)
    after = moved.log_density(beta).double() - 0.5 * momentum.double().square().sum(-1)
    # A point whose density is NaN is never accepted.
    chance = (after - energy).nan_to_num(nan=-torch.inf).clamp_max(0.0).exp().masked_fill(lost, 0.0)
    return moved.where(torch.rand_like(chance) < chance, now), chance


def _whitened(root: Tensor, gradient: Tensor) -> Tensor:
    return torch.einsum("bkl,sbk->sbl", root, gradient)
