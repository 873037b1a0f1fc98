"""Tables filled by scikit-learn: each column regressed on all others, in turn."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (IterativeImputer is behind it)
from sklearn.impute import IterativeImputer

from exact_inference.tables import Table


def iterative_imputer(table: Table, factors: int, budget: int) -> list[np.ndarray]:
    """Bayesian ridge regressions. They have no factors.

    Args:
        budget: rounds over the columns.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of rounds is meant
        filled = IterativeImputer(max_iter=budget, random_state=0).fit_transform(
            np.concatenate(table.values, 1)
        )
    return np.split(filled, np.cumsum([view.shape[1] for view in table.values])[:-1], 1)
