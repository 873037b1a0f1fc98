"""q* of each row, for ``gaps``: the guide's family with parameters optimised for the row alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.calibration.exchange import split_seed
from pyro_lfm.guides import AnyGuide, Refined
from pyro_lfm.inference.blocks import Blocks
from pyro_lfm.inference.queries.unseen_rows import climb
from pyro_lfm.objectives import ELBO
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream, isolated

# Rows in one block, and the most numbers of the draws of one step for all of them.
_ROWS, _NUMBERS = 256, 2**20
# Draws of a step, within that limit. The noise of the gradient keeps q* from the optimum.
_FEWEST, _MOST = 2, 32
# Legs of the optimisation. Estimates, and draws of each, by which bounds are compared.
_LEGS, _CALLS, _DRAWS = 8, 25, 32
# Standard errors by which a leg must raise a bound for another leg to follow.
_RISEN = 2.0
# The largest ratio assumed between the gains of one leg and of the leg before.
_SLOWEST = 0.9


@dataclass(frozen=True)
class Optimised:
    """The guide with parameters for each row, and the remaining distance of its bound from the best of the family.

    Attributes:
        guide: a guide for the rows that it was optimised for.
        left: the estimated remaining gain of the bound, nats, (N,).
    """

    guide: AnyGuide
    left: Tensor


def optimise(model: AnyModel, guide: Refined, blocks: Blocks, seed: int) -> Optimised:
    """Parameters for each row: legs of Adam, each with a learning rate that falls to zero, until the bound stops rising.

    The ends λ₁, λ₂ of two converged legs differ only by the noise of their gradients. Where the bound is quadratic, their
    middle has half the loss of each end, and on average its own loss equals its gain over the ends,

        E[max L − L(λ̄)] = E[L(λ̄) − ½ L(λ₁) − ½ L(λ₂)],    λ̄ = ½ (λ₁ + λ₂)

    This is ``left``. For legs that have not converged the expected gain of further legs is added, extrapolated from the last
    two. Each row keeps the best of the two ends, their middle and the proposal, compared by draws that are used for nothing
    else.

    Args:
        guide: its ``steps`` are those of a leg. With 0 the proposal stays, and ``left`` is 0.
        blocks: all the rows.
    """
    model, opened = copy.deepcopy(model).eval(), guide.opened(blocks.count).eval()
    for parameter in (*model.parameters(), *opened.parameters()):
        parameter.requires_grad_(False)
    left = torch.zeros(blocks.count, dtype=torch.float64, device=model.device)
    search = _Search(model, opened, blocks, guide.steps, seed)
    for start in range(0, len(left) if guide.steps else 0, _ROWS):
        search.rows(torch.arange(start, min(start + _ROWS, len(left)), device=model.device), left)
    return Optimised(opened, left)


class _Search:
    """Legs of the optimisation, some rows at a time."""

    def __init__(self, model: AnyModel, guide: AnyGuide, blocks: Blocks, steps: int, seed: int):
        self.model, self.guide, self.blocks = model, guide, blocks
        self.tables = [table.rows for table in guide.tables]
        self.comparing, *self.legs = split_seed(seed, 1 + _LEGS)
        self.rates = 0.5 + 0.5 * torch.cos(torch.linspace(0, torch.pi, steps + 1)[:-1])

    def rows(self, places: Tensor, left: Tensor) -> None:
        """Optimises rows, and writes their parameters into the guide's tables and their remaining gain into ``left``."""
        self._leg(places, 0)
        before = torch.full(left.shape, torch.inf, dtype=left.dtype, device=left.device)
        for leg in range(1, _LEGS):
            first = self._values(places)
            self._leg(places, leg)
            last = self._values(places)
            middle = [(a + b) / 2 for a, b in zip(first, last, strict=True)]
            proposal = [torch.zeros_like(value) for value in last]
            ends = [first, last, middle, proposal]
            bounds = torch.stack([self._bounds(places, each) for each in ends])
            rise, gain = bounds[1] - bounds[0], bounds[2] - (bounds[0] + bounds[1]) / 2
            risen = rise.mean(0).clamp_min(0)
            # If gains fall by a factor ρ per leg, the gains of all further legs add up to ρ / (1 − ρ) times the last.
            ratio = (risen / before[places]).nan_to_num(nan=0.0).clamp_max(_SLOWEST)
            left[places] = gain.mean(0).clamp_min(0) + risen * (ratio / (1 - ratio)).clamp_min(1.0)
            before[places] = risen
            # A bound that is not finite is never the best.
            best = bounds.mean(1).nan_to_num(nan=-torch.inf).argmax(0)
            for table, values in zip(self.tables, zip(*ends, strict=True), strict=True):
                table[places] = torch.stack(values)[best, torch.arange(len(places))]
            error = rise.std(0) / _CALLS**0.5
            open_ = risen > _RISEN * error + 2 * gain.mean(0).clamp_min(0)
            if not bool(open_.any()):
                return
            places = places[open_]

    def _leg(self, places: Tensor, leg: int) -> None:
        batch = self._batch(places)
        particles = max(_FEWEST, min(_MOST, _NUMBERS // (len(places) * self.blocks.width)))
        for table in self.tables:
            table.requires_grad_(True)
        climb(self.model, self.guide, batch, self.rates, self.legs[leg], "learning_rate", particles)
        for table in self.tables:
            table.requires_grad_(False)

    def _values(self, places: Tensor) -> list[Tensor]:
        return [table[places].clone() for table in self.tables]

    def _bounds(self, places: Tensor, values: list[Tensor]) -> Tensor:
        """Estimates of the rows' bounds at these values, (estimates, B), with the same noise for all values."""
        for table, value in zip(self.tables, values, strict=True):
            table[places] = value
        batch, objective = self._batch(places), ELBO(self.blocks.draws_at_once(_DRAWS))
        stream = Stream(self.comparing, self.model.device)
        with isolated(stream, self.model.device), torch.no_grad():
            bounds = [objective.bound(self.model, self.guide, batch).per_row for _ in range(_CALLS)]
        return torch.stack(bounds).double()

    def _batch(self, places: Tensor) -> Batch:
        return self.blocks.setup.batch(*self.blocks.source.at(places))
