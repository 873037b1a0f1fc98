"""The data sets on which factor analysis is compared with factor_analyzer and statsmodels."""

import numpy as np


def questionnaire(rows=500, seed=0):
    """Twelve items of six points: three correlated factors of four items each, two items in reverse."""
    random = np.random.default_rng(seed)
    between = np.array([[1.0, 0.4, 0.2], [0.4, 1.0, 0.3], [0.2, 0.3, 1.0]])
    loadings = np.zeros((12, 3))
    loadings[np.arange(12), np.arange(12) // 4] = np.tile([0.8, 0.7, 0.6, 0.5], 3)
    loadings[[3, 10]] *= -1
    noise = np.sqrt(1 - (loadings**2).sum(1))
    values = random.multivariate_normal(np.zeros(3), between, rows) @ loadings.T + noise * random.normal(
        size=(rows, 12)
    )
    return np.clip(np.round(3.5 + 1.2 * values), 1, 6)


def data_sets():
    """{name: (rows, number of factors)}."""
    from sklearn.datasets import load_breast_cancer, load_wine
    from statsmodels.datasets import fair

    return {
        "wine": (load_wine().data, 3),
        # With years married beside age there is a Heywood case, where factor_analyzer stops at a uniqueness of 0.005.
        "fair": (fair.load_pandas().data.drop(columns="yrs_married").to_numpy(dtype=float), 2),
        "breast cancer": (load_breast_cancer().data[:, 10:20], 3),
        "questionnaire": (questionnaire(), 3),
    }
