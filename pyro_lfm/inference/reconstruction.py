"""What the factors keep of rows: the likelihood's mean under the guide, block by block of the rows."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.engines.evaluation import Evaluation, worth
from pyro_lfm.model import AnyModel
from pyro_lfm.programs import evaluating
from pyro_lfm.runtime import Stream, isolated

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
        means = {name: _expectation(p.nodes[name]["fn"]) for name in names}
        shapes.update({name: mean.shape[1:] for name, mean in means.items()})
        # A law that hangs on nothing of a row has one mean for all.
        return torch.cat(
            [mean.expand(part.size, *mean.shape[1:]).reshape(part.size, -1) for mean in means.values()], 1
        )

    seen = [name for name in model.observed if batch[name] is not None]
    rows = {name: batch.with_gaps(name) for name in seen}
    missing = {name: batch.mask(name) is not None for name in seen}
    stream = Stream(seed, model.device)
    setup = Setup(model, guide, torch.optim.Adam, 1.0, stream, batch.total, missing)
    size = min(_ROWS, batch.size)
    evaluation = Evaluation(setup, one_draw, worth(setup, size, 1, draws * (batch.size // size)))
    found = []
    with evaluating(model, guide), isolated(stream, model.device), torch.no_grad():
        for start in range(0, batch.size, size):
            part = slice(start, start + size)
            values = {name: value[part] for name, value in rows.items()}
            total: Any = 0.0
            for _ in range(draws):
                total = total + evaluation(values, batch.index[part]) / draws
            found.append(total)
    pieces = torch.cat(found).split([shapes[name].numel() for name in names], 1)
    return {name: piece.reshape(-1, *shapes[name]) for name, piece in zip(names, pieces, strict=True)}


def _expectation(law: Any) -> torch.Tensor:
    return law.probs if isinstance(law, torch.distributions.Categorical) else law.mean
