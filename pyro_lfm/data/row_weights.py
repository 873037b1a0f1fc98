"""Weights of rows, checked: ``lfm.fit(weights=)`` reads them here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    from pyro_lfm.data.readers import Table


def row_weights(weights: ArrayLike | Tensor, table: Table) -> Tensor:
    """The weights of the rows of a table, (N,), float64 on the CPU.

    Args:
        weights: a number ≥ 0 for each row, not all 0. A pandas Series must have its rows in the order of the data.

    Raises:
        ShapeError: not one number a row. DataError: a number is negative, infinite or missing, all are 0, or a Series has
            the row labels of the data in another order.

    >>> from pyro_lfm.data.readers import read
    >>> row_weights([1, 2, 0.5], read([[1.0], [2.0], [3.0]], ["x"]))
    tensor([1.0000, 2.0000, 0.5000], dtype=torch.float64)
    """
    rows = len(table)
    values = weights.detach().cpu().numpy() if isinstance(weights, Tensor) else weights
    try:
        result = torch.from_numpy(np.array(values, dtype=np.float64))
    except (TypeError, ValueError):
        raise DataError(
            f"weights must be {rows} numbers, one for each row, none of them missing; got {type(weights).__name__} with "
            "other entries"
        ) from None
    if tuple(result.shape) != (rows,):
        raise ShapeError(f"weights must have shape ({rows},), one for each row; got {tuple(result.shape)}")
    wrong = ~(result.isfinite() & (result >= 0))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"weights must be finite and at least 0; got {float(result[row])!r} for row {row}: give 0 to leave a row out"
        )
    if not float(result.sum()) > 0:
        raise DataError("weights must not all be 0: at least one row must count")
    _check_labels(weights, table)
    return result


def _check_labels(weights: ArrayLike | Tensor, table: Table) -> None:
    """Refuses a Series whose row labels are those of the data in another order."""
    labels = getattr(weights, "index", None)
    if labels is None or not hasattr(labels, "is_unique"):
        return
    for name, container in table.containers.items():
        index = container.index
        if not labels.equals(index) and labels.is_unique and index.is_unique and index.isin(labels).all():
            raise DataError(
                f"weights have the row labels of {name} in another order: give weights.loc[data.index], or an array, as "
                ".to_numpy() makes"
            )
