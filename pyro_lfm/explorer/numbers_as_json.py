"""Numbers of answers, rounded to what a page can show, so that they are short and quickly written."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from torch import Tensor

from pyro_lfm.web.refusal import Json

# Significant digits of the largest number of an array, and of a number by itself.
_DIGITS = 6


def short(values: np.ndarray | Tensor) -> list[Json]:
    """The numbers of an array as nested lists, rounded to 6 digits of the largest; null for NaN and infinite ones.

    >>> short(np.array([0.123456789, 1.0, np.nan]))
    [0.12346, 1.0, None]
    """
    numbers = (
        values.detach().cpu().double().numpy()
        if isinstance(values, Tensor)
        else np.asarray(values, np.float64)
    )
    finite = np.isfinite(numbers)
    largest = float(np.abs(numbers[finite]).max()) if finite.any() else 1.0
    decimals = _DIGITS - 1 - (math.floor(math.log10(largest)) if largest > 0 else 0)
    rounded = numbers.round(decimals) if -300 < decimals < 300 else numbers
    if finite.all():
        return cast("list[Json]", rounded.tolist())
    return cast("list[Json]", np.where(finite, rounded, None).tolist())  # type: ignore[call-overload]


def number(value: float) -> float | None:
    """A number in 6 significant digits; None of NaN and infinity.

    >>> number(1234.56789), number(float("nan"))
    (1234.57, None)
    """
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
