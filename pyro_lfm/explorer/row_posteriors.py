"""``RowPosteriors``: the posterior of every row, block by block: the points of the map, and the posterior of one row."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoder import factor_names, real_latents
from pyro_lfm.explorer.user_rows import UserRows
from pyro_lfm.guides import AnyGuide, Refined
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.probes import evaluating
from pyro_lfm.web.posterior_moments import moments

# Rows of one block, and draws of all rows together where a latent depends on others.
_ROWS, _DRAWN = 1024, 2**22


class RowPosteriors:
    """The posterior means of all N rows, and the posterior of any row.

    Args:
        fit: the fit.
        rows: the rows.

    Attributes:
        means: E[z | x] of the K entries of all real latents of a row side by side, (N, K).
        variances: the posterior variances, (N, K).
        seconds: how long encoding took.
        has_own_parameters: whether the guide has parameters for each row.

    Raises:
        DeclarationError: the model has no real latents of rows, or parameters of its own for each; posteriors without means.
    """

    def __init__(self, fit: Fit, rows: UserRows):
        self.fit, self.rows = fit, rows
        self.names = factor_names(fit.model)
        if not self.names:
            raise DeclarationError(
                "lfm.explore needs latents of each row with real values; this model has none: its latents are "
                f"{', '.join(fit.model.latents) or 'none'}"
            )
        if fit.model.tables:
            raise DeclarationError(
                "lfm.explore decodes points that belong to no row, and this model has parameters for each row (PerRow): "
                "declare them as latents, or give PerRow to the guide alone"
            )
        start = time.perf_counter()
        # Parameters of single rows are optimised for all rows at once.
        self.has_own_parameters = isinstance(fit.guide, Refined) or bool(fit.guide.tables)
        self._whole: Batch | None = None
        self.guide: AnyGuide = fit.guide
        if self.has_own_parameters:
            self._whole, self.guide = fit.batch_of(rows.data)
        self.means, self.variances = self._encoded()
        self.seconds = time.perf_counter() - start

    def batch(self, index: Tensor) -> Batch:
        """The rows at some indices (B,), as those of the whole."""
        model, total = self.fit.model, len(self.rows)
        index = index.to(model.device)
        if self._whole is not None:
            whole = self._whole
            return Batch({n: whole.with_gaps(n)[index] for n in whole.names}, index, total)
        return Batch(self.rows.table.take(index, model.dtype, model.device), index, total)

    def posterior(self, index: Tensor) -> dict[str, Distribution]:
        """q(z | x) of the rows at some indices, by latent."""
        with evaluating(self.guide):
            return marginals(self.guide, self.batch(index), list(self.fit.model.latents))

    def _encoded(self) -> tuple[np.ndarray, np.ndarray]:
        means, variances = [], []
        draws = max(8, min(256, _DRAWN // len(self.rows)))
        latents = list(self.fit.model.latents)
        with evaluating(self.guide):
            for block in self.rows.table.blocks(_ROWS):
                posterior = marginals(self.guide, self.batch(block), latents, draws=draws)
                mean, variance = flat_moments(posterior, real_latents(self.fit.model), len(block))
                means.append(mean)
                variances.append(variance)
        whole = torch.cat(means)
        if not bool(whole.isfinite().all()):
            raise DeclarationError(
                "lfm.explore shows rows at their posterior means, and the guide's distributions have none: fit a guide with "
                "finite means, such as lfm.Gaussian"
            )
        return whole.numpy(), torch.cat(variances).numpy()


def flat_moments(
    posterior: Mapping[str, Distribution], latents: Mapping[str, int], rows: int
) -> tuple[Tensor, Tensor]:
    """Means and variances of the entries of some latents side by side, (B, K) each, on the CPU."""
    means, variances = [], []
    for name in latents:
        latent_moments = moments(posterior[name])
        means.append(latent_moments["mean"].reshape(rows, -1).float().cpu())
        variances.append(latent_moments["standard_deviation"].square().reshape(rows, -1).float().cpu())
    return torch.cat(means, 1), torch.cat(variances, 1)


def covariance_of(posterior: Mapping[str, Distribution], latents: Mapping[str, int]) -> Tensor:
    """The covariance of the entries of some latents of one row, (K, K); different latents count as uncorrelated."""
    blocks = []
    for name, size in latents.items():
        blocks.append(
            moments(posterior[name], ("covariance",))["covariance"].reshape(size, size).double().cpu()
        )
    return torch.block_diag(*blocks)
