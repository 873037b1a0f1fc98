"""Codes and known factors as checked arrays, and the mutual information between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.inputs import Array

# The fewest rows per label of a discrete factor, on average.
_FEWEST = 10


@dataclass(frozen=True, eq=False)
class Known:
    """A generative factor with a known value in each row.

    Attributes:
        values: (N,), the labels 0, 1, … of a discrete factor, or the numbers of a continuous one.
        levels: (N,), the labels, or the bins of the numbers.
        discrete: whether the values are labels.
    """

    name: str
    values: np.ndarray
    levels: np.ndarray
    discrete: bool


def codes_of(name: str, codes: Array) -> np.ndarray:
    """Codes (N, K) in double precision; ``name`` is that of the argument, for error messages."""
    array = as_array(name, codes)
    if array.ndim != 2 or not array.size:
        raise ShapeError(f"{name} must have shape (N, K), a row per observation; got {array.shape}")
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise DataError(
            f"{name} must be finite numbers; got {array.dtype} with NaN, infinite or other entries"
        )
    return array.astype(np.float64)


def factors_of(factors: Array | Mapping[str, Array], rows: int, bins: int) -> list[Known]:
    """Known factors from a mapping {name: (N,)} or from the columns of (N, F)."""
    if not isinstance(factors, Mapping):
        columns = as_array("factors", factors)
        if columns.ndim != 2:
            raise ShapeError(f"factors must be {{name: (N,)}} or have shape (N, F); got {columns.shape}")
        factors = {f"factor {column}": columns[:, column] for column in range(columns.shape[1])}
    if not factors:
        raise DataError("factors must hold at least one factor; got none")
    return [_known(str(name), as_array(name, values), rows, bins) for name, values in factors.items()]


def _known(name: str, values: np.ndarray, rows: int, bins: int) -> Known:
    if values.shape != (rows,):
        raise ShapeError(
            f"factor {name} must have shape ({rows},), a value per row of codes; got {values.shape}"
        )
    if values.dtype.kind not in "fiubUSO":
        raise DataError(f"factor {name} must hold numbers or labels; got {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"factor {name} must be finite; got NaN or infinite entries: leave those rows out")
    distinct, labels = np.unique(
        values.astype(str) if values.dtype.kind == "O" else values, return_inverse=True
    )
    if len(distinct) < 2:
        raise DataError(f"factor {name} must vary; got one value in all rows: leave the factor out")
    if values.dtype.kind != "f" or len(distinct) <= bins:
        if len(distinct) * _FEWEST > rows:
            raise DataError(
                f"factor {name} must have at least {_FEWEST} rows to a label on average; got {len(distinct)} labels in "
                f"{rows} rows: give floats of more values than there are bins if it is continuous"
            )
        return Known(name, labels, labels, True)
    values = values.astype(np.float64)
    return Known(name, values, binned(values, bins), False)


def as_array(name: str, values: Array) -> np.ndarray:
    """A tensor, array or list as an array."""
    try:
        array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except (TypeError, ValueError):
        raise ShapeError(
            f"{name} must be a tensor or an array of rows; got a {type(values).__name__}, which is neither"
        ) from None
    if array.ndim == 0:
        raise ShapeError(
            f"{name} must be a tensor or an array of rows; got {type(values).__name__}, without rows"
        )
    return array


def binned(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each value, for ``bins`` equally wide bins between the smallest and the largest value.

    >>> binned(np.array([0.0, 0.4, 1.0, 2.0]), 2)
    array([0, 0, 1, 1])
    """
    low, span = values.min(), np.ptp(values)
    if span <= 1e-12 * max(1.0, abs(low)):
        return np.zeros(len(values), dtype=int)
    return np.minimum(((values - low) / span * bins).astype(int), bins - 1)


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """I(a; b) of two columns of levels 0, 1, …, in nats: Σ p(a, b) log p(a, b) / p(a) p(b), p from their counts.

    For independent columns the estimate is above 0 on average, by about (A - 1)(B - 1) / 2N (Miller, 1955).

    >>> round(mutual_information(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), 4)
    0.6931
    """
    shape = first.max() + 1, second.max() + 1
    joint = np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).reshape(shape) / len(first)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return max(0.0, float((joint[seen] * np.log(joint[seen] / apart[seen])).sum()))


def standardised(codes: np.ndarray) -> np.ndarray:
    """Codes minus their means, divided by their standard deviations. A constant code becomes 0."""
    scale = codes.std(0)
    constant = scale <= 1e-12 * np.maximum(1.0, np.abs(codes).max(0))
    return np.where(constant, 0.0, (codes - codes.mean(0)) / np.where(constant, 1.0, scale))
