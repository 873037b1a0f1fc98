"""Draws from a density given what is asked, p(u) exp(−E(u)), by annealed sequential Monte Carlo."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pyro_lfm.attributes.weighted_particles import next_temperature, resampled

# The fewest particles, the most that move together, and how many draws of the pool are to carry weight for each of them.
_FEWEST, _MOST, _EACH = 128, 2000, 4
# The effective part of the particles that a step of the temperature keeps, and the most steps.
_KEPT, _MOST_STEPS = 0.5, 40
# Leapfrog steps of a move, moves at a temperature, and at the last.
_LEAPS, _MOVES, _LAST = 6, 1, 3
# The first step size and the longest, in units of the curvature.
_FIRST, _LONGEST = 0.5, 1.0


class Target(Protocol):
    """p(u) exp(−β E(u)) of particles: codes (B, U), and the places (B,) of the draws in the pool from which they came."""

    def energy(self, codes: Tensor, places: Tensor) -> Tensor:
        """E(u), (B,)."""

    def log_prob(self, codes: Tensor, places: Tensor, beta: float) -> Tensor:
        """ln p(u) − β E(u) up to a constant, (B,)."""

    def slopes(self, codes: Tensor, places: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """About the gradient of the same, (B, U), which may be that of an approximation, and its mean curvature, (U, U)."""


def conditional_draws(
    target: Target, pool: Tensor, energies: Tensor, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Codes (n, U) from p(u) exp(−E(u)), and the places (n,) of the draws in the pool from which they came.

    Particles are chosen among draws of the density at a temperature at which many of these carry weight. Then the
    temperature falls in steps, each so small that half of the particles stay effective. After each step they are drawn by
    their weights (systematic resampling) and moved by Hamiltonian Monte Carlo. So they end where E is small, and are spread
    as the density is in all that E does not concern.

    Args:
        pool: draws of p(u), (M, U). energies: E(u) of each, (M,).

    Source: Del Moral, Doucet and Jasra (2006), "Sequential Monte Carlo samplers".
    """
    parts = [
        _particles(target, pool, energies, min(_MOST, n - start), generator) for start in range(0, n, _MOST)
    ]
    codes, places = zip(*parts, strict=True)
    return torch.cat(codes), torch.cat(places)


def _particles(
    target: Target, pool: Tensor, energies: Tensor, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    count = max(n, _FEWEST)
    beta = next_temperature(energies, 0.0, min(_EACH * count / len(pool), _KEPT))
    places = resampled(-beta * energies, count, generator)
    codes, step = pool[places], _FIRST
    for _ in range(_MOST_STEPS):
        last = beta == 1.0
        for _ in range(_LAST if last else _MOVES):
            codes, step = _move(target, codes, places, beta, step, generator)
        if last:
            break
        energy = target.energy(codes, places)
        following = next_temperature(energy, beta, _KEPT)
        chosen = resampled(-(following - beta) * energy, count, generator)
        codes, places, beta = codes[chosen], places[chosen], following
    some = torch.randperm(count, generator=generator)[:n]
    return codes[some], places[some]


def _move(
    target: Target, codes: Tensor, places: Tensor, beta: float, step: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """One move of Hamiltonian Monte Carlo of every particle, and the next step size."""
    slope, curvature = target.slopes(codes, places, beta)
    # Momenta have the mean curvature as their covariance: steps then fit in all directions.
    root = torch.linalg.cholesky(curvature)
    inverse = torch.cholesky_inverse(root)
    momentum = torch.randn(codes.shape, generator=generator, dtype=torch.float64) @ root.T
    energy = 0.5 * ((momentum @ inverse) * momentum).sum(1) - target.log_prob(codes, places, beta)
    length = step * (0.8 + 0.4 * float(torch.rand((), generator=generator)))
    new = codes
    for _ in range(_LEAPS):
        momentum = momentum + 0.5 * length * slope
        new = new + length * momentum @ inverse
        slope, _ = target.slopes(new, places, beta)
        momentum = momentum + 0.5 * length * slope
    # Whatever slopes guided it, a path is reversible and keeps volumes, so that it is accepted by its energies alone.
    moved = 0.5 * ((momentum @ inverse) * momentum).sum(1) - target.log_prob(new, places, beta)
    accept = (energy - moved).nan_to_num(-torch.inf).clamp_max(0).exp()
    taken = torch.rand(len(codes), generator=generator, dtype=torch.float64) < accept
    rate = float(accept.mean())
    step = min(_LONGEST, step * (1.3 if rate > 0.8 else 0.6 if rate < 0.5 else 1.0))
    return torch.where(taken.unsqueeze(1), new, codes), step
