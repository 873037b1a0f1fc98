"""Inference for rows not seen in training, by a guide that is a table of rows: their own rows are optimised."""

from __future__ import annotations

import copy

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.engines import Eager
from pyro_lfm.model import AnyModel
from pyro_lfm.objectives import ELBO
from pyro_lfm.runtime import Stream


def fit_rows(model: AnyModel, guide: AnyGuide, batch: Batch, steps: int = 500, seed: int = 0) -> AnyGuide:
    """A copy of the guide whose tables hold these rows, everything else held.

    Steps of row-wise Adam on the whole batch, their length falling to zero along a half cosine.
    """
    model, guide = copy.deepcopy(model).eval(), copy.deepcopy(guide).eval()
    for parameter in (*model.parameters(), *guide.parameters()):
        parameter.requires_grad_(False)
    for table in guide.tables:
        table.rows.requires_grad_(True)
        table.resize(0)
        table.resize(batch.total)
    engine = Eager(model, guide, torch.optim.Adam, 1e-3, Stream(seed, model.device))
    rates = 0.5 + 0.5 * torch.cos(torch.linspace(0, torch.pi, steps))
    objective = ELBO(particles=4)
    for rate in rates.tolist():
        engine.step(batch, objective.at(1.0), rate, "guide")
    engine.close()
    return guide
