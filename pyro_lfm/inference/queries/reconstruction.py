"""What the factors keep of rows: the likelihood's mean under the guide, block by block of the rows."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import Blocks, Evaluation
from pyro_lfm.inference.queries.filling import Filling
from pyro_lfm.programs.model import AnyModel

# Rows taken together: memory does not grow with their number.
_ROWS = 1024


def reconstruct(model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, seed: int) -> dict[str, Any]:
    """E_q[E[x̂ | z]] of each modelled variable, (N, *event) by name, E_q[E[x_missing | x_observed, z]] where entries are
    missing; compiled where there is much to do.
    """
    names = [name for name in model.observed if name not in model.covariates]
    shapes: dict[str, torch.Size] = {}

    def one_draw(part: Batch) -> torch.Tensor:
        q: Any = poutine.trace(guide).get_trace(part)
        program = poutine.condition(model, data={name: q.nodes[name]["value"] for name in model.latents})
        # Covariates alone, so that the likelihood is that of whole rows.
        known = {name: part[name] for name in model.covariates}
        with Filling(part, names) as filling:
            program(Batch(known, index=part.index, total=part.total))
        shapes.update({name: filling.means[name].shape[1:] for name in names})
        return torch.cat([filling.means[name].reshape(part.size, -1) for name in names], 1)

    blocks = Blocks(model, guide, batch, _ROWS, seed)
    evaluation = Evaluation(blocks, one_draw, calls=draws)
    with blocks.running():
        sums: list[Any] = [sum(evaluation(block) for _ in range(draws)) / draws for block in blocks]
    pieces = torch.cat(sums).split([shapes[name].numel() for name in names], 1)
    return {name: piece.reshape(-1, *shapes[name]) for name, piece in zip(names, pieces, strict=True)}
