"""The imputers of scikit-learn as methods for whole tables, for ``benchmark_imputation.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (IterativeImputer is behind it)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer


@dataclass(frozen=True)
class Imputed:
    """A filled table, with the draws (S, N, D) of its numbers where the method has a distribution."""

    values: pd.DataFrame
    draws: np.ndarray | None = None


def numeric(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if not isinstance(frame[name].dtype, pd.CategoricalDtype)]


def with_codes(frame: pd.DataFrame, drop: int) -> pd.DataFrame:
    """Numbers on the scale of mean 0 and variance 1, and a column of 0 and 1 for each label after the first ``drop``."""
    parts = {}
    for name in frame:
        column = frame[name]
        if name in numeric(frame):
            parts[name] = (column - column.mean()) / (column.std(ddof=0) or 1.0)
        else:
            for label in column.cat.categories[drop:]:
                parts[name, label] = (column == label).astype(float).where(column.notna())
    return pd.DataFrame(parts)


def by_codes(imputer: Callable[[int], SimpleImputer | KNNImputer | IterativeImputer], drop: int = 0):
    """A method of scikit-learn for whole tables, on standardised numbers and codes of labels."""

    def run(frame: pd.DataFrame, seed: int) -> Imputed:
        codes = with_codes(frame, drop)
        filled = pd.DataFrame(
            imputer(seed).fit_transform(codes.to_numpy(copy=True)), columns=list(codes), index=frame.index
        )
        values = frame.copy()
        for name in frame:
            column = frame[name]
            if name in numeric(frame):
                own = filled[name] * (column.std(ddof=0) or 1.0) + column.mean()
            else:
                labels = column.cat.categories
                shares = np.stack([filled[name, label] for label in labels[drop:]], 1)
                if drop:
                    shares = np.column_stack([1 - shares.sum(1), shares])
                best = shares.argmax(1)
                own = pd.Series(labels[best], index=frame.index)
            values[name] = column.where(column.notna(), own)
        return Imputed(values)

    return run


def forest(features: float | str) -> Callable[[pd.DataFrame, int], Imputed]:
    def imputer(seed: int) -> IterativeImputer:
        trees = RandomForestRegressor(20, max_features=features, random_state=seed)
        return IterativeImputer(trees, max_iter=5, random_state=seed, keep_empty_features=True)

    return by_codes(imputer, drop=1)


RIVALS: dict[str, Callable[[pd.DataFrame, int], Imputed]] = {
    "mean": by_codes(lambda seed: SimpleImputer(keep_empty_features=True)),
    "k-NN": by_codes(lambda seed: KNNImputer(keep_empty_features=True)),
    "Bayesian ridge": by_codes(
        lambda seed: IterativeImputer(random_state=seed, keep_empty_features=True), drop=1
    ),
    "forest, √D": forest("sqrt"),
    "forest": forest(1.0),
}
