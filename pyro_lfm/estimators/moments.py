"""``Moments``: count, mean and covariance of complete rows, all that a linear Gaussian model needs of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_lfm.estimators.estimator import Array, blocks

# A column whose standard deviation is below this share of its mean is constant but for rounding.
_CONSTANT = 1e-13


@dataclass(frozen=True)
class Moments:
    """The moments of rows of D columns, in float64.

    Attributes:
        count: the number of rows, or the sum of their weights. mean: (D,).
        scatter: (D, D), the sum of the products of differences from the mean.
    """

    count: float
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Array, weights: NDArray[np.float64] | None = None) -> Moments:
        """The moments of rows (N, D) with weights (N,), which stand for so many equal rows.

        >>> moments = Moments.of(np.array([[1.0], [3.0]]), np.array([1.0, 3.0]))
        >>> moments.count, moments.mean, moments.scatter
        (4.0, array([2.5]), array([[3.]]))
        """
        total = cls(0.0, np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2))
        start = 0
        for block in blocks(rows):
            part = np.ones(len(block)) if weights is None else weights[start : start + len(block)]
            start += len(block)
            count = float(part.sum())
            if count == 0:
                continue
            # As differences from one row: those of a constant column are exactly zero.
            first = block[0].astype(np.float64)
            differences = block - first
            shift = part @ differences / count
            differences -= shift
            total = total.merged(cls(count, first + shift, (differences.T * part) @ differences))
        return total

    def merged(self, other: Moments) -> Moments:
        """The moments of both sets of rows together (Chan, Golub and LeVeque, 1983)."""
        if self.count == 0:
            return other
        count = self.count + other.count
        shift = other.mean - self.mean
        between = np.outer(shift, shift) * (self.count * other.count / count)
        return Moments(
            count, self.mean + shift * (other.count / count), self.scatter + other.scatter + between
        )

    @property
    def scale(self) -> NDArray[np.float64]:
        """The standard deviation of each column (maximum likelihood); 1 for a constant column."""
        deviations = np.sqrt(self.scatter.diagonal() / self.count)
        return np.where(deviations > _CONSTANT * np.abs(self.mean), deviations, 1.0)

    def standing_for(self) -> NDArray[np.float64]:
        """Rows (2D, D) whose mean is zero and whose covariance is that of the rows in units of ``scale``."""
        scale = self.scale
        covariance = self.scatter / self.count / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(covariance)
        rows = (vectors * np.sqrt(values.clip(0) * len(values))).T
        return np.concatenate([rows, -rows])
