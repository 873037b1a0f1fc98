"""Arguments of factor analysis as NumPy matrices, checked: loadings, uniquenesses, correlations, names."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Matrix: TypeAlias = NDArray[np.float64]
# A matrix or vector as a user has it.
Numbers: TypeAlias = "ArrayLike | torch.Tensor | DataFrame | Series"


def numbers_of(name: str, value: Numbers, shape: tuple[int | str, ...]) -> Matrix:
    """Finite numbers in double precision.

    Args:
        name: of the argument, for messages.
        shape: the expected sizes; a letter stands for any size of at least one, the same letter for the same size.

    Raises:
        ShapeError, DataError: another shape; entries that are no finite numbers.

    >>> numbers_of("loadings", [[0.5], [0.7]], ("D", "K")).shape
    (2, 1)
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} must be numbers; got {type(value).__name__} with other entries") from None
    sizes: dict[str, int] = {}
    fits = array.ndim == len(shape) and array.size > 0
    for size, wanted in zip(array.shape, shape, strict=False):
        fits &= size == (wanted if isinstance(wanted, int) else sizes.setdefault(wanted, size))
    if not fits:
        words = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
        raise ShapeError(f"{name} must have shape ({words}); got {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name} must be finite; got NaN or infinite entries")
    return array
