"""What a fit keeps of the AnnData that it was fitted to: genes, covariates and where the counts are. It reads others."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from pyro_lfm.data.annotated_rows import AnnotatedRows, annotated_rows, is_anndata
from pyro_lfm.data.files.opening import opened
from pyro_lfm.data.readers import NamedRows
from pyro_lfm.errors import DataError
from pyro_lfm.tables.count_scan import library_of
from pyro_lfm.tables.obs_columns import ObsColumn

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class CellColumns:
    """The genes and covariates of cells, and the conversion of an AnnData to the rows of factors.

    Attributes:
        genes: the names of the genes, in the order of the fit.
        layer: the layer that holds the counts; None for X.
        counts: the name of the factor of the counts.
        library: the name of the factor of the library size; None if the model has none.
        covariates: the columns of ``adata.obs`` that the model reads.
    """

    genes: tuple[Hashable, ...]
    layer: str | None
    counts: str
    library: str | None
    covariates: tuple[ObsColumn, ...]

    @property
    def place(self) -> str:
        """Where the counts of an AnnData are, in words."""
        return "adata.X" if self.layer is None else f"adata.layers[{self.layer!r}]"

    def takes(self, data: object) -> bool:
        """Whether it can read such data: an AnnData."""
        return is_anndata(data)

    def encode(self, adata: AnnData | str | os.PathLike[str]) -> NamedRows:
        """The rows of an AnnData with these genes, in any order, and these columns of obs. Other genes are ignored.

        The library size of a cell is the sum of the counts of these genes. A cell without any has the size 1.

        Raises:
            DataError: a gene or a column is lacking, an entry is no count, or a label was not fitted.
        """
        adata = cast("AnnData", opened(adata))
        rows = self.rows_of(adata)
        library = library_of(rows, adata) if self.library is not None else None
        return self.named(rows, library, adata.obs)

    def rows_of(self, adata: AnnData) -> AnnotatedRows:
        """The counts of the fitted genes, in their order."""
        if not is_anndata(adata):
            raise DataError(
                f"adata must be an AnnData, or the path of an .h5ad file; got a {type(adata).__name__}: "
                "anndata.AnnData(X, obs=...)"
            )
        rows = annotated_rows(adata, self.layer)
        places = _places(rows.names, self.genes)
        return rows if places is None else rows.of(places)

    def named(self, rows: AnnotatedRows, library: np.ndarray | None, obs: pd.DataFrame) -> NamedRows:
        """The rows by factor. Counts stay where they are until they are fetched."""
        named: dict[str, AnnotatedRows | torch.Tensor] = {}
        if self.library is not None and library is not None:
            named[self.library] = _tensor(np.maximum(library, 1.0))
        for covariate in self.covariates:
            named[covariate.factor] = _tensor(covariate.read(obs))
        named[self.counts] = rows
        return NamedRows(named, None, {self.counts: self.genes}, self)  # type: ignore[arg-type]

    def decode(
        self,
        values: Mapping[str, torch.Tensor],
        index: pd.Index | Sequence[Hashable] | None = None,
        like: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Rows by factor, such as ``model.sample(n)``, as a frame of genes and covariates, one cell a row.

        Args:
            values: {name of a factor: rows}. Factors without values are left out.
            index: the names of the cells; by default 0 to N − 1.
            like: no part of an AnnData is kept in its place; leave it out.
        """
        import pandas as pd

        columns: dict[Hashable, np.ndarray] = {}
        if self.counts in values:
            columns.update(zip(self.genes, np.asarray(values[self.counts].detach().cpu()).T, strict=True))
        for covariate in self.covariates:
            if covariate.factor in values:
                codes = np.asarray(values[covariate.factor].detach().cpu())
                columns[covariate.column] = covariate.labels(codes)
        frame = pd.DataFrame(columns)
        return frame if index is None else frame.set_index(pd.Index(index))

    def covariate(self, name: Hashable) -> ObsColumn:
        """The covariate of a column of ``adata.obs``.

        Raises:
            DataError: the model reads no such column.
        """
        for covariate in self.covariates:
            if name in (covariate.column, covariate.factor):
                return covariate
        known = ", ".join(repr(covariate.column) for covariate in self.covariates) or "none"
        raise DataError(f"the model reads no covariate {name!r}: its covariates are {known}")


def _tensor(values: np.ndarray) -> torch.Tensor:
    # A copy, as arrays of pandas are read-only.
    return torch.tensor(values, dtype=torch.get_default_dtype())


def _places(names: Sequence[Hashable], genes: Sequence[Hashable]) -> np.ndarray | None:
    """The place of each gene among the names; None if they are the genes in their order.

    Raises:
        DataError: a gene is lacking, or stands twice.
    """
    import pandas as pd

    if tuple(names) == tuple(genes):
        return None
    present: pd.Index = pd.Index(names, dtype=object)
    places = {name: place for place, name in enumerate(names)}
    lacking = [gene for gene in genes if gene not in places]
    if lacking:
        shown = ", ".join(map(repr, lacking[:10])) + ", ..." * (len(lacking) > 10)
        raise DataError(
            f"adata must have the {len(genes)} genes that were fitted, in any order; {len(lacking)} are lacking in "
            f"adata.var_names: {shown}. Rename genes that have other names here; else fit to the genes that both share"
        )
    twice = present[present.duplicated()]
    wanted = set(genes)
    repeated = [name for name in twice if name in wanted]
    if repeated:
        raise DataError(
            f"adata.var_names must name each gene once; {repeated[0]!r} stands twice: adata.var_names_make_unique()"
        )
    return np.array([places[gene] for gene in genes])
