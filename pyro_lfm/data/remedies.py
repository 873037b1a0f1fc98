"""What to do with a column that holds no real numbers, by what it holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_LABELS = (
    "labels belong to a factor of their own: c=lfm.Categorical(C), or a lfm.Covariate with "
    "support=constraints.integer_interval(0, C - 1), which take them as they are; or lfm.heterogeneous(frame)"
)


def remedy_for(values: Any) -> str:
    """A way that works for these values: an array, a tensor or a pandas Series."""
    dtype = values.dtype
    if isinstance(dtype, torch.dtype) or getattr(dtype, "kind", "") == "c":
        return "give real and imaginary part as columns of their own, .real and .imag"
    kind = getattr(dtype, "kind", "O")
    if kind == "M":
        return (
            "times are no numbers: give the days since the first of them, "
            "as (t - t.min()) / numpy.timedelta64(1, 'D') does, or leave them out"
        )
    if kind == "m":
        return "spans of time are no numbers: divide them by a unit, as t / numpy.timedelta64(1, 'D') does"
    if hasattr(values, "cat"):
        return f"{_LABELS}; .cat.codes gives their numbers, -1 where missing"
    if _are_numbers(values):
        return "its entries are numbers as text or objects: .astype(float) converts them"
    return f"{_LABELS}; numbers with units or signs in their text must be cleaned first, missing ones written as nan"


def _are_numbers(values: Any) -> bool:
    if hasattr(values, "tocsr"):
        return False
    try:
        np.asarray(values).astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True
