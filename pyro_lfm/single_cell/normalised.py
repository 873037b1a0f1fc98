"""``lfm.single_cell.normalised_expression``: expression as if all cells had one library size, or came from one batch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference import Fit
from pyro_lfm.shapes import number, whole
from pyro_lfm.single_cell.cells_of_fit import CellsOfFit

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def normalised_expression(
    fit: Fit,
    adata: AnnData | str | os.PathLike[str],
    *,
    given: Mapping[Hashable, object] | None = None,
    library: float | Literal["observed"] = 1e4,
    genes: Sequence[Hashable] | None = None,
    draws: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """The normalised expression of each cell and gene, l E[ρ(z, s)], averaged over draws z ~ q(z | x, s of the cell).

    ρ is the share of the gene in the mean counts of the cell, see ``lfm.tables.anndata``. With ``given`` the covariates s of
    the decoder are set to other values, such as one batch for all cells, while z stays that of the cell in its own batch.

    Args:
        fit: a fit of ``lfm.tables.anndata``.
        adata: N cells with the genes and covariates of the fit, or the path of an .h5ad file.
        given: {column of obs: value}, as in ``{"batch": "b2"}``. A list of values stands for their average.
        library: the library size l of all cells, or "observed", that of each cell.
        genes: the genes to return, by default all.
        draws: of z for each cell.
        seed: of the draws.

    Returns:
        A frame of N cells and genes, by their names.

    Raises:
        DataError: a gene, covariate or category that was not fitted.
        DeclarationError: another option is wrong.

    Source: Lopez et al. (2018), "Deep generative modeling for single-cell transcriptomics", section "batch correction".

    >>> import anndata as ad, numpy as np, pandas as pd, pyro_lfm as lfm
    >>> obs = pd.DataFrame({"batch": ["a", "b"] * 20}, index=[f"cell {i}" for i in range(40)])
    >>> adata = ad.AnnData(np.random.default_rng(0).poisson(2.0, (40, 5)).astype("float32"), obs=obs)
    >>> fit = lfm.single_cell.fit(adata, 2, batch_key="batch", epochs=1, seed=0, progress=False)
    >>> frame = lfm.single_cell.normalised_expression(fit, adata, given={"batch": "a"})
    >>> frame.shape, bool(np.allclose(frame.sum(axis=1), 1e4))
    ((40, 5), True)
    """
    import pandas as pd

    cells = CellsOfFit(fit, adata, "normalised_expression")
    draws = whole("draws", draws)
    if isinstance(library, str):
        if library != "observed":
            raise DeclarationError(f'library must be a number or "observed"; got {library!r}')
        sizes = cells.library
    else:
        sizes = torch.full((len(cells),), number("library", library, least=0.0, above=True))
    wanted = cells.columns.genes if genes is None else tuple(genes)
    places = pd.Index(cells.columns.genes, dtype=object).get_indexer(pd.Index(wanted, dtype=object))
    if (places < 0).any():
        unknown = [gene for gene, place in zip(wanted, places, strict=True) if place < 0]
        raise DeclarationError(f"genes must name genes of the fit; it has none called {unknown[0]!r}")
    settings = list(_settings(cells, given or {}))
    frames = []
    for k, index in enumerate(cells.blocks()):
        own = {name: value[index] for name, value in cells.covariates.items()}
        total = torch.zeros(len(index), len(wanted))
        for latents in cells.draws(index, draws, seed + k):
            for setting in settings:
                set_to = {name: torch.full((len(index),), value) for name, value in setting.items()}
                total += cells.shares(latents, {**own, **set_to})[:, places]
        frames.append(total * sizes[index, None] / (draws * len(settings)))
    return pd.DataFrame(torch.cat(frames).numpy(), index=cells.adata.obs_names, columns=pd.Index(wanted))


def _settings(cells: CellsOfFit, given: Mapping[Hashable, object]) -> Iterator[dict[str, float]]:
    """Every combination of the values to which covariates are set, by factor."""
    codes: dict[str, Tensor | np.ndarray] = {}
    for name, value in given.items():
        column = cells.columns.covariate(name)
        codes[column.factor] = column.codes(value if isinstance(value, list | tuple) else [value])
    for values in itertools.product(*codes.values()):
        yield {name: float(value) for name, value in zip(codes, values, strict=True)}
