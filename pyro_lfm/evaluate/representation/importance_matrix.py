"""DCI: scores of how one-to-one a matrix of importances is, and the matrix from boosted trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.evaluate.representation.codes import Known, as_array


@dataclass(frozen=True, eq=False)
class DCI:
    """Disentanglement, completeness and informativeness.

    Attributes:
        disentanglement: Σᵢ ρᵢ Dᵢ, each code weighted by its share of the importance.
        completeness: the mean of the Cⱼ.
        informativeness: the mean over factors of the accuracy (discrete) or R² (continuous) of predictions on held-out rows.
            None where only importances are known.
        per_code: Dᵢ, (K,).
        per_factor: Cⱼ, (F,).
        importance: R, (K, F).

    >>> import pyro_lfm as lfm
    >>> scores = lfm.evaluate.representation.dci([[1.0, 0.0], [0.0, 1.0]])  # each code predicts one factor
    >>> scores.disentanglement, scores.completeness, scores.informativeness
    (1.0, 1.0, None)
    """

    disentanglement: float
    completeness: float
    informativeness: float | None
    per_code: torch.Tensor
    per_factor: torch.Tensor
    importance: torch.Tensor


def dci(importance: Array, *, informativeness: float | None = None) -> DCI:
    """DCI scores of a matrix R of importances: Rᵢⱼ is the importance of code i in predicting factor j.

    Dᵢ = 1 - H(Rᵢ. / Σⱼ Rᵢⱼ) / log F is 1 where a code matters to one factor only. Cⱼ = 1 - H(R.ⱼ / Σᵢ Rᵢⱼ) / log K is 1
    where a factor is predicted from one code only. A code that matters to no factor has weight 0 and Dᵢ = 0. A factor that
    no code predicts has Cⱼ = 0. With one factor Dᵢ = 1, and with one code Cⱼ = 1.

    Args:
        importance: R ≥ 0, (K, F).
        informativeness: that of the predictor whose importances R are.

    Raises:
        ShapeError, DataError: R is no matrix, or not finite and ≥ 0.

    Source: Eastwood and Williams (2018), section 2.

    >>> scores = dci([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    >>> round(scores.disentanglement, 4), scores.completeness  # (1 - ln 2 / ln 3 + 1) / 2
    (0.6845, 1.0)
    """
    matrix = as_array("importance", importance)
    if matrix.ndim != 2 or not matrix.size:
        raise ShapeError(f"importance must have shape (K, F), codes by factors; got {matrix.shape}")
    if matrix.dtype.kind not in "fiu" or not np.isfinite(matrix).all() or (matrix < 0).any():
        raise DataError("importance must be finite and ≥ 0: take absolute values of signed weights")
    matrix = matrix.astype(np.float64)
    rows, columns = _concentration(matrix), _concentration(matrix.T)
    total = matrix.sum()
    weights = matrix.sum(1) / total if total else np.zeros(len(matrix))
    return DCI(
        float(weights @ rows),
        float(columns.mean()),
        informativeness,
        *(torch.from_numpy(array) for array in (rows, columns, matrix)),
    )


def _concentration(matrix: np.ndarray) -> np.ndarray:
    """1 - H / log n of each row of n shares; 0 for a row of zeros."""
    total = matrix.sum(1, keepdims=True)
    shares = matrix / np.where(total, total, 1.0)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)
    most = np.log(matrix.shape[1]) or 1.0
    return np.where(total[:, 0] > 0, 1 - entropy / most, 0.0)


def boosted(codes: np.ndarray, factors: list[Known], train: np.ndarray, test: np.ndarray, seed: int) -> DCI:
    """DCI with importances from boosted trees: the decrease of the loss by splits on each code."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    columns, scores = [], []
    for factor in factors:
        trees = (GradientBoostingClassifier if factor.discrete else GradientBoostingRegressor)(
            random_state=seed
        )
        trees.fit(codes[train], factor.values[train])
        # Rounding can make the gain of a useless split negative.
        columns.append(trees.feature_importances_.clip(0))
        scores.append(trees.score(codes[test], factor.values[test]))
    return dci(np.stack(columns, 1), informativeness=float(np.mean(scores)))
