"""Posteriors of rows as numbers: means and draws of the real latents of each row side by side, and what else a row has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.evaluate.likelihood.estimate import served
from pyro_lfm.inference.blocks import Blocks
from pyro_lfm.inference.fitted import Fit

# Rows in one block.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Latents of N rows in the order of ``Decoder.names``, and the values that a decoder needs beside them.

    Attributes:
        means: E_q[z | x], (N, K). draws: of q(z | x), (S, N, K).
        others: {latent that is shared by all rows: its posterior mean}.
        covariates: {name: (N, *event)}.
    """

    means: Tensor
    draws: Tensor
    others: dict[str, Tensor]
    covariates: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.means)


def encode(fit: Fit, decoder: Decoder, data: Rows | None, draws: int, seed: int) -> EncodedRows:
    """The posteriors of some rows, by default of the fitted ones; noise from ``seed``."""
    done, batch, guide = served(fit, data)
    blocks = Blocks(done.model, guide, batch, _ROWS, seed)
    means, drawn, others = [], [], {}
    with blocks.running():
        for block in blocks:
            part = blocks.setup.batch(*block)
            mean, _, others = decoder.means(guide, part)
            means.append(mean)
            drawn.append(torch.stack([decoder.draw(guide, part)[0] for _ in range(draws)]))
    covariates = {name: batch.with_gaps(name) for name in done.model.covariates}
    return EncodedRows(torch.cat(means), torch.cat(drawn, 1), others, covariates)


def decode(
    decoder: Decoder, latents: Tensor, others: dict[str, Tensor], covariates: dict[str, Tensor]
) -> dict[str, Tensor]:
    """E[x | z] of latents (N, K), {observed: (N, *event)}; of labels the most probable one."""
    model = decoder.model
    latents = latents.to(dtype=model.dtype, device=model.device)
    values: dict[str, list[Tensor]] = {name: [] for name in decoder.observed}
    rows = torch.arange(len(latents), device=model.device)
    for part in rows.split(_ROWS):
        batch = Batch({n: v[part] for n, v in covariates.items()}, index=part, total=len(rows))
        for name, mean in decoder(latents[part], others, batch).items():
            variable = model.observed[name]
            labels = variable.categories is not None and mean.shape[1] == variable.categories
            values[name].append(mean.argmax(1) if labels else mean.reshape(len(part), *variable.shape))
    return {name: torch.cat(parts) for name, parts in values.items()}
