"""What the factors keep of rows: the likelihood's mean under the guide, block by block of the rows."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.engines.evaluation import Blocks, Evaluation
from pyro_lfm.model import AnyModel

# Rows taken together: memory does not grow with their number.
_ROWS = 1024


def reconstruct(model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, seed: int) -> dict[str, Any]:
    """E_q[E[x̂ | z]] of each modelled variable, (N, *event) by name; compiled where there is much to do."""
    names = [name for name in model.observed if name not in model.covariates]
    shapes: dict[str, torch.Size] = {}

    def one_draw(part: Batch) -> torch.Tensor:
        q: Any = poutine.trace(guide).get_trace(part)
        program = poutine.condition(model, data={name: q.nodes[name]["value"] for name in model.latents})
        # Without other data, so that the likelihood is that of whole rows; drawn x is not looked at.
        known = {name: part[name] for name in model.covariates}
        p: Any = poutine.trace(program).get_trace(Batch(known, index=part.index, total=part.total))
        means = {name: expectation(p.nodes[name]["fn"]) for name in names}
        shapes.update({name: mean.shape[1:] for name, mean in means.items()})
        # A law that hangs on nothing of a row has one mean for all.
        return torch.cat(
            [mean.expand(part.size, *mean.shape[1:]).reshape(part.size, -1) for mean in means.values()], 1
        )

    blocks = Blocks(model, guide, batch, _ROWS, seed)
    evaluation = Evaluation(blocks, one_draw, calls=draws)
    with blocks.running():
        found: list[Any] = [sum(evaluation(block) for _ in range(draws)) / draws for block in blocks]
    pieces = torch.cat(found).split([shapes[name].numel() for name in names], 1)
    return {name: piece.reshape(-1, *shapes[name]) for name, piece in zip(names, pieces, strict=True)}


def expectation(law: Any) -> torch.Tensor:
    """The mean of a law; of categories the probability of each."""
    return law.probs if isinstance(law, torch.distributions.Categorical) else law.mean
