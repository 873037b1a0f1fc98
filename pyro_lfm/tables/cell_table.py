"""``lfm.tables.anndata``: the counts and covariates of an AnnData as the observed factors of a model."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.distributions import constraints

from pyro_lfm.data.annotated_rows import annotated_rows, is_anndata
from pyro_lfm.data.files.opening import opened
from pyro_lfm.data.readers import NamedRows
from pyro_lfm.errors import DataError, DeclarationError, warn
from pyro_lfm.factors import Covariate, Factor
from pyro_lfm.factors.variables import Code
from pyro_lfm.sources.networks import MLP
from pyro_lfm.sources.source import SourceLike
from pyro_lfm.sources.values import Learned
from pyro_lfm.tables.cell_columns import CellColumns
from pyro_lfm.tables.count_scan import CountScan, scan_counts
from pyro_lfm.tables.factor_names import factor_name
from pyro_lfm.tables.gene_counts import GeneCounts
from pyro_lfm.tables.obs_columns import ObsColumn, obs_column
from pyro_lfm.warning_kinds import EmptyCountsWarning

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, eq=False, repr=False)
class Cells(Mapping[str, Factor]):
    """The factors and data that ``lfm.tables.anndata`` makes of an AnnData.

    It is a mapping of its factors, so that ``Model(z=StandardNormal(10), **cells)`` declares them.

    Attributes:
        factors: {name: factor}: library, the covariates, counts.
        data: {name: rows}, the input of ``lfm.fit``. The counts stay where they are, in memory or in a file.
        converter: genes and covariates, which read other AnnData. ``fit.table`` keeps it.
        scan: sums and moments of the counts.

    >>> import anndata as ad, numpy as np, pyro_lfm as lfm
    >>> cells = lfm.tables.anndata(ad.AnnData(np.random.default_rng(0).poisson(2.0, (40, 5)).astype("float32")))
    >>> list(cells.factors), lfm.Model(z=lfm.StandardNormal(2), **cells).observed["counts"].shape
    (['library', 'counts'], torch.Size([5]))
    """

    factors: Mapping[str, Factor]
    data: NamedRows
    converter: CellColumns
    scan: CountScan

    def __getitem__(self, name: str) -> Factor:
        return self.factors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.factors)

    def __len__(self) -> int:
        return len(self.factors)

    def encode(self, adata: AnnData) -> NamedRows:
        """The rows of another AnnData with these genes and columns of obs, by the labels and scales of the first.

        Raises:
            DataError: a gene or a column is lacking, an entry is no count, or a label was not fitted.
        """
        return self.converter.encode(adata)

    def __repr__(self) -> str:
        library, silent = self.scan.library, int((self.scan.sums == 0).sum())
        empty = int((library == 0).sum())
        lines = [
            f"{self.converter.counts}: {len(library)} cells x {len(self.converter.genes)} genes of {self.converter.place}"
            + (f", {silent} genes without counts" if silent else "")
            + (f", {empty} cells without counts" if empty else "")
        ]
        if self.converter.library is not None:
            low, middle, high = np.quantile(library, [0.0, 0.5, 1.0])
            lines.append(
                f"{self.converter.library}: the sum of a cell, {low:.0f} to {high:.0f}, median {middle:.0f}"
            )
        lines += [f"{each.factor}: adata.obs[{each.column!r}], {each}" for each in self.converter.covariates]
        return "\n".join([*lines, "model: lfm.Model(z=lfm.StandardNormal(10), **cells)"])


def anndata(
    adata: AnnData | str | os.PathLike[str],
    *,
    layer: str | None = None,
    batch_key: Hashable | None = None,
    covariates: Hashable | Sequence[Hashable] = (),
    library: bool = True,
    network: SourceLike = None,
    given: str | Sequence[str] = "z",
) -> Cells:
    """Reads the counts of an AnnData, with batches and further covariates of its cells, as the observed factors of a model.

    x_nd ~ NB(mean l_n ρ_nd, r_d), ρ_n = softmax(ln b + f(z_n, s_n)): counts x of gene d in cell n have the overdispersion
    1 / r_d, learned for each gene. l is the library size, b the share of each gene in all counts, and f a network of the
    latents z, the batch and the covariates s, labels one-hot. So z need not hold what these explain. Guides read ln(1 + x)
    standardised by gene, ln l and s.

    ``lfm.fit(model, adata, ...)`` and the methods of the fit take AnnData themselves, matched by the names of genes.

    Args:
        adata: cells x genes. It may be a view, or backed, with rows that are read as they are needed, or the path of an
            .h5ad file.
        layer: the layer that holds the counts. By default they stand in X.
        batch_key: a column of ``adata.obs`` with the batch of each cell.
        covariates: further columns. Strings, categories and booleans are labels, all others numbers.
        library: whether the means are shares of the observed library size, the sum of the counts of a cell.
        network: the source of f, ``MLP(128)`` by default.
        given: the latents that f reads.

    A gene without counts has the share of half a count. A cell without counts has the library size 1, so that its posterior
    is nearly the prior. One warning names their numbers.

    Raises:
        DataError: entries that are no counts, gaps in a column, or a column that is equal in all cells.
        DeclarationError: a column or an option that does not exist.

    Source: Lopez, Regier, Cole, Jordan and Yosef (2018), "Deep generative modeling for single-cell transcriptomics"; here
    the library size is observed.

    >>> import anndata as ad, numpy as np, pandas as pd, pyro_lfm as lfm
    >>> counts = np.random.default_rng(0).poisson(2.0, (60, 5)).astype("float32")
    >>> adata = ad.AnnData(counts, obs=pd.DataFrame({"batch": ["a", "b"] * 30}, index=[f"cell {i}" for i in range(60)]))
    >>> cells = lfm.tables.anndata(adata, batch_key="batch")
    >>> print(cells)
    counts: 60 cells x 5 genes of adata.X
    library: the sum of a cell, 4 to 18, median 11
    batch: adata.obs['batch'], 2 categories: 'a', 'b'
    model: lfm.Model(z=lfm.StandardNormal(10), **cells)
    >>> model = lfm.Model(z=lfm.StandardNormal(2), **cells)
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(16)))
    >>> fit = lfm.fit(model, adata, lfm.SVI(guide, epochs=2), seed=0, progress=False)
    >>> fit.posterior(adata[:3]).mean.shape
    torch.Size([3, 2])
    """
    adata = opened(adata)
    if not is_anndata(adata):
        raise DataError(
            f"adata must be an AnnData, or the path of an .h5ad file; got a {type(adata).__name__}: "
            "anndata.AnnData(X, obs=...)"
        )
    names = _columns(adata, batch_key, covariates)
    rows = annotated_rows(adata, layer)
    if 0 in rows.shape:
        raise DataError(f"adata must have cells and genes; got shape {rows.shape}")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise DataError(
            f"adata.var_names must name each gene once; {twice!r} stands twice: adata.var_names_make_unique()"
        )
    taken = ["counts", "library"]
    columns: list[ObsColumn] = []
    for name in names:
        factor = factor_name(name, taken)
        taken.append(factor)
        columns.append(obs_column(adata.obs, name, factor, labels=name == batch_key))
    scan = scan_counts(rows, adata)
    _warn_of_empty(scan)
    converter = CellColumns(
        tuple(adata.var_names), layer, "counts", "library" if library else None, tuple(columns)
    )
    latents = (given,) if isinstance(given, str) else tuple(given)
    factors: dict[str, Factor] = {"library": _library(scan)} if library else {}
    factors.update({column.factor: column.covariate() for column in columns})
    factors["counts"] = _counts(
        scan, library, network, (*latents, *(each.factor for each in columns)), converter
    )
    return Cells(factors, converter.named(rows, scan.library, adata.obs), converter, scan)


def _columns(
    adata: AnnData, batch_key: Hashable | None, covariates: Hashable | Sequence[Hashable]
) -> list[Hashable]:
    """The columns of obs that the model reads, the batch first."""
    further = list(covariates) if isinstance(covariates, list | tuple) else [covariates]
    names = [*([] if batch_key is None else [batch_key]), *further]
    unknown = [name for name in names if name not in adata.obs.columns]
    if unknown:
        known = ", ".join(map(repr, adata.obs.columns)) or "none"
        raise DeclarationError(
            f"batch_key and covariates must name columns of adata.obs; got {', '.join(map(repr, unknown))}: its columns are "
            f"{known}"
        )
    if len(set(names)) < len(names):
        raise DeclarationError(f"batch_key and covariates must name each column once; got {names}")
    return names


def _library(scan: CountScan) -> Factor:
    sizes = np.log(np.maximum(scan.library, 1.0))
    spread = float(sizes.std()) or 1.0
    code = Code(torch.tensor(float(sizes.mean())), torch.tensor(spread), "log")
    middle = max(float(np.median(scan.library)), 1.0)
    return Covariate(value=middle, support=constraints.positive).coded(code)


def _counts(
    scan: CountScan, library: bool, network: SourceLike, given: tuple[str, ...], converter: CellColumns
) -> Factor:
    start, background = (
        torch.tensor(values, dtype=torch.get_default_dtype())
        for values in (scan.dispersion(library), scan.background(library))
    )
    factor = GeneCounts(
        len(background),
        background,
        total_count=Learned(start),
        logits=MLP(128) if network is None else network,
        exposure="library" if library else None,
        given=given,
    )
    # A gene that is seen in few cells is not read on a scale on which one count is an outlier.
    spread = np.maximum(scan.log_spread, 0.1)
    code = Code(torch.tensor(scan.log_mean), torch.tensor(spread), "log1p")
    return factor.coded(code).altered(converter=converter)


def _warn_of_empty(scan: CountScan) -> None:
    cells, genes = int((scan.library == 0).sum()), int((scan.sums == 0).sum())
    facts = [f"{cells} cells have no counts, and nearly the prior as their posterior"] * bool(cells)
    facts += [f"{genes} genes have no counts, and nothing is learned of them"] * bool(genes)
    if facts:
        warn(
            f"{'; '.join(facts)}: leave them out by scanpy.pp.filter_cells(adata, min_counts=1) and filter_genes, or as "
            "adata[adata.X.sum(1) > 0] does",
            EmptyCountsWarning,
        )
