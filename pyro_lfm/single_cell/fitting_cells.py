"""``lfm.single_cell.fit``: a model of the counts of an AnnData, declared and fitted by defaults for cells."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import torch

from pyro_lfm import inference
from pyro_lfm.families import Gaussian
from pyro_lfm.guides import Guide
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import Model
from pyro_lfm.schedules import cosine
from pyro_lfm.shapes import whole
from pyro_lfm.sources.networks import MLP
from pyro_lfm.tables import anndata

if TYPE_CHECKING:
    from anndata import AnnData

# Cells in a minibatch, and the fewest steps and epochs of a fit.
_CELLS, _STEPS, _EPOCHS = 128, 2400, 20


def fit(
    adata: AnnData | str | os.PathLike[str],
    factors: int = 10,
    *,
    layer: str | None = None,
    batch_key: Hashable | None = None,
    covariates: Hashable | Sequence[Hashable] = (),
    epochs: int | None = None,
    seed: int | None = None,
    progress: bool = True,
    device: str | torch.device = "auto",
) -> inference.Fit:
    """Declares a model of counts with its guide, and fits it.

    It does the same as these lines::

        cells = lfm.tables.anndata(adata, layer=layer, batch_key=batch_key, covariates=covariates)
        model = lfm.Model(z=lfm.StandardNormal(factors), **cells)
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(128)))
        svi = lfm.SVI(guide, epochs=epochs, learning_rate=3e-3, schedule=lfm.schedules.cosine(1.0, 0.0))
        fit = lfm.fit(model, cells.data, svi, seed=seed)

    Write them out to change the prior, the networks, the guide or the objective.

    Args:
        adata, layer, batch_key, covariates: see ``lfm.tables.anndata``.
        factors: the number of latent factors.
        epochs: by default as many as make 2,400 steps with 128 cells each, and at least 20.
        seed, progress, device: see ``lfm.fit``.

    Raises:
        DataError, DeclarationError: see ``lfm.tables.anndata``.

    >>> import anndata as ad, numpy as np, pyro_lfm as lfm
    >>> adata = ad.AnnData(np.random.default_rng(0).poisson(2.0, (40, 5)).astype("float32"))
    >>> done = lfm.single_cell.fit(adata, 2, epochs=2, seed=0, progress=False)
    >>> done.posterior(adata).mean.shape
    torch.Size([40, 2])
    """
    cells = anndata(adata, layer=layer, batch_key=batch_key, covariates=covariates)
    steps = -(-len(cells.scan.library) // _CELLS)
    epochs = max(_EPOCHS, -(-_STEPS // steps)) if epochs is None else whole("epochs", epochs)
    model = Model(z=StandardNormal(factors), **cells)
    guide = Guide(model, z=Gaussian(network=MLP(128)))
    svi = inference.SVI(
        guide, epochs=epochs, batch_size=_CELLS, learning_rate=3e-3, schedule=cosine(1.0, 0.0)
    )
    return inference.fit(model, cells.data, svi, seed=seed, progress=progress, device=device)
