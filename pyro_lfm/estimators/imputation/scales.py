"""Scales on which a mixture of factors reads columns: standardised numbers, or the normal scores of their ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Numbers: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

# A share of entries at the smallest or largest value from which the column is censored there, such as a dark pixel.
_ATOM = 0.05
# Columns with fewer different values keep their scale: ranks say little about them.
_DISTINCT = 8
# Values at which a curve of normal scores is kept, so that a fit does not hold the rows.
_KNOTS = 100


class Scale(Protocol):
    """A change of units of each column, fitted to rows with missing entries."""

    def encode(self, rows: Numbers) -> Numbers:
        """Rows (N, D) in the units of the data, on the scale of the model."""

    def decode(self, column: int, values: Numbers) -> Numbers:
        """Values of one column, of any shape, back in the units of the data."""


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean 0 and variance 1. Codes of labels, 0 or 1, stay as they are.

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
    def of(cls, rows: Numbers, labels: Mask) -> Standard:
        """The scale of rows (N, D), NaN where missing. labels: True for the codes of labels, (D,)."""
        seen = ~np.isnan(rows)
        count = seen.sum(0).clip(1)
        center = np.where(seen, rows, 0.0).sum(0) / count
        unit = np.sqrt((np.where(seen, rows - center, 0.0) ** 2).sum(0) / count)
        # The rounding of the mean of a constant column is no spread.
        unit = np.where(unit > 1e-12 * abs(center), unit, 0.0)
        center, unit = np.where(labels, 0.0, center), np.where(labels, 1.0, unit)
        low = np.where(seen, rows, np.inf).min(0)
        high = np.where(seen, rows, -np.inf).max(0)
        at_low, at_high = (
            ((rows == end).sum(0) >= _ATOM * count) & (unit > 0) & ~labels for end in (low, high)
        )
        return cls(center, unit, np.where(at_low, low, -np.inf), np.where(at_high, high, np.inf))

    def encode(self, rows: Numbers) -> Numbers:
        return (rows - self.center) / np.where(self.unit > 0, self.unit, 1.0)

    def decode(self, column: int, values: Numbers) -> Numbers:
        return np.clip(self.center[column] + self.unit[column] * values, self.low[column], self.high[column])


@dataclass(frozen=True, eq=False)
class NormalScores:
    """The normal quantile of each value's rank, as in a Gaussian copula; linear between the values that occurred.

    Columns with fewer than 8 different values are standardised instead. A value with at least one entry in 20 is an
    interval of quantiles: it is read as the mean of the interval, and the whole interval is decoded to it. Decoded values
    lie within those that occurred.

    Attributes:
        standard: the scale of columns with few values.
        curves: for each other column the quantiles and the values that they stand for.

    Source: Liu, Lafferty and Wasserman (2009), "The nonparanormal"; Hoff (2007) for the intervals.

    >>> scale = NormalScores.of(np.exp(np.linspace(-2, 2, 101))[:, None], np.array([False]))
    >>> scale.encode(np.array([[1.0]])).round(2) + 0.0
    array([[0.]])
    """

    standard: Standard
    curves: Mapping[int, Curve]

    @classmethod
    def of(cls, rows: Numbers, labels: Mask) -> NormalScores:
        """The scale of rows (N, D), NaN where missing. labels: True for the codes of labels, (D,)."""
        curves = {}
        for k, column in enumerate(rows.T):
            present = column[~np.isnan(column)]
            if len(np.unique(present)) >= _DISTINCT:
                curves[k] = Curve.of(present)
        return cls(Standard.of(rows, labels), curves)

    def encode(self, rows: Numbers) -> Numbers:
        out = self.standard.encode(rows)
        for k, curve in self.curves.items():
            out[:, k] = np.where(
                np.isnan(rows[:, k]), np.nan, np.interp(rows[:, k], curve.values, curve.scores)
            )
        return out

    def decode(self, column: int, values: Numbers) -> Numbers:
        curve = self.curves.get(column)
        if curve is None:
            return self.standard.decode(column, values)
        return curve.decode(values)


@dataclass(frozen=True, eq=False)
class Curve:
    """Values and their normal scores, both increasing, and the quantiles that are decoded to each value.

    Attributes:
        values, scores: (V,). low, high: the ends of each value's interval of quantiles, equal but for piles of values.
    """

    values: Numbers
    scores: Numbers
    low: Numbers
    high: Numbers

    @classmethod
    def of(cls, present: Numbers) -> Curve:
        """The curve of a column's observed entries, at 100 of their values and at all piles."""
        values, counts = np.unique(present, return_counts=True)
        share = counts / len(present)
        end = np.minimum(np.cumsum(share), 1.0)
        low, high = norm.ppf(np.maximum(end - share, 0.0)), norm.ppf(end)
        middle = norm.ppf(end - share / 2)
        pile = share >= _ATOM
        scores = np.where(pile, (norm.pdf(low) - norm.pdf(high)) / share, middle)
        even = np.linspace(0, len(values) - 1, min(_KNOTS, len(values))).round().astype(int)
        kept = np.union1d(even, np.flatnonzero(pile))
        low, high = np.where(pile, low, middle), np.where(pile, high, middle)
        return cls(values[kept], scores[kept], low[kept], high[kept])

    def decode(self, quantiles: Numbers) -> Numbers:
        """The values of quantiles, of any shape."""
        ends = np.stack([self.low, self.high], 1).ravel()
        finite = np.isfinite(ends)
        return np.interp(quantiles, ends[finite], np.repeat(self.values, 2)[finite])


SCALES: dict[str, Callable[[Numbers, Mask], Scale]] = {
    "standard": Standard.of,
    "normal scores": NormalScores.of,
}
