"""Remedies in error messages, for columns that hold no real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import sparray

_LABELS = (
    "give labels a factor of their own: c=lfm.Categorical(C), or a lfm.Covariate with "
    "support=constraints.integer_interval(0, C - 1), which take them as they are; or lfm.heterogeneous(frame)"
)


def remedy_for(values: np.ndarray | torch.Tensor | pd.Series | sparray) -> str:
    """A remedy that works for these values."""
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
        return "durations are no numbers: divide them by a unit, as t / numpy.timedelta64(1, 'D') does"
    if hasattr(values, "cat"):
        return f"{_LABELS}; .cat.codes gives their numbers, -1 where missing"
    if _are_numbers(values):
        return "its entries are numbers as text or objects: .astype(float) converts them"
    return f"{_LABELS}; numbers with units or signs in their text must be cleaned first, missing ones written as nan"


def _are_numbers(values: np.ndarray | pd.Series | sparray) -> bool:
    if hasattr(values, "tocsr"):
        return False
    try:
        np.asarray(values).astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True
