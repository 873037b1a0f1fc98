"""Scales on which a mixture of factors reads columns: standardised numbers, or the normal scores of their ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Numbers = NDArray[np.float64]

# A share of entries at the smallest or largest value from which the column is censored there, such as a dark pixel.
_ATOM = 0.05
# Columns with fewer different values keep their scale: ranks say little about them.
_DISTINCT = 8


class Scale(Protocol):
    """A change of units of each column, fitted to rows with missing entries."""

    def encode(self, rows: Numbers) -> Numbers:
        """Rows (N, D) in the units of the data, on the scale of the model."""

    def decode(self, column: int, values: Numbers) -> Numbers:
        """Values of one column, of any shape, back in the units of the data."""


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean 0 and variance 1.

    A column of one value is that value. Where at least one entry in 20 has the smallest or the largest value, that value is
    a limit that no imputed entry passes.

    Attributes:
        center, unit: (D,). low, high: the limits (D,), infinite where there is none.
    """

    center: Numbers
    unit: Numbers
    low: Numbers
    high: Numbers

    @classmethod
    def of(cls, rows: Numbers) -> Standard:
        seen = ~np.isnan(rows)
        count = seen.sum(0).clip(1)
        center = np.where(seen, rows, 0.0).sum(0) / count
        unit = np.sqrt((np.where(seen, rows - center, 0.0) ** 2).sum(0) / count)
        # The rounding of the mean of a constant column is no spread.
        unit = np.where(unit > 1e-12 * abs(center), unit, 0.0)
        low = np.where(seen, rows, np.inf).min(0)
        high = np.where(seen, rows, -np.inf).max(0)
        at_low, at_high = (((rows == end).sum(0) >= _ATOM * count) & (unit > 0) for end in (low, high))
        return cls(center, unit, np.where(at_low, low, -np.inf), np.where(at_high, high, np.inf))

    def encode(self, rows: Numbers) -> Numbers:
        return (rows - self.center) / np.where(self.unit > 0, self.unit, 1.0)

    def decode(self, column: int, values: Numbers) -> Numbers:
        return np.clip(self.center[column] + self.unit[column] * values, self.low[column], self.high[column])


@dataclass(frozen=True, eq=False)
class NormalScores:
    """The normal quantile of each value's rank, as in a Gaussian copula; linear between the values that occurred.

    Columns with fewer than 8 different values are standardised instead. Decoded values lie within those that occurred.

    Attributes:
        standard: the scale of those columns.
        scores, values: for each column the quantiles and the values, or None.

    Reference: Liu, Lafferty and Wasserman (2009), "The nonparanormal".

    >>> scale = NormalScores.of(np.exp(np.linspace(-2, 2, 101))[:, None])
    >>> scale.encode(np.array([[1.0]])).round(6) + 0.0
    array([[0.]])
    """

    standard: Standard
    scores: tuple[Numbers | None, ...]
    values: tuple[Numbers | None, ...]

    @classmethod
    def of(cls, rows: Numbers) -> NormalScores:
        scores: list[Numbers | None] = []
        values: list[Numbers | None] = []
        for column in rows.T:
            present = column[~np.isnan(column)]
            distinct, counts = np.unique(present, return_counts=True)
            if len(distinct) < _DISTINCT:
                scores.append(None)
                values.append(None)
                continue
            middle = (np.cumsum(counts) - counts / 2) / len(present)
            scores.append(norm.ppf(middle))
            values.append(distinct)
        return cls(Standard.of(rows), tuple(scores), tuple(values))

    def encode(self, rows: Numbers) -> Numbers:
        out = self.standard.encode(rows)
        for k, (scores, values) in enumerate(zip(self.scores, self.values, strict=True)):
            if scores is not None and values is not None:
                out[:, k] = np.where(np.isnan(rows[:, k]), np.nan, np.interp(rows[:, k], values, scores))
        return out

    def decode(self, column: int, values: Numbers) -> Numbers:
        scores, known = self.scores[column], self.values[column]
        if scores is None or known is None:
            return self.standard.decode(column, values)
        return np.interp(values, scores, known)


SCALES: dict[str, Any] = {"standard": Standard.of, "normal scores": NormalScores.of}
