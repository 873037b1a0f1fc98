"""A likelihood on its noise floor is told so."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import ScaleFloorWarning
from pyro_lfm.families import Gaussian
from pyro_lfm.inference.result import Fit
from pyro_lfm.model import Model
from pyro_lfm.runtime import Stream, isolated


def warn_of_floors(result: Fit) -> None:
    """Says so where an observed Gaussian's standard deviation has run down to its floor."""
    if not isinstance(result.model, Model):
        return
    index = torch.arange(min(256, len(result._rows)))
    data = result._rows.take(index, result.model.dtype, result.model.device)
    batch = Batch(data, index.to(result.model.device), len(result._rows))
    with isolated(Stream(0, result.model.device), result.model.device), torch.no_grad():
        q = poutine.trace(result.guide).get_trace(batch)
        p: Any = poutine.trace(poutine.replay(result.model, trace=q)).get_trace(batch)
    for name in result.model.observed:
        factor = result.model.factors[name]
        if isinstance(factor, Gaussian):
            law = p.nodes[name]["fn"]
            law = getattr(law, "law", law)
            smallest, floor = float(law.variance.min().sqrt()), factor.covariance.min_scale
            if smallest < 1.05 * floor:
                warnings.warn(
                    f"{name}: a standard deviation is {smallest:.3g}, on its floor min_scale={floor:g}; the bound "
                    "would grow without end below it, so it says little: raise min_scale to the noise that you know",
                    ScaleFloorWarning,
                    stacklevel=3,
                )
