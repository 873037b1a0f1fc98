"""The variance that factors explain, by squared loadings and by codes, side by side: for ``FactorSolution``."""

from __future__ import annotations

import numpy as np

from pyro_lfm.factor_analysis.matrices import Matrix


def variance_table(loadings: Matrix, uniquenesses: Matrix, correlations: Matrix) -> dict[str, Matrix]:
    """Variance by factor, and of all together in the last entry, (K + 1,) each, for columns of variance one.

    - "SS loadings": diag(Φ Λᵀ Λ), the variance of all columns that a factor explains; with correlated factors, the share
      of what they explain together that is counted to it. They add up to the sum of the communalities.
    - "Proportion Var", "Cumulative Var": the same over D, and added up.
    - "Proportion Explained": the same over the sum of the communalities.
    - "R² of codes": 1 − E‖x − λ_k f̂_k‖² / D with f̂_k = E[f_k | x], what ``lfm.evaluate.variance_explained`` estimates. The
      codes are computed from the same x, so they follow some of its noise: this number flatters, and exceeds the
      proportion of variance where factors are poorly determined.
    - "R² of scores": of a factor with its regression score, ρ² = diag(Φ Λᵀ Σ⁻¹ Λ Φ); far below one, the scores are not to be
      used for single rows (factor indeterminacy). The last entry is NaN.

    >>> loadings = np.array([[0.8], [0.6]])
    >>> table = variance_table(loadings, np.array([0.36, 0.64]), np.eye(1))
    >>> table["Proportion Var"], table["R² of codes"].round(2)
    (array([0.5, 0.5]), array([0.65, 0.65]))
    """
    dim = len(loadings)
    structure = loadings @ correlations
    implied = structure @ loadings.T + np.diag(uniquenesses)
    squares = np.einsum("dk,dk->k", structure, loadings)
    # B = Φ Λᵀ Σ⁻¹ gives the codes f̂ = B x.
    codes = np.linalg.solve(implied, structure).T
    known = np.einsum("kd,dk->k", codes, structure)
    alone = (2 * squares - (loadings**2).sum(0) * known) / dim
    fitted = loadings @ codes
    together = (2 * np.trace(fitted @ implied) - np.trace(fitted @ implied @ fitted.T)) / dim
    total = squares.sum()
    return {
        "SS loadings": np.append(squares, total),
        "Proportion Var": np.append(squares, total) / dim,
        "Cumulative Var": np.append(np.cumsum(squares), total) / dim,
        "Proportion Explained": np.append(squares / total, 1.0)
        if total
        else np.full(len(squares) + 1, np.nan),
        "R² of codes": np.append(alone, together),
        "R² of scores": np.append(known, np.nan),
    }
