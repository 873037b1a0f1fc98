"""Codes of a fit: the posterior means of all latents of a row side by side, for scores of representations."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.inference.fitted import Fit


def codes_of_fit(name: str, fit: Fit, data: Rows | None = None) -> Tensor:
    """Posterior means of the entries of all latents of a row side by side, (N, K). A label has p(c | x) of each category.

    Latents that all rows share are left out. The order is that of ``model.latents``.

    Args:
        name: the name of the argument that is the fit, for error messages.
        data: rows as given to ``fit``. If left out, those that were fitted.

    Raises:
        DeclarationError: no ``Fit``, no latent of a row, a latent in a plate of its own, or one without posterior means.
    """
    if not isinstance(fit, Fit):
        raise DeclarationError(f"{name} must be a Fit, as lfm.fit gives it; got {type(fit).__name__}")
    latents = {n: latent for n, latent in fit.model.latents.items() if latent.per_row}
    if not latents:
        raise DeclarationError(f"{name} must be a Fit with latents of rows; this one has none")
    posterior = fit.posterior(data)
    if not isinstance(posterior, dict):
        posterior = dict.fromkeys(latents, posterior)
    columns = []
    for latent, variable in latents.items():
        distribution = posterior[latent]
        if len(distribution.batch_shape) != 1:
            raise DeclarationError(
                f"{name} must be a Fit with one distribution of each latent for a row; {latent} stands in a plate inside "
                "the plate over rows: declare its entries as one event, by .to_event"
            )
        code = distribution.mean if variable.categories is None else distribution.probs
        if not bool(code.isfinite().all()):
            raise DeclarationError(
                f"{name} must be a Fit whose posterior has means; {latent} has no finite mean: give codes of another "
                "kind, such as fit.sample_posterior(data)"
            )
        columns.append(code.reshape(len(code), -1))
    return torch.cat([column.to(fit.model.dtype) for column in columns], 1)
