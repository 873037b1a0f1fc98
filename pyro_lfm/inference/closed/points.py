"""Puts the point values of parameters with priors at their posterior means, after variational Bayes and SVI."""

from __future__ import annotations

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.programs.model import AnyModel, Model


def put_points(model: AnyModel, guide: AnyGuide, table: Table) -> None:
    """Sets every parameter that has a prior to its posterior mean, for ``model.factors[name](...)``."""
    if not isinstance(model, Model) or not model.drawn:
        return
    index = torch.zeros(1, dtype=torch.long)
    batch = Batch(table.take(index, model.dtype, model.device), index.to(model.device), len(table))
    distributions = marginals(guide, batch, list(model.latents))
    with torch.no_grad():
        for name, part in model.drawn.items():
            part.value.copy_(distributions[name].mean.reshape(part.value.shape))
