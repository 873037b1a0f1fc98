"""Parallel analysis: eigenvalues of correlations beside those of data without factors, for ``number_of_factors``."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from pyro_lfm.factor_analysis.matrices import Matrix

NullData: TypeAlias = Literal["normal", "permuted"]


class Parallel(NamedTuple):
    """Eigenvalues of the correlation matrix, (D,), and mean and quantile of those of data without factors, (D,) each."""

    eigenvalues: Matrix
    mean: Matrix
    quantile: Matrix

    @property
    def factors(self) -> int:
        """The number of leading eigenvalues that exceed the quantile."""
        below = np.flatnonzero(self.eigenvalues <= self.quantile)
        return int(below[0]) if len(below) else len(self.eigenvalues)


def parallel(rows: Matrix, *, draws: int, quantile: float, null: NullData, seed: int) -> Parallel:
    """Horn's (1965) comparison. Data without factors have the rows, columns and gaps of the given ones.

    Args:
        rows: (N, D), NaN where missing. Correlations are of the pairs of observed entries.
        draws: data sets without factors. quantile: of their eigenvalues, in (0, 1).
        null: "normal": independent normals. "permuted": the given columns, each shuffled by itself, which keeps their
            distributions, such as those of items with few steps.

    >>> g = np.random.default_rng(0)
    >>> rows = g.normal(size=(300, 1)) + g.normal(size=(300, 6))
    >>> parallel(rows, draws=20, quantile=0.95, null="normal", seed=0).factors
    1
    """
    random = np.random.default_rng(seed)
    gaps = np.isnan(rows)
    sizes = []
    for _ in range(draws):
        if null == "normal":
            drawn = random.normal(size=rows.shape)
            drawn[gaps] = np.nan
        else:
            drawn = _shuffled(rows, gaps, random)
        sizes.append(_eigenvalues(drawn))
    return Parallel(_eigenvalues(rows), np.mean(sizes, axis=0), np.quantile(sizes, quantile, axis=0))


def _shuffled(rows: Matrix, gaps: Matrix, random: np.random.Generator) -> Matrix:
    """The observed entries of each column in random order."""
    shuffled = rows.copy()
    for column, missing in zip(shuffled.T, gaps.T, strict=True):
        column[~missing] = random.permutation(column[~missing])
    return shuffled


def _eigenvalues(rows: Matrix) -> Matrix:
    """Of the correlations of pairs of observed entries, largest first."""
    seen = ~np.isnan(rows)
    centred = np.where(seen, rows - np.nanmean(rows, axis=0), 0.0)
    pairs = seen.T.astype(float) @ seen
    spread = np.sqrt((centred**2).sum(0) / np.diag(pairs))
    matrix = centred.T @ centred / np.maximum(pairs, 1) / np.outer(spread, spread)
    return np.linalg.eigvalsh(matrix)[::-1]
