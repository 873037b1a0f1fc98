"""Figures that may not be known, as the spread of a single row is not: how they are taken, and how they are written."""

from __future__ import annotations

import torch
from torch import Tensor


def spread(values: Tensor) -> Tensor:
    """The standard deviation over the first dimension; NaN of one value, of which nothing is known.

    >>> spread(torch.tensor([1.0])), spread(torch.tensor([1.0, 3.0]))
    (tensor(nan), tensor(1.4142))
    """
    return values.std(0) if len(values) > 1 else torch.full_like(values[0], torch.nan)


def written(value: float, form: str) -> str:
    """A number in a form of Python's, or a dash as wide where there is none.

    >>> written(2.0, ">6.2f"), written(float("nan"), ">6.2f")
    ('  2.00', '     –')
    """
    width = form.partition(".")[0].lstrip("<>+")
    return f"{value:{form}}" if value == value else f"{'–':>{width or 1}}"
