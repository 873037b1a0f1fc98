"""``number_of_factors``: how many factors rows support, by parallel analysis, for ``FactorAnalysis(n_components=None)``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wishart

from pyro_lfm.factor_analysis.parallel_analysis import parallel

_DRAWS, _QUANTILE = 50, 0.95


def number_of_factors(rows: NDArray[np.float64], count: float, seed: int) -> int:
    """The number of leading eigenvalues of the correlations above those of independent columns, at least 1 (Horn, 1965).

    Args:
        rows: (N, D) whose columns have mean 0 and variance 1, or are constant; NaN where missing.
        count: the number of rows that they stand for.
    """
    rows = rows[:, np.nanstd(rows, axis=0) > 0]
    dim, degrees = rows.shape[1], int(count) - 1
    if dim < 2 or degrees < dim:
        return 1
    if np.isnan(rows).any():
        return max(1, parallel(rows, draws=_DRAWS, quantile=_QUANTILE, null="normal", seed=seed).factors)
    # Complete rows are known by their moments alone.
    values = np.linalg.eigvalsh(np.corrcoef(rows, rowvar=False))[::-1]
    drawn = wishart(degrees, np.eye(dim)).rvs(_DRAWS, random_state=seed)
    deviations = np.sqrt(np.diagonal(drawn, axis1=1, axis2=2))
    random = np.linalg.eigvalsh(drawn / (deviations[:, :, None] * deviations[:, None, :]))[:, ::-1]
    above = values > np.quantile(random, _QUANTILE, axis=0)
    return max(1, int(above.argmin()))
