"""The row or the point through which walks along factors go."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder, mode_of
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.probes import evaluating


@dataclass(frozen=True)
class Start:
    """A point of the latent space.

    Attributes:
        z: the factors, (K,).
        covariates, labels: of the row that it belongs to, (*event) by name; empty for a point.
    """

    z: Tensor
    covariates: dict[str, Tensor] = field(default_factory=dict)
    labels: dict[str, Tensor] = field(default_factory=dict)


def start_of(decoder: RowDecoder, start: int | Tensor | Rows | None, data: Rows | None) -> Start | None:
    """The start that a user gives: the number of a row, a row as data, or a point (K,); None without one.

    Raises:
        ShapeError: it is none of these. DataError: a row that does not exist.
    """
    if start is None:
        return None
    fit, count = decoder.fit, len(decoder.names)
    if isinstance(start, int) and not isinstance(start, bool):
        return _of_row(decoder, *fit.row(start, data))
    tensor = torch.as_tensor(start) if isinstance(start, Tensor | np.ndarray | list | tuple) else None
    if tensor is not None and tensor.shape == (count,):
        return Start(tensor.to(dtype=fit.model.dtype, device=fit.model.device))
    try:
        batch, guide = fit.batch_of(start if tensor is None or tensor.dim() != 1 else tensor.unsqueeze(0))
    except (DataError, ShapeError) as error:
        raise ShapeError(
            f"start must be the number of a row, a row as the fit takes rows, or a point of shape ({count},); {error}"
        ) from None
    if batch.size != 1:
        raise ShapeError(f"start must be one row; got {batch.size}")
    return _of_row(decoder, batch, guide)


def _of_row(decoder: RowDecoder, batch: Batch, guide: AnyGuide) -> Start:
    """The posterior mean of a row, its most probable labels, and its covariates."""
    with evaluating(guide):
        posteriors = marginals(guide, batch, [*decoder.factors, *decoder.labels])
    z = [posteriors[name].mean.reshape(-1) for name in decoder.factors]
    labels = {name: mode_of(posteriors[name])[0] for name in decoder.labels}
    covariates = {name: batch[name][0] for name in decoder.model.covariates}
    return Start(torch.cat(z) if z else torch.zeros(0), covariates, labels)
