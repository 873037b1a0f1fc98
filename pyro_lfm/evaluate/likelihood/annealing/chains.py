"""Annealed chains from the guide to the posterior and back, and their importance weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.likelihood.annealing.path import Path, Points
from pyro_lfm.evaluate.likelihood.annealing.temperatures import Schedule, find_schedule
from pyro_lfm.evaluate.likelihood.annealing.transitions import transition
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import Block, Blocks, TableRows
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.shapes import whole

# Fewest and most chains of a row that run together, and rows in one block.
_FEWEST, _MOST, _ROWS = 32, 256, 256
# Transitions at the posterior that separate chains from their common starting point.
_PARTING = 10


@dataclass(frozen=True)
class Annealing:
    """Settings of annealing from the guide to the posterior.

    Args:
        temperatures: T. They are tuned for each row by separate chains, equally far apart in standard deviations of the
            increments of log w. log w then has a variance of about Λ² / T, with Λ the whole distance.
        leaps: leapfrog steps of each transition.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> pair = model, lfm.ExactPosterior(model)
    >>> rows = model.sample(3, seed=0)["x"]
    >>> how = lfm.evaluate.Annealing(temperatures=20, leaps=3)
    >>> lfm.evaluate.log_likelihood(pair, rows, draws=32, method="annealed", annealing=how).per_row.shape
    torch.Size([3])
    """

    temperatures: int = 100
    leaps: int = 3

    def __post_init__(self) -> None:
        whole("temperatures", self.temperatures)
        whole("leaps", self.leaps)


def anneal(
    model: AnyModel,
    guide: AnyGuide,
    rows: Batch | TableRows,
    draws: int,
    annealing: Annealing,
    seed: int,
    latents: dict[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Runs chains for every row, block by block.

    Args:
        draws: S, rounded up to a multiple of the chains that run together.
        latents: an exact draw from the posterior of each row, (N, *event) by name, as simulated rows have. With it chains
            run from there back to the guide too.

    Returns:
        log w of the chains from the guide, (S, N), and of the chains from the latents.
    """
    if not isinstance(annealing, Annealing):
        raise DeclarationError(
            f"annealing must be lfm.evaluate.Annealing(temperatures, leaps); got {type(annealing).__name__}"
        )
    if torch.is_inference_mode_enabled():
        raise DeclarationError(
            "annealing needs gradients, which torch.inference_mode() rules out: call it outside, or under torch.no_grad()"
        )
    if known := [name for name in rows.names if name in model.latents]:
        raise DeclarationError(
            f'method="annealed" moves latents, and the data hold values of {", ".join(known)}: take method="importance"'
        )
    chains = min(max(draws, _FEWEST), _MOST)
    blocks = Blocks.holding(model, guide, rows, _ROWS, seed, chains)
    rounds = -(-draws // chains)
    moves = annealing.temperatures * (annealing.leaps + 1)
    forward, backward = [], []
    at = 0
    with blocks.running():
        path = Path(model, guide, blocks, chains, moves * rounds * (1 if latents is None else 2))
        for block in blocks:
            schedule = find_schedule(path, block, annealing.temperatures, annealing.leaps)
            here = slice(at, at + len(block[1]))
            at = here.stop
            forward.append(torch.cat([_ahead(path, block, schedule, annealing.leaps) for _ in range(rounds)]))
            if latents is not None:
                start = path.from_values({name: value[here] for name, value in latents.items()})
                back = [_back(path, block, schedule, annealing.leaps, start) for _ in range(rounds)]
                backward.append(torch.cat(back))
    return torch.cat(forward, 1), torch.cat(backward, 1) if backward else None


def _ahead(path: Path, block: Block, schedule: Schedule, leaps: int) -> Tensor:
    """log w = Σ_t (β_t − β_{t−1}) log [p(x, u_{t−1}) / q(u_{t−1} | x)], u_t moved at β_t, of each chain, (S, B)."""
    beta = schedule.beta
    points, _ = path.at(block, path.draw(block), beta[0])
    total = torch.zeros_like(points.log_w, dtype=torch.float64)
    for t in range(1, len(beta)):
        total += (beta[t] - beta[t - 1]) * points.log_w.double()
        if t < len(beta) - 1:
            points = _moved(path, block, schedule, t, points, leaps)
    return total


def _back(path: Path, block: Block, schedule: Schedule, leaps: int, start: Tensor) -> Tensor:
    """log w of chains from draws of the posterior back to the guide, with the same, reversible transitions, (S, B)."""
    beta = schedule.beta
    points, _ = path.at(block, start, beta[-1])
    total = torch.zeros_like(points.log_w, dtype=torch.float64)
    for _ in range(_PARTING):
        points = _moved(path, block, schedule, len(beta) - 1, points, leaps)
    for t in range(len(beta) - 1, 0, -1):
        if t < len(beta) - 1:
            points = _moved(path, block, schedule, t, points, leaps)
        total += (beta[t] - beta[t - 1]) * points.log_w.double()
    return total


def _moved(path: Path, block: Block, schedule: Schedule, t: int, points: Points, leaps: int) -> Points:
    root = schedule.mass.root(schedule.beta[t])
    return transition(path, block, points, schedule.beta[t], schedule.step[t], root, leaps)[0]
