"""Rows that came as a DataFrame or a Series, given back as such with their gaps filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from pyro_lfm.data.schema import Columns


def refilled(container: Any, columns: Columns, values: Tensor, missing: Tensor) -> Any:
    """A copy in which missing cells hold numbers or labels, and all others what they held, in their own types.

    Args:
        container: a pandas DataFrame, its columns in any order, or Series.
        columns: of the values, in their order.
        values, missing: (N, D) or (N,).
    """
    numbers, gaps = values.cpu().numpy(), missing.cpu().numpy()
    if container.ndim == 1:
        return _column(container, columns, numbers.reshape(-1), gaps.reshape(-1))
    numbers, gaps = numbers.reshape(len(numbers), -1), gaps.reshape(len(gaps), -1)
    made = container.copy()
    for place, name in enumerate(columns.names or ()):
        if gaps[:, place].any():
            made[name] = _column(container[name], columns, numbers[:, place], gaps[:, place])
    return made


def _column(series: Any, columns: Columns, numbers: np.ndarray, gaps: np.ndarray) -> Any:
    """A column with its gaps filled: labels by labels, whole numbers by whole ones."""
    from pandas.api import types

    filled = series.copy()
    if not gaps.any():
        return filled
    cells: Any = numbers[gaps]
    if columns.labels is not None:
        cells = [columns.labels[int(code)] for code in cells]
    elif types.is_bool_dtype(series.dtype):
        cells = cells.round().astype(bool)
    elif types.is_integer_dtype(series.dtype) or hasattr(series, "cat"):
        cells = cells.round().astype(np.int64)
    else:
        cells = cells.astype(series.dtype)
    filled.iloc[np.flatnonzero(gaps)] = cells
    return filled
