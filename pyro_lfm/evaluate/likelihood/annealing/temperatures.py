"""Tuning: the temperatures and step lengths of each row, from separate chains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.evaluate.likelihood.annealing.path import Path
from pyro_lfm.evaluate.likelihood.annealing.transitions import MassMatrix, covariance, transition
from pyro_lfm.inference.blocks import Block

# Standard deviation of the increments of log w between two knots, in nats, of the first and of the second walk.
_STRIDES = (2.0, 1.0)
# The most knots, transitions at every knot, and rounds of transitions at the posterior.
_KNOTS, _TRANSITIONS, _ROUNDS = 200, 2, 3
# Rate of adaptation of the step length, and target acceptance.
_RATE, _TARGET = 0.4, 0.8
_QUARTER = 0.5 * math.pi


@dataclass(frozen=True)
class Schedule:
    """Temperatures and step lengths, fixed before chains start, so that their weights are unbiased.

    Attributes:
        beta: 0 = β₀ < … < β_T = 1 of each row, (T + 1, B).
        step: the step length of transitions at each, (T + 1, B).
        mass: the mass matrices of the rows.
    """

    beta: Tensor
    step: Tensor
    mass: MassMatrix


def find_schedule(path: Path, block: Block, temperatures: int, leaps: int) -> Schedule:
    """Temperatures that are equally far apart, in standard deviations of the increments of log w.

    Chains move from knot to knot, each row by its own increments Δβ = stride / sd(log w), with log w of the row's chains.
    The step length adapts to an acceptance of 0.8. A first walk estimates the covariance of the posterior, and a second one
    the temperatures. Source for equal distances: Gelman and Meng (1998), section 4.3; Grosse, Maddison and Salakhutdinov
    (2013).
    """
    mass = None
    for stride in _STRIDES:
        walk = _Walk(path, block, mass, leaps)
        walk.go(stride)
        mass = walk.mass
    knots, distance, sizes = torch.stack(walk.betas), torch.stack(walk.distances), torch.stack(walk.steps)
    shares = torch.linspace(0, 1, temperatures + 1, dtype=knots.dtype, device=knots.device).unsqueeze(1)
    beta, step = (_interpolated(shares, distance, values) for values in (knots, sizes))
    return Schedule(beta, step, walk.mass)


class _Walk:
    """Chains that move from the guide to the posterior, and the knots that they pass."""

    def __init__(self, path: Path, block: Block, mass: MassMatrix | None, leaps: int):
        self.path, self.block, self.leaps = path, block, leaps
        u = path.draw(block)
        if mass is None:
            mass = MassMatrix.of(covariance(u))
        self.mass = mass
        self.beta = torch.zeros(u.shape[1], dtype=torch.float64, device=u.device)
        # The usual scaling of the step with the dimension.
        self.step = torch.full_like(self.beta, float(u.shape[2]) ** -0.25)
        self.points, _ = path.at(block, u, self.beta)
        self.betas: list[Tensor] = []
        self.steps: list[Tensor] = []
        self.distances = [torch.zeros_like(self.beta)]

    def go(self, stride: float) -> None:
        """Moves all chains to the posterior, and tunes the mass matrix there."""
        self._stay(_TRANSITIONS)
        while bool((self.beta < 1).any()):
            spread = self.points.log_w.double().std(0).clamp_min(1e-12)
            change = 1 - self.beta
            if len(self.betas) < _KNOTS:
                change = change.minimum(stride / spread)
            self.beta = self.beta + change
            self.distances.append(self.distances[-1] + change * spread)
            self._stay(_TRANSITIONS)
        for _ in range(_ROUNDS):
            self.mass = self.mass.with_posterior(covariance(self.points.u))
            self._move(_TRANSITIONS)
        self.steps[-1] = self.step

    def _stay(self, transitions: int) -> None:
        self._move(transitions)
        self.betas.append(self.beta)
        self.steps.append(self.step)

    def _move(self, transitions: int) -> None:
        root = self.mass.root(self.beta)
        for _ in range(transitions):
            self.points, chance = transition(
                self.path, self.block, self.points, self.beta, self.step, root, self.leaps
            )
            step = self.step * (_RATE * (chance.mean(0) - _TARGET)).exp()
            # Trajectories of a quarter of a whitened Gaussian's period decorrelate best. After half of it a chain is at the
            # opposite point.
            self.step = step.clamp_max(_QUARTER / self.leaps)


def _interpolated(share: Tensor, distance: Tensor, values: Tensor) -> Tensor:
    """Values (knots, B) at shares (T + 1, 1) of the whole distance of each row, linear between knots."""
    # Knots after a row's last are at its end. A row without distance has even shares.
    even = torch.linspace(0, 1, len(distance), dtype=distance.dtype, device=distance.device).unsqueeze(1)
    whole = distance[-1]
    along = torch.where(whole > 1e-9, distance / whole.clamp_min(1e-300), even)
    after = torch.searchsorted(along.T.contiguous(), share.T.expand(len(whole), -1).contiguous()).T
    after = after.clamp(1, len(along) - 1)
    left, right = along.gather(0, after - 1), along.gather(0, after)
    part = ((share - left) / (right - left).clamp_min(1e-12)).clamp(0, 1)
    return values.gather(0, after - 1) * (1 - part) + values.gather(0, after) * part
