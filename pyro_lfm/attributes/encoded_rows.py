"""Posteriors of rows as numbers: means and draws of the real latents of each row side by side, and what else a row has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.evaluate.likelihood.estimate import served
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.blocks import Blocks
from pyro_lfm.inference.fitted import Fit

# Rows in one block.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Latents of N rows in the order of ``Decoder.names``, and what the likelihood reads beside them.

    Attributes:
        means: E_q[z | x], (N, K). draws: of q(z | x), (S, N, K).
        labels: {discrete latent of a row: the likeliest label, (N,)}; means and draws are given these.
        shared: {latent that is shared by all rows: its posterior mean}.
        covariates: {name: (N, *event)}.
    """

    means: Tensor
    draws: Tensor
    labels: dict[str, Tensor]
    shared: dict[str, Tensor]
    covariates: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.means)

    @property
    def beside(self) -> dict[str, Tensor]:
        """Labels and covariates of the rows."""
        return {**self.labels, **self.covariates}


def encode(fit: Fit, decoder: Decoder, data: Rows | None, draws: int, seed: int) -> EncodedRows:
    """The posteriors of some rows, by default of the fitted ones.

    Args:
        draws: S. seed: of their noise.
    """
    done, batch, guide = served(fit, data)
    if not batch.size:
        raise DataError(f"{decoder.function} needs at least one row; got none")
    blocks = Blocks(done.model, guide, batch, _ROWS, seed)
    with blocks.running():
        parts = [_encoded(decoder, guide, blocks.setup.batch(*block), draws) for block in blocks]
    return EncodedRows(
        # Attributes are read on the CPU, in double precision.
        torch.cat([part.means for part in parts]).cpu(),
        torch.cat([part.draws for part in parts], 1).cpu(),
        {name: torch.cat([part.labels[name] for part in parts]) for name in decoder.discrete},
        parts[-1].shared,
        {name: batch.with_gaps(name) for name in done.model.covariates},
    )


def _encoded(decoder: Decoder, guide: AnyGuide, batch: Batch, draws: int) -> EncodedRows:
    if not decoder.discrete:
        means, _, shared = decoder.means(guide, batch)
        drawn = [decoder.draw(guide, batch)[0] for _ in range(draws)]
        return EncodedRows(means, torch.stack(drawn), {}, shared, {})
    model = decoder.model
    labels = {
        n: q.mode for n, q in marginals(guide, batch, list(model.latents)).items() if n in decoder.discrete
    }
    given_labels: Any = poutine.condition(guide, data=labels)
    trace: Any = poutine.trace(given_labels).get_trace(batch)
    values = {name: trace.nodes[name]["fn"].mean for name in model.latents if name not in labels}
    inner = [n for n in decoder.factors if trace.nodes[n]["fn"].batch_shape != (batch.size,)]
    if inner:
        raise DeclarationError(
            f"{decoder.function} needs one distribution of each latent for a row: {', '.join(inner)} stands in a plate in "
            "the plate over rows; declare its entries as one event, by .to_event"
        )
    means = torch.cat([values.pop(name).reshape(batch.size, -1) for name in decoder.factors], 1)
    drawn = [decoder.draw(given_labels, batch)[0] for _ in range(draws)]
    return EncodedRows(means, torch.stack(drawn), labels, values, {})


def decode(
    decoder: Decoder, latents: Tensor, shared: dict[str, Tensor], beside: dict[str, Tensor]
) -> dict[str, Tensor]:
    """E[x | z] of latents (N, K), {observed: (N, *event)}; of a label the likeliest one.

    Args:
        shared: values of latents that all rows share. beside: labels and covariates of each row.
    """
    model = decoder.model
    latents = latents.to(dtype=model.dtype, device=model.device)
    values: dict[str, list[Tensor]] = {name: [] for name in decoder.observed}
    rows = torch.arange(len(latents), device=model.device)
    with torch.no_grad():
        for part in rows.split(_ROWS):
            own = {name: value[part] for name, value in beside.items()}
            labels = {name: own.pop(name) for name in decoder.discrete}
            batch = Batch(own, index=part, total=len(rows))
            for name, mean in decoder(latents[part], {**shared, **labels}, batch).items():
                variable = model.observed[name]
                label = variable.categories is not None and mean.shape[1] == variable.categories
                values[name].append(mean.argmax(1) if label else mean.reshape(len(part), *variable.shape))
    return {name: torch.cat(parts) for name, parts in values.items()}
