"""How much a column varies given the other columns of its table, which counts cannot do less than; for ``recognise``."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# The rows and columns that are looked at, the principal components that predict, and the levels of a label that count.
_ROWS, _COLUMNS, _COMPONENTS, _LEVELS = 2000, 100, 10, 20
# A regression that leaves less than 1/50 of the variance is not looked for.
_LEAST_LEFT = 50.0


@dataclass(frozen=True)
class Spread:
    """Variance of a column given the others, as counts of the same means would have it.

    Attributes:
        dispersion: the mean of (x − μ)² / μ, over a regression's means μ; at least 1 for counts.
        gain: log-likelihood of that dispersion over that of Poisson counts, nats; 0 if it is not below 1.
    """

    dispersion: float
    gain: float


@dataclass(frozen=True, eq=False)
class OtherColumns:
    """The columns of a frame as predictors of each other."""

    frame: pd.DataFrame

    def spread_given(self, name: Hashable, x: np.ndarray) -> Spread:
        """The dispersion of numbers from 0 around their linear regression on the other columns.

        A regression that misses part of the dependence only raises it, so that counts do not appear less dispersed.

        Args:
            name: of the column.
            x: its values, (N,), missing ones NaN.
        """
        x = x[self._places]
        seen = ~np.isnan(x)
        y = x[seen]
        mean, variance = float(y.mean()), float(y.var())
        predictors = np.concatenate(
            [self._encoded[other] for other in self._encoded if other != name] or [np.empty((len(x), 0))], 1
        )
        if (
            len(y) < 20
            or not predictors.shape[1]
            or not mean < variance * _LEAST_LEFT
            or variance > _LEAST_LEFT * mean
        ):
            return Spread(variance / max(mean, 1e-300), 0.0)
        centred = predictors[seen] - predictors[seen].mean(0)
        most = min(_COMPONENTS, len(y) // 20)
        scores = np.linalg.svd(centred, full_matrices=False)[0][:, :most]
        means = np.maximum(mean + scores @ (scores.T @ (y - mean)), 0.1 * mean)
        free = len(y) - scores.shape[1] - 1
        dispersion = float((np.square(y - means) / means).sum() / free)
        gain = 0.5 * free * (dispersion - 1 - np.log(dispersion)) if 0 < dispersion < 1 else 0.0
        return Spread(dispersion, gain)

    @cached_property
    def _places(self) -> np.ndarray:
        """The rows that are looked at, spread evenly."""
        return np.unique(np.linspace(0, len(self.frame) - 1, min(len(self.frame), _ROWS)).astype(int))

    @cached_property
    def _encoded(self) -> dict[Hashable, np.ndarray]:
        """Columns as numbers of mean 0 and variance 1 or as indicators of labels; missing ones are 0."""
        encoded = {
            name: _encoded(self.frame[name].iloc[self._places]) for name in self.frame.columns[:_COLUMNS]
        }
        return {name: columns for name, columns in encoded.items() if columns.shape[1]}


def _encoded(series: pd.Series) -> np.ndarray:
    from pandas.api import types

    empty = np.empty((len(series), 0))
    if types.is_numeric_dtype(series.dtype) and not types.is_bool_dtype(series.dtype):
        columns = series.to_numpy(dtype=float, na_value=np.nan)[:, None]
    else:
        codes, labels = series.astype(object).factorize()
        if not 1 < len(labels) <= _LEVELS:
            return empty
        columns = np.where(codes[:, None] < 0, np.nan, codes[:, None] == np.arange(len(labels)))
    if not np.isfinite(columns[~np.isnan(columns)]).all() or np.isnan(columns).all():
        return empty
    scale = np.nanstd(columns, 0)
    kept = columns[:, scale > 0]
    return np.nan_to_num((kept - np.nanmean(kept, 0)) / scale[scale > 0])
