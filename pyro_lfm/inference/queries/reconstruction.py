"""``Fit.reconstruct``: the likelihood's mean, averaged over the posterior of the latents, block by block of rows."""

from __future__ import annotations

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import Blocks, Evaluation, TableRows, side_by_side
from pyro_lfm.inference.queries.filling import run_filling
from pyro_lfm.programs.model import AnyModel

# Rows of one block, so that memory does not grow with their number.
_ROWS = 1024


def reconstruct(
    model: AnyModel, guide: AnyGuide, rows: Batch | TableRows, draws: int, seed: int
) -> dict[str, torch.Tensor]:
    """E_q[E[x | z]] of each modelled variable, (N, *event) by name; at missing entries E_q[E[x_missing | x_observed, z]].

    Compiled where there is much to do. Beyond the result memory does not grow with the rows.
    """
    names = [name for name in model.observed if name not in model.covariates]
    shapes: dict[str, torch.Size] = {}

    def one_draw(part: Batch) -> torch.Tensor:
        filling = run_filling(model, guide, part, names)
        shapes.update({name: filling.means[name].shape[1:] for name in names})
        return torch.cat([filling.means[name].reshape(part.size, -1) for name in names], 1)

    blocks = Blocks(model, guide, rows, _ROWS, seed)
    copies = blocks.copies(draws, _ROWS)
    evaluation = Evaluation(blocks, one_draw, calls=-(-draws // copies), copies=copies)
    means: dict[str, torch.Tensor] = {}
    start = 0
    with blocks.running():
        for block in blocks:
            here = slice(start, start := start + len(block[1]))
            repeated = side_by_side(block, copies)
            for first in range(0, draws, copies):
                numbers = sum(evaluation(repeated).split(len(block[1]))[: draws - first])
                assert isinstance(numbers, torch.Tensor)
                means = means or {name: numbers.new_zeros(rows.size, shapes[name].numel()) for name in names}
                pieces = numbers.split([shapes[name].numel() for name in names], 1)
                for name, piece in zip(names, pieces, strict=True):
                    means[name][here] += piece
    return {name: mean.div_(draws).reshape(-1, *shapes[name]) for name, mean in means.items()}
