"""Refinement of a ``Refined`` guide: offsets for each row, by gradient steps on the row's own bound."""

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

# Rows of one block.
_ROWS = 1024
# Draws of one estimate of the bound before and after.
_DRAWS = 16


def refine(model: AnyModel, guide: Refined, batch: Batch, seed: int = 0, compared: int = 1) -> AnyGuide:
    """A copy of the guide with offsets optimised for the rows of a batch. Model and guide stay as they are.

    Args:
        compared: how many estimates of 16 draws each decide whether a row's bound has risen; if not, its offset is 0.
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
    """The bound of each row, (B,), with the same noise at every call of one seed."""
    with isolated(Stream(seed, model.device), model.device), torch.no_grad():
        objective = ELBO(particles=_DRAWS)
        bounds = [objective.bound(model, guide, batch).per_row for _ in range(times)]
    return torch.stack(bounds).mean(0)
