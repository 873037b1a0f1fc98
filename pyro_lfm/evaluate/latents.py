"""What a fit says of the latents of each row, as numbers side by side: codes, of any kind of latent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.result import Fit


def codes_of_fit(name: str, fit: Fit, data: Any = None) -> Tensor:
    """Posterior means of the entries of all latents of a row side by side, (N, K); of a label p(c | x) of each category.

    Latents that all rows share are none of a row's. The order is that of ``model.latents``.

    Args:
        name: of the argument that is the fit, for the errors.

    Raises:
        DeclarationError: no latent of a row, one with a batch of its own, or one without posterior means.
    """
    latents = {n: latent for n, latent in fit.model.latents.items() if latent.per_row}
    if not latents:
        raise DeclarationError(
            f"{name} must be a Fit whose rows have latents of their own; this one has none"
        )
    found = fit.posterior(data)
    if not isinstance(found, dict):
        found = dict.fromkeys(latents, found)
    columns = []
    for latent, variable in latents.items():
        distribution = found[latent]
        if len(distribution.batch_shape) != 1:
            raise DeclarationError(
                f"{name} must be a Fit with one distribution of each latent for a row; {latent} stands in a plate within "
                "that over rows: declare its entries as one event, by .to_event"
            )
        code = distribution.mean if variable.categories is None else distribution.probs
        if not bool(code.isfinite().all()):
            raise DeclarationError(
                f"{name} must be a Fit whose posterior has means; {latent} has none that are finite: give codes of another "
                "kind, such as fit.sample_posterior(data)"
            )
        columns.append(code.reshape(len(code), -1))
    return torch.cat([column.to(fit.model.dtype) for column in columns], 1)
