"""Factor scores by regression and by Bartlett's method, for complete rows and for rows with gaps."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factor_analysis.matrices import Matrix, Numbers, numbers_of

ScoreMethod: TypeAlias = Literal["regression", "bartlett"]


def score_weights(
    loadings: Numbers,
    uniquenesses: Numbers,
    correlations: Numbers | None = None,
    *,
    method: ScoreMethod = "regression",
    covariance: Numbers | None = None,
) -> Matrix:
    """B, (D, K): the scores of rows z, in the metric of the loadings and about their mean, are z B.

    "regression" (Thurstone, 1935): B = Σ⁻¹ Λ Φ. "bartlett" (1937): B = Ψ⁻¹ Λ (Λᵀ Ψ⁻¹ Λ)⁻¹.

    Args:
        loadings: Λ, (D, K).
        uniquenesses: the diagonal of Ψ, (D,), > 0.
        correlations: Φ, (K, K), of the factors, by default the identity.
        covariance: Σ, (D, D), of the regression. By default that of the model, Λ Φ Λᵀ + Ψ, which makes scores E[f | x].
            psych, factor_analyzer and statsmodels take the correlations of the sample. At the maximum of the likelihood
            both give the same weights.

    Raises:
        DeclarationError: an unknown method.
        ShapeError, DataError: sizes that do not fit, or numbers that are not finite.

    >>> score_weights([[0.8], [0.6]], [0.36, 0.64]).round(4)
    array([[0.6653],
           [0.2807]])
    """
    weight = numbers_of("loadings", loadings, ("D", "K"))
    dim, factors = weight.shape
    noise = numbers_of("uniquenesses", uniquenesses, (dim,))
    between = (
        np.eye(factors)
        if correlations is None
        else numbers_of("correlations", correlations, (factors, factors))
    )
    if method == "bartlett":
        pull = weight / noise[:, None]
        return np.asarray(np.linalg.solve(weight.T @ pull, pull.T).T)
    if method != "regression":
        raise DeclarationError(f'method must be "regression" or "bartlett"; got {method!r}')
    if covariance is not None:
        return np.asarray(np.linalg.solve(numbers_of("covariance", covariance, (dim, dim)), weight @ between))
    # (Φ⁻¹ + Λᵀ Ψ⁻¹ Λ)⁻¹ Λᵀ Ψ⁻¹, which keeps its digits where a uniqueness is near zero.
    pull = weight / noise[:, None]
    return np.asarray(np.linalg.solve(np.linalg.inv(between) + weight.T @ pull, pull.T).T)


def score_rows(
    rows: Matrix, weight: Matrix, noise: Matrix, correlations: Matrix, method: ScoreMethod
) -> Matrix:
    """Scores (N, K) of rows (N, D) less their mean, NaN where missing: rows of one pattern of gaps share their weights.

    >>> gaps = np.array([[1.0, np.nan], [np.nan, np.nan]])
    >>> score_rows(gaps, np.array([[0.8], [0.6]]), np.array([0.36, 0.64]), np.eye(1), "regression")
    array([[0.8],
           [0. ]])
    """
    factors = weight.shape[1]
    patterns, own = np.unique(~np.isnan(rows), axis=0, return_inverse=True)
    scores = np.full((len(rows), factors), np.nan)
    for number, seen in enumerate(patterns):
        at = np.flatnonzero(own.ravel() == number)
        if not seen.any():
            scores[at] = 0.0 if method == "regression" else np.nan
        elif method == "regression" or np.linalg.matrix_rank(weight[seen]) == factors:
            scores[at] = rows[at][:, seen] @ score_weights(
                weight[seen], noise[seen], correlations, method=method
            )
    return scores
