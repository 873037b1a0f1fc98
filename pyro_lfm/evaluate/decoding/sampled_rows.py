"""Some rows of a fit and draws of their latents, from which the order of factors and the walks along them are computed."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated


def sampled_rows(fit: Fit, data: Rows | None, most: int) -> tuple[Batch, AnyGuide] | None:
    """Up to so many rows, evenly spaced, and their guide: the fitted rows if they are at hand, else the data; else None."""
    if (batch := fit.some_rows(most)) is not None:
        return batch, fit.guide
    batch = None if data is None else fit.some_rows(most, data)
    if batch is None:
        return None
    if fit.guide.tables:  # its parameters of these rows are not known yet
        return fit.batch_of({name: batch.with_gaps(name) for name in batch.names})
    return batch, fit.guide


def drawn_latents(decoder: RowDecoder, batch: Batch, guide: AnyGuide) -> dict[str, Tensor]:
    """One joint draw from q(z | x) of the latents of each row, (B, *event) by name."""
    with evaluating(guide), isolated(Stream(0, guide.device), guide.device), torch.no_grad():
        trace: Any = poutine.trace(guide).get_trace(batch)
    return {name: trace.nodes[name]["value"] for name in (*decoder.factors, *decoder.labels)}
