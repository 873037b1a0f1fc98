"""``lfm.single_cell.differential_expression``: which genes differ between two groups of cells, at a false discovery rate."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.inference import Fit
from pyro_lfm.shapes import number, whole
from pyro_lfm.single_cell.cells_of_fit import CellsOfFit

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

# Expression is shown for this library size, and the offset is in its units.
_LIBRARY = 1e4


def differential_expression(
    fit: Fit,
    adata: AnnData | str | os.PathLike[str],
    groupby: Hashable | Sequence[Hashable],
    group: Hashable,
    reference: Hashable | None = None,
    *,
    delta: float = 0.5,
    fdr: float = 0.05,
    comparisons: int = 1000,
    cells: int = 3,
    offset: float = 0.1,
    seed: int = 0,
) -> pd.DataFrame:
    """The genes that a group of cells expresses more or less than others, with posterior probabilities.

    A comparison takes m cells i of the group, m cells j of the reference, and the covariates s of one cell of either, all
    drawn uniformly with replacement. With z ~ q(z | x) of each cell the log fold change of gene d between them is::

        β_d = log2(ε + Σ_i ρ_d(z_i, s) / m) − log2(ε + Σ_j ρ_d(z_j, s) / m)

    ρ are the shares of ``lfm.tables.anndata``, and ε = offset / 10⁴. Both sides are decoded under the same batch, so that
    a different composition of batches makes no difference. p_d is the share of the comparisons with ``|β_d| > delta``. Genes
    are ordered by p_d. The expected false discovery rate of the first k is the mean of 1 − p_d over these. The largest k
    whose rate is at most ``fdr`` decides which genes are called.

    With ``cells=1`` a comparison is one of two single cells. β_d then varies as single cells do, and few genes are called at
    a large ``delta``. With many cells β_d is the change of the means of the groups.

    Limits: the uncertainty of the decoder's parameters does not enter p_d. With many cells too many genes are therefore
    called. docs/single_cell.md has realised rates.

    Args:
        fit: a fit of ``lfm.tables.anndata``.
        adata: cells with the genes and covariates of the fit, or the path of an .h5ad file.
        groupby: a column of ``adata.obs``, or a label for each cell.
        group: the label of the cells of interest.
        reference: the label of the cells to compare with, by default all other cells.
        delta: the smallest change of interest, in powers of 2.
        fdr: the expected false discovery rate.
        comparisons: the number of comparisons.
        cells: m, the number of cells on each side of a comparison.
        offset: counts in 10⁴ that are added to both sides, so that genes with hardly any counts have no large changes.
        seed: of cells and draws.

    Returns:
        A frame with one row for each gene, the most probable first: ``probability`` p_d, ``log_fold_change`` (the mean of
        β_d), ``spread`` (its standard deviation over comparisons), ``expression`` and ``reference_expression`` (the means of
        10⁴ ρ_d in both groups), ``expected_fdr`` of this gene and those above it, ``differs``: whether the gene is called.

    Raises:
        DataError, DeclarationError: a group without cells, or an option that is wrong.

    Source: Boyeau et al. (2019), "Deep generative models for detecting differential expression in single cells"; Lopez et
    al. (2018) for comparisons within batches.

    >>> import anndata as ad, pandas as pd, pyro_lfm as lfm
    >>> rng = np.random.default_rng(0)
    >>> kind = np.repeat(["T", "B"], 60)
    >>> rates = np.where((kind == "T")[:, None], [90, 30, 30, 30], [10, 30, 30, 30])
    >>> obs = pd.DataFrame({"kind": kind}, index=[f"cell {i}" for i in range(120)])
    >>> adata = ad.AnnData(rng.poisson(rates).astype("float32"), obs=obs, var=pd.DataFrame(index=list("abcd")))
    >>> model = lfm.Model(z=lfm.StandardNormal(1), **lfm.tables.anndata(adata))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(16)))
    >>> svi = lfm.SVI(guide, steps=200, learning_rate=0.02, engine="eager")
    >>> fit = lfm.fit(model, adata, svi, seed=0, progress=False)
    >>> genes = lfm.single_cell.differential_expression(fit, adata, "kind", "T", comparisons=300)
    >>> genes.index[0], bool(genes.differs.iloc[0])
    ('a', True)
    """
    of_fit = CellsOfFit(fit, adata, "differential_expression")
    delta, offset = number("delta", delta, least=0.0), number("offset", offset, least=0.0)
    fdr, cells, comparisons = (
        number("fdr", fdr, least=0.0),
        whole("cells", cells),
        whole("comparisons", comparisons),
    )
    if fdr >= 1:
        raise DeclarationError(f"fdr must be below 1; got {fdr!r}")
    ours, theirs = _groups(of_fit.adata, groupby, group, reference)
    rng = np.random.default_rng(whole("seed", seed, least=0))
    changes = Changes(delta, offset / _LIBRARY)
    at_once = max(1, len(next(of_fit.blocks())) // cells)
    for k, start in enumerate(range(0, comparisons, at_once)):
        sets = min(at_once, comparisons - start)
        settings = np.repeat(rng.choice(np.r_[ours, theirs], sets), cells)
        covariates = {name: value[settings] for name, value in of_fit.covariates.items()}
        sides = []
        for side, members in enumerate((ours, theirs)):
            (latents,) = of_fit.draws(rng.choice(members, sets * cells), 1, seed + 2 * k + side)
            sides.append(of_fit.shares(latents, covariates).reshape(sets, cells, -1).mean(1))
        changes.add(*sides)
    return changes.frame(of_fit.columns.genes, fdr)


@dataclass
class Changes:
    """Sums over comparisons of the log fold changes of each gene and of their expression.

    Args:
        delta: the smallest change of interest.
        offset: the share that is added to both sides.
    """

    delta: float
    offset: float
    comparisons: int = 0
    sums: list[Tensor] = field(default_factory=list)

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        """Adds comparisons, by the mean shares (B, D) of both sides."""
        one, other = ours.double(), theirs.double()
        change = (one + self.offset).log2() - (other + self.offset).log2()
        parts = [change, change**2, (change.abs() > self.delta).double(), one, other]
        fresh = [part.sum(0) for part in parts]
        self.sums = [a + b for a, b in zip(self.sums, fresh, strict=True)] if self.sums else fresh
        self.comparisons += len(ours)

    def frame(self, genes: Sequence[Hashable], fdr: float) -> pd.DataFrame:
        """The genes, the most probable first, with those that are called at an expected false discovery rate."""
        import pandas as pd

        change, square, beyond, ours, theirs = (each.numpy() / self.comparisons for each in self.sums)
        frame = pd.DataFrame(
            {
                "probability": beyond,
                "log_fold_change": change,
                "spread": np.sqrt(np.maximum(square - change**2, 0.0)),
                "expression": _LIBRARY * ours,
                "reference_expression": _LIBRARY * theirs,
            },
            index=pd.Index(genes),
        )
        order = np.lexsort((-np.abs(change), -beyond))
        frame = frame.iloc[order]
        expected = np.cumsum(1.0 - frame["probability"].to_numpy()) / np.arange(1, len(frame) + 1)
        return frame.assign(expected_fdr=expected, differs=expected <= fdr)


def _groups(
    adata: AnnData, groupby: Hashable | Sequence[Hashable], group: Hashable, reference: Hashable | None
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the cells of the group and of the reference."""
    if isinstance(groupby, str) or np.ndim(groupby) == 0:  # type: ignore[arg-type]
        if groupby not in adata.obs.columns:
            columns = ", ".join(map(repr, adata.obs.columns)) or "none"
            raise DeclarationError(
                f"groupby must name a column of adata.obs; got {groupby!r}: its columns are {columns}"
            )
        labels = adata.obs[groupby].to_numpy(dtype=object)
    else:
        labels = np.asarray(groupby, dtype=object)
        if labels.shape != (adata.n_obs,):
            raise DataError(
                f"groupby must hold a label for each of {adata.n_obs} cells; got shape {labels.shape}"
            )
    known = np.array([label == label and label is not None for label in labels], dtype=bool)
    ours = np.flatnonzero(labels == group)
    theirs = np.flatnonzero(known & (labels != group) if reference is None else labels == reference)
    for name, label, members in (("group", group, ours), ("reference", reference, theirs)):
        if not len(members):
            present = ", ".join(map(repr, dict.fromkeys(labels[known].tolist())))
            raise DataError(f"{name} must be a label of some cells; got {label!r}: the labels are {present}")
    return ours, theirs
