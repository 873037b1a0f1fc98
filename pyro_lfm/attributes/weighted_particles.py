"""Weighted particles: choices by weight, and temperatures that keep enough of them; for densities and their draws."""

from __future__ import annotations

import torch
from torch import Tensor


def next_temperature(energy: Tensor, beta: float, kept: float) -> float:
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


def resampled(log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Systematic resampling: the places of ``count`` particles."""
    cumulated = log_weights.softmax(0).cumsum(0)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    points = (torch.arange(count, dtype=torch.float64) + start) / count
    return torch.searchsorted(cumulated, points).clamp_max(len(log_weights) - 1)
