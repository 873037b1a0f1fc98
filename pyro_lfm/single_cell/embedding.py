"""``lfm.single_cell.embed``: the latent factors of cells, written into their AnnData."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.errors import DataError
from pyro_lfm.inference import Fit
from pyro_lfm.single_cell.cells_of_fit import CellsOfFit

if TYPE_CHECKING:
    from anndata import AnnData


def embed(fit: Fit, adata: AnnData, *, key: str = "X_lfm") -> None:
    """Writes the posterior means E[z | x] of the latent factors of each cell to ``adata.obsm[key]``, (N, K).

    So ``scanpy.pp.neighbors(adata, use_rep="X_lfm")`` works on them. Several latents stand side by side.

    Args:
        fit: a fit of ``lfm.tables.anndata``.
        adata: cells with the genes and covariates of the fit. A view becomes an AnnData of its own, as AnnData has it.
        key: the entry of ``adata.obsm``, which is replaced.

    Raises:
        DataError: a path, into which nothing is written; a gene or covariate is lacking, or a category was not fitted.
        DeclarationError: a fit of other data.

    >>> import anndata as ad, pyro_lfm as lfm
    >>> adata = ad.AnnData(np.random.default_rng(0).poisson(2.0, (40, 5)).astype("float32"))
    >>> fit = lfm.single_cell.fit(adata, 3, epochs=1, seed=0, progress=False)
    >>> lfm.single_cell.embed(fit, adata)
    >>> adata.obsm["X_lfm"].shape
    (40, 3)
    """
    if isinstance(adata, str | os.PathLike):
        raise DataError(
            "adata must be an AnnData, as embed writes to its obsm; got a path: adata = "
            f"anndata.read_h5ad({os.fspath(adata)!r})"
        )
    cells = CellsOfFit(fit, adata, "embed")
    means = []
    for index in cells.blocks():
        posteriors = fit.posterior(cells.block(index))
        each = posteriors if isinstance(posteriors, dict) else {"z": posteriors}
        # A latent that all cells share is no coordinate of a cell.
        of_rows = [q.mean for q in each.values() if q.batch_shape[:1] == (len(index),)]
        means.append(np.concatenate([mean.reshape(len(index), -1).cpu().numpy() for mean in of_rows], 1))
    adata.obsm[key] = np.concatenate(means)
