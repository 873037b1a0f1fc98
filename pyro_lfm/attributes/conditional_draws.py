"""Draws of codes from the latent density given what is asked: p(u) exp(−Σ e²/2), by annealed sequential Monte Carlo."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.attributes.density import Density
from pyro_lfm.attributes.requests import Request

# The fewest particles, the most that move together, and how many draws of the pool are to carry weight for each of them.
_FEWEST, _MOST, _EACH = 128, 2000, 4
# The effective part of the particles that a step of the temperature keeps, and the most steps.
_KEPT, _MOST_STEPS = 0.5, 40
# Leapfrog steps of a move, moves at a temperature, and at the last.
_LEAPS, _MOVES, _LAST = 6, 1, 3
# The first step size and the longest, in units of the curvature.
_FIRST, _LONGEST = 0.5, 1.0


def conditional_draws(
    density: Density, request: Request, pool: Tensor, energies: Tensor, n: int, generator: torch.Generator
) -> Tensor:
    """Codes (n, U) from p(u) exp(−Σ e²/2).

    Particles are chosen among draws of the density at a temperature at which many of these carry weight. Then the temperature
    falls in steps, each so small that half of the particles stay effective. After each step they are drawn by their weights
    (systematic resampling) and moved by Hamiltonian Monte Carlo. So they end where the request is met, and are spread as
    the density is in all that was not asked for.

    Args:
        pool: draws of the density, (M, U). energies: Σ e²/2 of each.

    Source: Del Moral, Doucet and Jasra (2006), "Sequential Monte Carlo samplers".
    """
    parts = [min(_MOST, n - start) for start in range(0, n, _MOST)]
    return torch.cat([_particles(density, request, pool, energies, part, generator) for part in parts])


def _particles(
    density: Density, request: Request, pool: Tensor, energies: Tensor, n: int, generator: torch.Generator
) -> Tensor:
    count = max(n, _FEWEST)
    beta = _next(energies, 0.0, min(_EACH * count / len(pool), _KEPT))
    codes = pool[_resampled(-beta * energies, count, generator)]
    step = _FIRST
    for _ in range(_MOST_STEPS):
        last = beta == 1.0
        for _ in range(_LAST if last else _MOVES):
            codes, step = _move(density, request, codes, beta, step, generator)
        if last:
            break
        energy = request.energy(request.readings.outputs(codes))
        following = _next(energy, beta, _KEPT)
        codes = codes[_resampled(-(following - beta) * energy, count, generator)]
        beta = following
    return codes[torch.randperm(count, generator=generator)[:n]]


def _next(energy: Tensor, beta: float, kept: float) -> float:
    """The largest inverse temperature up to 1 at which the effective part of the particles is at least ``kept``."""

    def effective(following: float) -> float:
        log_weights = -(following - beta) * energy
        return float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()) / len(energy)

    if effective(1.0) >= kept:
        return 1.0
    low, high = 0.0, 1.0 - beta
    while low == 0.0 or high / low > 1.01:
        # Steps of temperature span orders of magnitude.
        middle = (low * high) ** 0.5 if low else high / 16
        low, high = (middle, high) if effective(beta + middle) >= kept or middle < 1e-12 else (low, middle)
    return beta + low


def _resampled(log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Systematic resampling: the places of ``count`` particles."""
    cumulated = log_weights.softmax(0).cumsum(0)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    points = (torch.arange(count, dtype=torch.float64) + start) / count
    return torch.searchsorted(cumulated, points).clamp_max(len(log_weights) - 1)


def _move(
    density: Density, request: Request, codes: Tensor, beta: float, step: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """One move of Hamiltonian Monte Carlo of every particle, and the next step size."""
    start, slope, jacobian = _target(density, request, codes, beta)
    # The curvature of the target, after Gauss and Newton, averaged over the particles: steps then fit in all directions.
    flat = jacobian.flatten(0, 1)
    root = torch.linalg.cholesky(density.precision(codes) + beta * flat.T @ flat / len(codes))
    inverse = torch.cholesky_inverse(root)
    momentum = torch.randn(codes.shape, generator=generator, dtype=torch.float64) @ root.T
    start = start - 0.5 * ((momentum @ inverse) * momentum).sum(1)
    length = step * (0.8 + 0.4 * float(torch.rand((), generator=generator)))
    new = codes
    for _ in range(_LEAPS):
        momentum = momentum + 0.5 * length * slope
        new = new + length * momentum @ inverse
        end, slope, _ = _target(density, request, new, beta)
        momentum = momentum + 0.5 * length * slope
    log_ratio = end - 0.5 * ((momentum @ inverse) * momentum).sum(1) - start
    accept = log_ratio.nan_to_num(-torch.inf).clamp_max(0).exp()
    taken = torch.rand(len(codes), generator=generator, dtype=torch.float64) < accept
    rate = float(accept.mean())
    step = min(_LONGEST, step * (1.3 if rate > 0.8 else 0.6 if rate < 0.5 else 1.0))
    return torch.where(taken.unsqueeze(1), new, codes), step


def _target(density: Density, request: Request, codes: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """ln p(u) − β Σ e²/2, its gradient, and the Jacobian of e."""
    log_density, slope = density.value_and_gradient(codes)
    residual, jacobian = request.residuals(codes)
    value = log_density - 0.5 * beta * residual.square().sum(1)
    return value, slope - beta * torch.einsum("ba,bau->bu", residual, jacobian), jacobian
