"""The cells of an AnnData as a fit reads them, draws of their latents, and the expression decoded from these."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.files.opening import opened
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.wiring import distribution_of
from pyro_lfm.inference import Fit
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import Model
from pyro_lfm.tables.cell_columns import CellColumns

if TYPE_CHECKING:
    from anndata import AnnData

# Numbers of decoded expression in memory at once.
_NUMBERS = 2**22


class CellsOfFit:
    """The N cells of an AnnData under a fit.

    Args:
        adata: the cells, or the path of an .h5ad file, whose rows are read as they are needed.
        function: the name of the calling function, for messages.

    Attributes:
        adata: the AnnData.
        columns: genes and covariates of the fit.
        rows: the rows by factor.
        counts: the counts of the fitted genes, which stay where they are.
    """

    def __init__(self, fit: Fit, adata: AnnData | str | os.PathLike[str], function: str):
        columns, model = fit.table, fit.model
        if not isinstance(columns, CellColumns) or not isinstance(model, Model):
            raise DeclarationError(
                f"{function} needs a fit of lfm.tables.anndata(adata, ...), which knows genes and batches; this fit has none"
            )
        self.fit, self.model, self.columns = fit, model, columns
        self.adata = cast("AnnData", opened(adata))
        self.rows = columns.encode(self.adata)
        self.counts = columns.rows_of(self.adata)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def covariates(self) -> dict[str, Tensor]:
        """The covariates of the cells by factor, (N,) each: codes of labels, or numbers."""
        return {each.factor: self.rows[each.factor] for each in self.columns.covariates}

    @property
    def library(self) -> Tensor:
        """The observed library size of each cell, (N,)."""
        name = self.columns.library
        return self.rows[name] if name is not None else torch.as_tensor(self.sums(), dtype=self.model.dtype)

    def sums(self) -> np.ndarray:
        return np.concatenate([self.counts.take(index).sum(1) for index in self.blocks()])

    def blocks(self) -> Iterator[np.ndarray]:
        """The numbers of the cells in blocks, of which one decoded draw fits in memory."""
        size = max(1, min(1024, _NUMBERS // len(self.columns.genes)))
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))

    def block(self, index: np.ndarray) -> dict[str, Tensor]:
        """The rows of some cells by factor."""
        rows = {name: value[index] for name, value in self.rows.items() if name != self.columns.counts}
        return {**rows, self.columns.counts: torch.as_tensor(self.counts.take(index), dtype=self.model.dtype)}

    def draws(self, index: np.ndarray, draws: int, seed: int) -> list[dict[str, Tensor]]:
        """Draws of all latents of some cells from q(z | x), by name, one dict for each draw."""
        values = self.fit.sample_posterior(self.block(index), draws, seed)
        return [{name: value[draw] for name, value in values.items()} for draw in range(draws)]

    def shares(self, latents: Mapping[str, Tensor], covariates: Mapping[str, Tensor]) -> Tensor:
        """The normalised expression ρ, (B, D): the mean counts given latents and covariates, divided by their sum."""
        model, counts = self.model, self.columns.counts
        cells = len(next(iter(covariates.values()))) if covariates else 0
        cells = cells or next(len(latents[name]) for name in model.row_latents)
        device = model.device
        values = {**latents, **{name: value.to(device, model.dtype) for name, value in covariates.items()}}
        if self.columns.library is not None:
            values[self.columns.library] = torch.ones(cells, dtype=model.dtype, device=device)
        index = torch.zeros(cells, dtype=torch.long, device=device)
        with evaluating(model), torch.no_grad():
            mean: Tensor = distribution_of(model.factors, model.given, counts, values, index).mean
        return (mean / mean.sum(-1, keepdim=True)).cpu()
