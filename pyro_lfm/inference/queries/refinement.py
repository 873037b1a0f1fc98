"""What a guide proposes for each row, refined by gradient steps on the row's own bound."""

from __future__ import annotations

import copy

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.guides import AnyGuide, Refined
from pyro_lfm.inference.blocks import Blocks
from pyro_lfm.inference.queries.unseen_rows import climb
from pyro_lfm.objectives import ELBO
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream, isolated

# Rows taken together, and the draws, at a time, by which the bounds before and after are compared.
_ROWS, _DRAWS = 1024, 16


def refine(model: AnyModel, guide: Refined, batch: Batch, seed: int = 0, compared: int = 1) -> AnyGuide:
    """The proposal with offsets found for the rows of a batch; model and guide are left as they are.

    Args:
        compared: how many times 16 draws tell whether a row's bound has risen.
    """
    model, opened = copy.deepcopy(model).eval(), guide.opened(batch.total).eval()
    for parameter in (*model.parameters(), *opened.parameters()):
        parameter.requires_grad_(False)
    offsets = [table.rows for table in opened.tables]
    if not guide.steps:
        return opened
    blocks = Blocks(model, opened, batch, _ROWS, seed)
    for rows, index in blocks:
        part = blocks.setup.batch(rows, index)
        before = _bound(model, opened, part, seed + 1, compared)
        for offset in offsets:
            offset.requires_grad_(True)
        rates = 0.5 + 0.5 * torch.cos(torch.linspace(0, torch.pi, guide.steps + 1)[:-1])
        climb(model, opened, part, rates, seed, "Refined(learning_rate=...)")
        for offset in offsets:
            offset.requires_grad_(False)
        worse = ~(_bound(model, opened, part, seed + 1, compared) >= before)
        for offset in offsets:
            offset[index[worse]] = 0.0
    return opened


def _bound(model: AnyModel, guide: AnyGuide, batch: Batch, seed: int, times: int) -> torch.Tensor:
    """The bound of each row, (B,), by the same noise whenever it is called."""
    with isolated(Stream(seed, model.device), model.device), torch.no_grad():
        objective = ELBO(particles=_DRAWS)
        bounds = [objective.bound(model, guide, batch).per_row for _ in range(times)]
    return torch.stack(bounds).mean(0)
